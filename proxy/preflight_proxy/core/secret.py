"""A string that must not be printed: the type of all keys and tokens in both halves."""

import hashlib
import hmac
import re
from typing import NoReturn, Self

FINGERPRINT_CHARS = 8
"""Enough of the digest to distinguish keys in a log, too little to find a key by it."""


class Secret:
    """A key or token that only ``reveal`` returns.

    ``repr``, ``str``, formatting, JSON encoders and pickle never yield the value. It is no dataclass on purpose:
    encoders and ``dataclasses.asdict`` walk those field by field.

    Args:
        value: the secret text.

    Attributes:
        fingerprint: The first 8 hex digits of the SHA-256 of the value: safe to log, the same in every process.
    """

    __slots__ = ("__value", "fingerprint")

    def __init__(self, value: str) -> None:
        self.__value = value
        self.fingerprint = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:FINGERPRINT_CHARS]

    def reveal(self) -> str:
        """Return the secret text, for the one place that must send it."""
        return self.__value

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


class Redaction:
    """Removes one secret from JSON text, also where characters of it are written as JSON escapes, once or several times over.

    Any other encoding of it stays, and so does a part of the secret.

    Args:
        secret: The text to remove, ASCII; nothing is removed if it is empty.
    """

    SHOWN = b"[key]"
    """Replaces the secret."""

    def __init__(self, secret: str) -> None:
        self._plain = secret.encode()

    def apply(self, text: bytes) -> bytes:
        """Return the text without the secret."""
        if not self._plain:
            return text
        text = text.replace(self._plain, self.SHOWN)
        if b"\\u00" not in text:
            return text
        return re.sub(b"".join(_spellings(byte) for byte in self._plain), self.SHOWN, text)

    def found_in(self, text: bytes) -> bool:
        """True if the secret is in the text."""
        return self.apply(text) != text


def _spellings(byte: int) -> bytes:
    """A pattern for one character, as it is or as an escape; its backslash is doubled where JSON stands in a JSON string."""
    hexadecimal = "".join(f"[{digit}{digit.upper()}]" for digit in f"{byte:02x}")
    return rb"(?:%b|\\+u00%b)" % (re.escape(bytes([byte])), hexadecimal.encode())
