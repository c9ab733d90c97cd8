"""A string that must not be printed: the type of all keys and tokens in both halves."""

import hashlib
import hmac
import re
from functools import lru_cache
from typing import NoReturn, Self

FINGERPRINT_CHARS = 8
"""Enough of the digest to distinguish keys in a log, too little to find a key by it."""


class Secret:
    """A key or token that only ``reveal`` returns.

    ``repr``, ``str``, formatting, JSON encoders and pickle never yield the value. It is no dataclass on purpose:
    encoders and ``dataclasses.asdict`` walk those field by field.

    It removes itself from JSON text, also where characters of it are written as JSON escapes, once or several times over. Any other
    encoding of it stays, and so does a part of it.

    Args:
        value: the secret text.

    Attributes:
        fingerprint: The first 8 hex digits of the SHA-256 of the value: safe to log, the same in every process.
    """

    __slots__ = ("__raw", "__value", "fingerprint")
    SHOWN = b"[key]"
    """Replaces the secret."""

    def __init__(self, value: str) -> None:
        self.__value = value
        self.__raw = value.encode(errors="surrogatepass")
        self.fingerprint = hashlib.sha256(self.__raw).hexdigest()[:FINGERPRINT_CHARS]

    def reveal(self) -> str:
        """Return the secret text, for the one place that must send it."""
        return self.__value

    def redact(self, text: bytes) -> bytes:
        """Return the text without the secret; the text as it is if the secret is empty."""
        if not self.__raw:
            return text
        if self.__raw in text:
            text = text.replace(self.__raw, self.SHOWN)
        return _spellings(self.__raw).sub(self.SHOWN, text) if b"\\u00" in text else text

    def is_in(self, text: bytes) -> bool:
        """True if the secret is in the text."""
        return self.redact(text) != text

    def __repr__(self) -> str:
        return f"<secret {self.fingerprint}>"

    def __format__(self, format_spec: str) -> str:
        return format(repr(self), format_spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__raw, other.__raw)

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


@lru_cache(64)
def _spellings(plain: bytes) -> re.Pattern[bytes]:
    """A pattern for a text with any of its characters as escapes; the backslash is doubled where JSON stands in a JSON string."""
    return re.compile(b"".join([rb"(?:%b|\\+u00(?i:%02x))" % (re.escape(bytes([byte])), byte) for byte in plain]))
