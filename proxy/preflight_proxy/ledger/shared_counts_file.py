"""The file in which a user's runs share token counts: SQLite, with a key beside it, both for their owner alone.

It holds counts and the names of models, never text: texts and runs are named by HMAC-SHA256 under the key. Every failure means that
nothing is learnt from it; each kind is logged once.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated

import msgspec
import structlog

PREAMBLE_S_MAX = 30 * 86400.0
FACTOR_S_MAX = 7 * 86400.0
ROWS_MAX = 4096
"""Rows of each table, the newest; about 200 bytes each. Older ones are deleted."""
RUNS_MAX = 8
"""Rows of one preamble, the newest: a user's hundred runs a day with the same agent must not push out all others."""
SHARED_BUSY_S = 1.0
"""How long a transaction waits for that of another run. Only a thread waits, and it tries again later."""
KEY_BYTES = 32
NAME_BYTES = 16
VERSION = 1
"""Of the tables, in `user_version`. A file of a later version is left as it is, and nothing is learnt."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS preambles (
        upstream TEXT NOT NULL, digest BLOB NOT NULL, run BLOB NOT NULL, tokens INTEGER NOT NULL, at_s REAL NOT NULL,
        PRIMARY KEY (upstream, digest, run))""",
    """CREATE TABLE IF NOT EXISTS factors (
        upstream TEXT NOT NULL, model TEXT NOT NULL, tag TEXT NOT NULL, run BLOB NOT NULL, factor INTEGER NOT NULL,
        at_s REAL NOT NULL, PRIMARY KEY (upstream, model, tag, run))""",
)
_PUT_TEXT = """INSERT INTO preambles VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET tokens = min(tokens, excluded.tokens), at_s = excluded.at_s"""
_PUT_ENDPOINT = """INSERT INTO factors VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET factor = max(factor, excluded.factor), at_s = excluded.at_s"""
_DELETE_TEXT = "DELETE FROM preambles WHERE upstream = ? AND digest = ?"
_DELETE_ENDPOINT = "DELETE FROM factors WHERE upstream = ? AND model = ? AND tag = ?"
_READ_TEXTS = """SELECT digest, run, tokens, at_s FROM preambles
    WHERE upstream = ? AND abs(at_s - ?) < ? ORDER BY at_s DESC LIMIT ?"""
_READ_ENDPOINTS = """SELECT model, tag, run, factor, at_s FROM factors
    WHERE upstream = ? AND abs(at_s - ?) < ? ORDER BY at_s DESC LIMIT ?"""
_KEEP_RUNS = """DELETE FROM preambles WHERE rowid IN (SELECT rowid FROM (
    SELECT rowid, row_number() OVER (PARTITION BY upstream, digest ORDER BY at_s DESC) AS place FROM preambles) WHERE place > ?)"""

_KEEP_NEW = """DELETE FROM {0} WHERE rowid NOT IN (
    SELECT rowid FROM {0} WHERE abs(at_s - ?) < ? ORDER BY at_s DESC LIMIT ?)"""
_CARRIED = """SELECT upstream, model, tag, factor, at_s FROM (
    SELECT *, row_number() OVER (PARTITION BY upstream, model, tag ORDER BY factor DESC) AS place
    FROM factors WHERE abs(at_s - ?) < ?) WHERE place = 2 ORDER BY upstream, model, tag"""

ModelTag = tuple[str, str]
"""An endpoint: model and tag."""
Note = tuple[bytes | ModelTag, int | None]
"""The tokens of a text, by its digest, or the factor of an endpoint; None deletes what all runs noted of it."""

_Count = Annotated[int, msgspec.Meta(gt=0)]
TextRow = tuple[bytes, bytes, _Count, float]
"""Name of the text, name of the run, tokens, when."""
FactorRow = tuple[ModelTag, bytes, _Count, float]
"""Endpoint, name of the run, factor in thousandths, when."""
Rows = tuple[list[TextRow], list[FactorRow]]

_log = structlog.get_logger("preflight_proxy.shared_counts")


class CarriedFactor(msgspec.Struct, frozen=True):
    """A factor that counts for every run, because two runs saw it.

    Attributes:
        upstream, model, tag: The endpoint.
        factor: In thousandths.
        at_s: When the second of them saw it.
    """

    upstream: str
    model: str
    tag: str
    factor: int
    at_s: float


def name_of(key: bytes, kind: bytes, of: bytes) -> bytes:
    """Return the name under which the file has a text or a run."""
    return hmac.digest(key, kind + b":" + of, "sha256")[:NAME_BYTES]


class SharedCountsFile:
    """The file, as one run reads and writes it. Used from one thread.

    A rollback journal, no write-ahead log: home folders are on NFS, where no processes share the memory that such a log needs; and
    writes are rare. A process that is killed leaves a journal, from which the next one restores the file.

    Args:
        path: The file. Its folder and its key are made with it.
        upstream: Origin of the API that billed.
        run: Whatever names the run.

    Attributes:
        key: The key, once the file was opened.
    """

    def __init__(self, path: Path, upstream: str, run: str) -> None:
        self._path = path
        self._upstream = upstream
        self._run = run
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._failures: set[str] = set()
        self._is_replaced = False
        self.key = b""

    def exchange(self, news: Sequence[Note], now_s: float) -> Rows | None:
        """Write what is new, and return what all runs know. None if either failed; then nothing of it was written."""
        try:
            return self._exchange(news, now_s)
        except (sqlite3.Error, OSError, ValueError) as exc:
            self.close()
            self._report(exc)
            if self._is_replaced or not _is_damaged(exc):
                return None
        self._is_replaced = True
        try:
            self._set_aside()
            return self._exchange(news, now_s)
        except (sqlite3.Error, OSError, ValueError) as exc:
            self.close()
            self._report(exc)
            return None

    def close(self) -> None:
        """Close the file. The next exchange opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _report(self, exc: Exception) -> None:
        kind = getattr(exc, "sqlite_errorname", None) or getattr(exc, "strerror", None) or type(exc).__name__
        if kind not in self._failures:
            self._failures.add(kind)
            _log.warning("shared_counts.failed", path=str(self._path), kind=kind, error=str(exc))

    def _exchange(self, news: Sequence[Note], now_s: float) -> Rows:
        if self._connection is not None and not (self._path.exists() and self._path.lstat().st_ino == self._inode):
            self.close()  # another run has set it aside, or a person has deleted it
        connection = self._connection or self._open()
        if news:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                self._write(connection, news, now_s)
        texts = connection.execute(_READ_TEXTS, (self._upstream, now_s, PREAMBLE_S_MAX, ROWS_MAX)).fetchall()
        endpoints = connection.execute(_READ_ENDPOINTS, (self._upstream, now_s, FACTOR_S_MAX, ROWS_MAX)).fetchall()
        rows: Rows = msgspec.convert((texts, [((model, tag), *rest) for model, tag, *rest in endpoints]), Rows)
        return rows

    def _write(self, connection: sqlite3.Connection, news: Sequence[Note], now_s: float) -> None:
        upstream, run = self._upstream, name_of(self.key, b"run", self._run.encode())
        for key, count in news:
            if isinstance(key, bytes):
                of_text = (upstream, name_of(self.key, b"text", key))
                if count is None:
                    connection.execute(_DELETE_TEXT, of_text)
                else:
                    connection.execute(_PUT_TEXT, (*of_text, run, count, now_s))
            elif count is None:
                connection.execute(_DELETE_ENDPOINT, (upstream, *key))
            else:
                connection.execute(_PUT_ENDPOINT, (upstream, *key, run, count, now_s))
        connection.execute(_KEEP_RUNS, (RUNS_MAX,))
        for table, age_s_max in (("preambles", PREAMBLE_S_MAX), ("factors", FACTOR_S_MAX)):
            connection.execute(_KEEP_NEW.format(table), (now_s, age_s_max, ROWS_MAX))

    def _open(self) -> sqlite3.Connection:
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(folder.resolve(), 0o022)
        self.key = self._read_key()
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _check_private(self._path, 0o077)
        connection = sqlite3.connect(self._path, timeout=SHARED_BUSY_S, isolation_level=None)
        try:
            with connection:  # commits, or undoes it all
                connection.execute("BEGIN IMMEDIATE")
                _make_tables(connection, self.key)
            self._inode = self._path.lstat().st_ino
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _read_key(self) -> bytes:
        """Return the key; make one if there is none, or one of another length. Processes that do so at once agree on one."""
        path = self._path.with_suffix(".key")
        for _ in range(2):
            if not os.path.lexists(path):
                draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
                try:
                    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                    with os.fdopen(descriptor, "wb") as file:
                        file.write(os.urandom(KEY_BYTES))
                    with suppress(FileExistsError):
                        os.link(draft, path)  # unlike a rename it replaces nothing
                finally:
                    draft.unlink(missing_ok=True)
            _check_private(path, 0o077)
            if len(key := path.read_bytes()) == KEY_BYTES:
                return key
            self._report(ValueError(f"{path} is no key, and is replaced"))
            path.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be made")

    def _set_aside(self) -> None:
        """Rename a damaged file. SQLite deletes a journal that it leaves, because the new file is empty."""
        self._path.replace(self._path.with_name(self._path.name + ".damaged"))


def carried_factors(path: Path, now_s: float) -> list[CarriedFactor]:
    """Return the factors that count for every run, of all upstreams, sorted; none where the file cannot be read."""
    try:
        with closing(_reader(path)) as connection:
            return [CarriedFactor(*row) for row in connection.execute(_CARRIED, (now_s, FACTOR_S_MAX))]
    except FileNotFoundError:
        return []
    except (sqlite3.Error, OSError) as exc:
        _log.error("shared_counts.unreadable", path=str(path), error=str(exc))
        return []


def clear_factors(path: Path, model: str, tag: str, upstream: str) -> bool:
    """Delete what runs noted of an endpoint of an upstream; True if there was anything.

    Raises:
        OSError: The file cannot be written; it is as before.
    """
    if not path.exists():
        return False
    try:
        with closing(_reader(path)) as connection:
            return connection.execute(_DELETE_ENDPOINT, (upstream, model, tag)).rowcount > 0
    except sqlite3.Error as exc:
        raise OSError(str(exc)) from exc


def _reader(path: Path) -> sqlite3.Connection:
    """Open a file that exists; for writing too, because it may have to be restored from the journal of a killed process."""
    _check_private(path, 0o077)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=SHARED_BUSY_S, isolation_level=None)


def _make_tables(connection: sqlite3.Connection, key: bytes) -> None:
    """Make the tables that are missing. Rows under another key are deleted: nobody can look them up any more.

    Raises:
        OSError: A later version made them.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise OSError("it was written by a newer version of this program")
    for table in _TABLES:
        connection.execute(table)
    key_id = int.from_bytes(name_of(key, b"key", b"")[:3], "big") + 1
    if connection.execute("PRAGMA application_id").fetchone() != (key_id,):
        connection.execute("DELETE FROM preambles")
        connection.execute("DELETE FROM factors")
        connection.execute(f"PRAGMA application_id = {key_id}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _check_private(path: Path, mode: int) -> None:
    """Refuse what is no regular file or folder of this user's own, or gives others a permission in `mode`.

    Raises:
        PermissionError: It is so.
        OSError: There is none.
    """
    status = path.lstat()
    is_usual = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    if not is_usual or status.st_uid != os.geteuid() or status.st_mode & mode:
        raise PermissionError(f"{path} is a link, belongs to another user, or is open to others")


def _is_damaged(exc: Exception) -> bool:
    if isinstance(exc, sqlite3.Error):
        return getattr(exc, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return isinstance(exc, msgspec.ValidationError)
