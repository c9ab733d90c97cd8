"""Writes an agent's output folder, regular files and folders only, from an archive that is not trusted.

The tree is written into `workspace.partial`, which is renamed to `workspace` at the end, so half a copy never looks complete.
Every path is opened part by part from a descriptor of that folder. No link is ever made or followed in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agent_preflight.sandboxes.kept_output import (
    IS_FILE,
    NO_FILES,
    NO_FOLDER,
    WORKSPACE,
    KeptOutput,
    OutputPolicy,
    set_workspace_aside,
)
from agent_preflight.sandboxes.tar_stream import TarStream

PARTIAL = "workspace.partial"
LISTED_MAX = 100
"""Entries that are named in a summary; all are counted."""
LISTED_CHARS_MAX = 200
SMALL_BYTES = 2**20
"""Files up to this size are written even if the disk is nearly full: an answer is small."""
FREE_BYTES_MIN = 128 * 2**20
"""If less of the disk is free, all trials of a run are ended: their ends need a few MiB, and agents write more meanwhile.

So a copy must leave this much.
"""
LINK, FILE, FOLDER = "link", "file", "folder"
_KINDS = dict.fromkeys(tarfile.REGULAR_TYPES, FILE) | {
    tarfile.DIRTYPE: FOLDER,
    tarfile.SYMTYPE: LINK,
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}
"""What an entry is, for a person."""
_OURS = (b"budget.txt",)
_NO_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_ZEROS = bytes(2**20)
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _PartialFile(msgspec.Struct):
    """A file that is being written."""

    fd: int
    path: tuple[bytes, ...]
    entry: tarfile.TarInfo
    left: int


class OutputFolder:
    """Writes one archive's tree into a trial's folder. One thread at a time.

    Args:
        folder: The trial's.
        policy: The limits.
        free_bytes_min: A file of more than a mebibyte that would leave less room than this is not begun.

    Attributes:
        root: The kind of the archive's first entry, which is the folder itself; None before it.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, policy: OutputPolicy, free_bytes_min: int = FREE_BYTES_MIN) -> None:
        self.root: str | None = None
        self._folder, self._policy, self._free_bytes_min = folder, policy, free_bytes_min
        self._partial = folder / PARTIAL
        self._stream = TarStream()
        self._prefix: tuple[bytes, ...] = ()
        self._mounts = {tuple(os.fsencode(mount).split(b"/")) for mount in policy.mounts}
        self._made, self._files, self._bytes = 0, 0, 0
        self._forget_skipped()
        self._writing: _PartialFile | None = None
        self._full = False
        _remove(self._partial)
        self._partial.mkdir(mode=0o700)
        self._top = os.open(self._partial, _FOLDER_FLAGS)

    def again(self) -> None:
        """Begin with another archive; the first held a link, and nothing of it was kept."""
        self._stream, self.root = TarStream(), None
        self._forget_skipped()

    def take(self, data: bytes) -> bool:
        """Write what these bytes of the archive hold; returns whether more can add anything.

        Raises:
            TarError: They do not continue an archive.
            OSError: They could not be written.
        """
        for item in self._stream.feed(data):
            if isinstance(item, tarfile.TarInfo):
                self._begin(item)
            elif self._writing is not None:
                self._write(self._writing, item)
            if self._full:
                break
        return not self._full and not self._stream.ended

    def finish(self, limit: str | None = None) -> KeptOutput:
        """Put the tree in its place and return what is in it.

        Args:
            limit: What ended the archive before its end.

        Raises:
            OSError: It could not be put there; the tree is removed.
        """
        if limit is not None:
            self._limits[limit] = None
        if self._writing is not None:
            self._drop(self._writing, limit or "archive")
        self._close()
        if not self._made:
            _remove(self._partial)
            return self._kept(None, _why_nothing(self.root, limit))
        place = self._folder / WORKSPACE
        set_workspace_aside(self._folder)
        self._partial.rename(place)
        return self._kept(str(place), "")

    def discard(self) -> None:
        """Remove what was written."""
        if self._writing is not None:
            os.close(self._writing.fd)
            self._writing = None
        self._close()
        _remove(self._partial)

    def _kept(self, path: str | None, why: str) -> KeptOutput:
        skipped, limits = tuple(self._skipped), tuple(self._limits)
        return KeptOutput(path, self._files, self._bytes, skipped, self._skipped_count, limits, why)

    def _forget_skipped(self) -> None:
        self._skipped: list[dict[str, str]] = []
        self._skipped_count = 0
        self._limits: dict[str, None] = {}

    def _skip(self, path: tuple[bytes, ...], why: str, limit: str | None = None) -> None:
        self._skipped_count += 1
        if len(self._skipped) < LISTED_MAX:
            name = b"/".join(path).decode("utf-8", "backslashreplace") or "."
            self._skipped.append({"path": name[:LISTED_CHARS_MAX], "why": why})
        if limit is not None:
            self._limits[limit] = None

    def _close(self) -> None:
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def _begin(self, entry: tarfile.TarInfo) -> None:
        name, kind = entry.name.encode("utf-8", "surrogateescape"), _KINDS.get(entry.type, "unknown kind")
        parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
        if self.root is None:
            self.root, self._prefix = kind, parts
            if kind != FOLDER:
                self._skip((), kind)
            return
        path = parts[len(self._prefix) :]
        if self.root != FOLDER or parts[: len(self._prefix)] != self._prefix or not path:
            self._skip(parts, "name")
        elif not all(map(_is_name, path)):
            self._skip(path, "name")
        elif (mount := next((path[:n] for n in range(1, len(path) + 1) if path[:n] in self._mounts), None)) is not None:
            if mount == path:
                self._skip(path, "mount")
        elif kind == LINK and path == _OURS:
            pass
        elif kind not in (FILE, FOLDER):
            self._skip(path, kind)
        elif len(path) > self._policy.depth_max:
            self._skip(path, "depth", "depth")
        elif self._made >= self._policy.files_max:
            self._skip(path, "files", "files")
            self._full = True
        elif self._bytes + entry.size > self._policy.bytes_max:
            self._skip(path, "bytes", "bytes")
        else:
            self._make(path, entry)

    def _make(self, path: tuple[bytes, ...], entry: tarfile.TarInfo) -> None:
        try:
            with self._opened(path[:-1]) as parent:
                if entry.isdir():
                    os.mkdir(path[-1], 0o700, dir_fd=parent)
                else:
                    self._check_room(entry.size)
                    fd = os.open(path[-1], _FILE_FLAGS, 0o600, dir_fd=parent)
                    self._writing = _PartialFile(fd, path, entry, entry.size)
        except FileNotFoundError:
            self._skip(path, "folder")  # which was left out
        except (FileExistsError, NotADirectoryError):
            self._skip(path, "duplicate")
        except OSError as exc:
            if exc.errno not in _NO_NAME:
                raise
            self._skip(path, "name")
        else:
            self._made += 1
            if self._writing is not None and not entry.size:
                self._end(self._writing)

    @contextmanager
    def _opened(self, path: tuple[bytes, ...]) -> Iterator[int]:
        """Open a folder of the tree, part by part; no part may be a link."""
        fd = os.dup(self._top)
        try:
            for part in path:
                outer, fd = fd, os.open(part, _FOLDER_FLAGS, dir_fd=fd)
                os.close(outer)
            yield fd
        finally:
            os.close(fd)

    def _check_room(self, size: int) -> None:
        if size > SMALL_BYTES and shutil.disk_usage(self._top).free - size < self._free_bytes_min:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _write(self, writing: _PartialFile, piece: memoryview) -> None:
        """Write a piece of a file; one that is all zeros becomes a hole."""
        writing.left -= len(piece)
        if bytes(piece) == _ZEROS[: len(piece)]:
            os.lseek(writing.fd, len(piece), os.SEEK_CUR)
        else:
            while piece:
                piece = piece[os.write(writing.fd, piece) :]
        if not writing.left:
            self._end(writing)

    def _end(self, writing: _PartialFile) -> None:
        """Give a whole file its size, its mode and its time. What it was allowed beyond its owner's rights is dropped."""
        entry, self._writing = writing.entry, None
        try:
            os.ftruncate(writing.fd, entry.size)
            os.fchmod(writing.fd, 0o700 if entry.mode & 0o100 else 0o600)
            with contextlib.suppress(OSError, OverflowError):
                os.utime(writing.fd, (entry.mtime, entry.mtime))
        finally:
            os.close(writing.fd)
        self._files += 1
        self._bytes += entry.size

    def _drop(self, writing: _PartialFile, why: str) -> None:
        """Remove a file of which only a part came, because nobody could tell it from a whole one."""
        self._writing = None
        os.close(writing.fd)
        with self._opened(writing.path[:-1]) as parent:
            os.unlink(writing.path[-1], dir_fd=parent)
        self._made -= 1
        self._skip(writing.path, why)


def _why_nothing(root: str | None, limit: str | None) -> str:
    if root is None and limit is not None:
        return "the engine cannot read it"
    if root is None:
        return NO_FOLDER
    return NO_FILES if root == FOLDER else IS_FILE


def _is_name(part: bytes) -> bool:
    """Whether a name can be a file's here; control characters would reach a terminal."""
    return part != b".." and not any(byte < 0x20 or byte == 0x7F for byte in part)


def _remove(path: Path) -> None:
    """Remove what a copy left, whatever it is."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
