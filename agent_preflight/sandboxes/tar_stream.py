"""Reads a tar archive that is not trusted, as its bytes arrive and in bounded memory. Pure.

`tarfile` reads each header here, but not the archive: its own reader takes an extended header of any size into memory, keeps
every entry that it has read, follows sparse maps, and asks for bytes where ours arrive. Here only one block and one extended
header of at most `EXTENSION_BYTES_MAX` are in memory, whatever the archive says.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator

EXTENSION_BYTES_MAX = 2**20
"""A path has at most 4 KiB and an attribute 64 KiB; the engine writes no more than a few of them."""
SIZE_MAX = 2**63 - 1
_RECORD = re.compile(rb"(\d{1,7}) ")
_IGNORED = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)


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

    def feed(self, data: bytes) -> Iterator[tarfile.TarInfo | memoryview]:
        """Yield each entry that begins in these bytes, and after each file its content, piece by piece.

        An entry's name is as the archive says: it may be absolute, lead upwards, and have any byte.

        Raises:
            TarError: These bytes do not continue an archive, or one of a kind that is not read here. Nothing more can be read.
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
                padding = min(self._padding, len(rest))
                self._padding, rest = self._padding - padding, rest[padding:]
            else:
                missing = tarfile.BLOCKSIZE - len(self._block)
                self._block += rest[:missing]
                rest = rest[missing:]
                if len(self._block) == tarfile.BLOCKSIZE and (entry := self._header(bytes(self._block))) is not None:
                    yield entry

    def _header(self, block: bytes) -> tarfile.TarInfo | None:
        self._block.clear()
        self._extension = None
        if not any(block):
            self._zero_blocks += 1
            self.ended = self._zero_blocks == 2
            return None
        self._zero_blocks = 0
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if entry.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            if entry.size > EXTENSION_BYTES_MAX:
                raise tarfile.ReadError(f"an extended header has {entry.size} bytes")
            self._extension = (entry.type, bytearray())
        elif entry.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a file is stored as a sparse map")
        elif entry.type not in _IGNORED:
            return self._entry(entry)
        self._expect(entry.size, is_content=False)
        return None

    def _entry(self, entry: tarfile.TarInfo) -> tarfile.TarInfo:
        records, self._records = self._records, {}
        if (path := records.get(b"path")) is not None:
            entry.name = path.decode("utf-8", "surrogateescape")
        if (size := records.get(b"size")) is not None:
            entry.size = int(size) if re.fullmatch(rb"\d{1,19}", size) else -1
        if not entry.isreg() and entry.type in tarfile.SUPPORTED_TYPES:
            entry.size = 0  # a link's size is its target's
        self._expect(entry.size, is_content=entry.isreg())
        return entry

    def _expect(self, size: int, *, is_content: bool) -> None:
        if not 0 <= size <= SIZE_MAX:
            raise tarfile.ReadError("a size is negative or too large")
        self._left, self._padding, self._is_content = size, -size % tarfile.BLOCKSIZE, is_content

    def _extend(self, piece: memoryview) -> None:
        assert self._extension is not None
        kind, content = self._extension
        content += piece
        if self._left:
            return
        if kind == tarfile.GNUTYPE_LONGNAME:
            self._records[b"path"] = bytes(content).rstrip(b"\0")
        else:
            self._records |= _pax_records(bytes(content))


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    """Return path and size of an extended header, whose records are each `LENGTH KEY=VALUE` and a line's end."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        length = _RECORD.match(content, at)
        end = at + int(length[1]) if length is not None else 0
        if length is None or not length.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise tarfile.ReadError("an extended header is not in pax format")
        key, _, value = content[length.end() : end - 1].partition(b"=")
        if key in (b"path", b"size"):  # others are not kept: their number has no limit
            records[key] = value
        at = end
    return records
