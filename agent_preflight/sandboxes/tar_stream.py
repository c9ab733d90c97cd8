"""Reads a tar archive that is not trusted, as its bytes arrive and in bounded memory. Pure.

The standard library's `tarfile` was not taken for this: it reads an extended header of any size into memory, keeps every entry
that it has seen, follows sparse maps, and asks for bytes where ours arrive. What is held here is one block and one extended
header of at most `EXTENSION_BYTES_MAX`, whatever the archive says.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

BLOCK_BYTES = 512
EXTENSION_BYTES_MAX = 2**20
"""A path has at most 4 KiB and an attribute 64 KiB; the engine writes no more than a few of them."""
SIZE_MAX = 2**63 - 1
_ZEROS = bytes(BLOCK_BYTES)
_OCTAL = re.compile(rb"[0-7]*")
_RECORD = re.compile(rb"(\d{1,7}) ")
_DECIMAL = re.compile(rb"\d{1,19}")


class TarError(ValueError):
    """The bytes are no tar archive, or one of a kind that is not read here."""


class TarKind(Enum):
    """What an entry is; the values are the words for a person."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    HARD_LINK = "hard link"
    DEVICE = "device"
    PIPE = "pipe"
    OTHER = "unknown kind"


_KINDS = {
    **dict.fromkeys((b"0", b"\0", b"7"), TarKind.FILE),
    b"5": TarKind.FOLDER,
    b"2": TarKind.LINK,
    b"1": TarKind.HARD_LINK,
    **dict.fromkeys((b"3", b"4"), TarKind.DEVICE),
    b"6": TarKind.PIPE,
}
_PATH, _LONG_NAME, _IGNORED = b"x", b"L", (b"g", b"K")
_SPARSE = b"S"


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One entry of an archive.

    Attributes:
        name: As it stands there: it may be absolute, lead upwards, hold any byte.
        kind: What it is.
        size: Bytes of content that follow; 0 for all but files.
        mode: The mode's lowest twelve bits.
        mtime_s: When it was changed, seconds since the epoch.
    """

    name: bytes
    kind: TarKind
    size: int
    mode: int
    mtime_s: int


class TarStream:
    """Takes the bytes of an archive, in pieces of any size.

    Attributes:
        ended: The archive's end has been read; what follows it is ignored.
    """

    def __init__(self) -> None:
        self.ended = False
        self._block = bytearray()
        self._left = 0
        self._padding = 0
        self._zero_blocks = 0
        self._is_content = False
        self._extension: tuple[bytes, bytearray] | None = None
        self._records: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> Iterator[TarEntry | memoryview]:
        """Yield each entry that begins in these bytes, and after each file its content, piece by piece.

        Raises:
            TarError: They do not go on as an archive does; nothing more can be read.
        """
        rest = memoryview(data)
        while rest and not self.ended:
            if self._left:
                piece, rest = rest[: self._left], rest[self._left :]
                self._left -= len(piece)
                if self._is_content:
                    yield piece
                elif self._extension is not None:
                    self._extend(piece)
            elif self._padding:
                passed = min(self._padding, len(rest))
                self._padding, rest = self._padding - passed, rest[passed:]
            else:
                wanted = BLOCK_BYTES - len(self._block)
                self._block += rest[:wanted]
                rest = rest[wanted:]
                if len(self._block) == BLOCK_BYTES and (entry := self._header(bytes(self._block))) is not None:
                    yield entry

    def _header(self, block: bytes) -> TarEntry | None:
        self._block.clear()
        if block == _ZEROS:
            self._zero_blocks += 1
            self.ended = self._zero_blocks == 2
            return None
        self._zero_blocks = 0
        _check_sum(block)
        flag, size = block[156:157], _number(block[124:136])
        if flag in (_PATH, _LONG_NAME):
            if size > EXTENSION_BYTES_MAX:
                raise TarError(f"an extended header of {size} bytes")
            self._extension = (flag, bytearray())
            self._expect(size, is_content=False)
            return None
        if flag in _IGNORED:
            self._expect(size, is_content=False)
            return None
        if flag == _SPARSE:
            raise TarError("a sparse map")
        return self._entry(block, flag, size)

    def _entry(self, block: bytes, flag: bytes, size: int) -> TarEntry:
        records, self._records = self._records, {}
        kind = _KINDS.get(flag, TarKind.OTHER)
        if (record := records.get(b"size")) is not None:
            size = _decimal(record)
        has_content = kind in (TarKind.FILE, TarKind.OTHER)
        self._expect(size if has_content else 0, is_content=kind is TarKind.FILE)
        mode, mtime_s = _number_or_zero(block[100:108]) & 0o7777, _number_or_zero(block[136:148])
        return TarEntry(records.get(b"path", _name(block)), kind, size if kind is TarKind.FILE else 0, mode, mtime_s)

    def _expect(self, size: int, *, is_content: bool) -> None:
        self._left, self._padding, self._is_content = size, -size % BLOCK_BYTES, is_content

    def _extend(self, piece: memoryview) -> None:
        assert self._extension is not None
        flag, content = self._extension
        content += piece
        if self._left:
            return
        self._extension = None
        if flag == _LONG_NAME:
            self._records[b"path"] = bytes(content).rstrip(b"\0")
        else:
            self._records |= _pax_records(bytes(content))


def _check_sum(block: bytes) -> None:
    checksum = _number(block[148:156])
    if checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise TarError("a header whose checksum is wrong")


def _number(field: bytes) -> int:
    """A number in octal digits, or in base 256 where its highest bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if value > SIZE_MAX:  # a negative number is one too
            raise TarError("a number that is negative or too large")
        return value
    digits = field.strip(b" \0")
    if not _OCTAL.fullmatch(digits):
        raise TarError("a number that is none")
    return int(digits or b"0", 8)


def _number_or_zero(field: bytes) -> int:
    """A number on which nothing depends; 0 for what is none, such as a time before 1970."""
    try:
        return _number(field)
    except TarError:
        return 0


def _decimal(text: bytes) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) > SIZE_MAX:
        raise TarError("a size that is none")
    return int(text)


def _name(block: bytes) -> bytes:
    name, prefix = block[:100].split(b"\0")[0], block[345:500].split(b"\0")[0]
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    """Return the records of an extended header, each `LENGTH KEY=VALUE` and a line's end."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        length = _RECORD.match(content, at)
        end = at + int(length[1]) if length is not None else 0
        if length is None or not length.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise TarError("an extended header that is none")
        key, _, value = content[length.end() : end - 1].partition(b"=")
        records[key] = value
        at = end
    return records
