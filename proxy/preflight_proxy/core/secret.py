"""A string that must not be printed: the one type that carries keys and tokens in both halves."""

import hashlib
import hmac
from typing import NoReturn, Self

FINGERPRINT_CHARS = 8
"""Enough of the digest to tell keys apart in a log, far too little to search for one."""


class Secret:
    """A key or token that shows itself only to a caller who says ``reveal``.

    ``repr``, ``str``, formatting, JSON encoders and pickle never yield the value. It is no dataclass on purpose:
    encoders and ``dataclasses.asdict`` walk those field by field.

    Args:
        value: the secret text.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the secret text, for the one place that must send it."""
        return self.__value

    @property
    def fingerprint(self) -> str:
        """The first 8 hex digits of the SHA-256 of the value: safe to log, the same in every process."""
        return hashlib.sha256(self.__value.encode()).hexdigest()[:FINGERPRINT_CHARS]

    def __repr__(self) -> str:
        return f"<secret {self.fingerprint}>"

    def __format__(self, format_spec: str) -> str:
        return format(repr(self), format_spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: it would leave the process")
