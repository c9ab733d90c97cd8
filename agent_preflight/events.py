"""What agents print, line by line, as events; and the log that keeps them.

An agent prints one JSON object per line. Whatever else it prints becomes an event of type ``raw``, so that no output
can stop the reader: not noise, not JSON of another kind, not bad UTF-8, not a line without end.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

__all__ = ["LINE_BYTES_MAX", "RAW_CHARS_MAX", "EventLogger", "Lines", "from_agent", "parse_line"]

LINE_BYTES_MAX = 8 * 2**20
"""A longer line is no event: real agents print whole files in one line, but not more than this."""

RAW_CHARS_MAX = 64 * 2**10
"""How much of an oversized line is kept: enough to see what it was."""

OURS = ("timestamp", "elapsed_s")
"""Fields that the log writes itself; an agent's own are kept as ``agent_timestamp`` and ``agent_elapsed_s``."""


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the event of one line of output; never raises.

    A JSON object is the event, with its own fields; one without a textual ``type`` gets the type ``raw`` (a ``type``
    that is no text is kept as ``agent_type``). All else is ``{"type": "raw", "data": <the text>}``, with
    ``truncated`` where the line was longer than `LINE_BYTES_MAX`.
    """
    if len(line) > LINE_BYTES_MAX:
        data = line[: RAW_CHARS_MAX * 4].decode(errors="replace")[:RAW_CHARS_MAX]
        return {"type": "raw", "data": data, "truncated": True}
    text = line.decode(errors="replace").strip("\r\n")
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return {"type": "raw", "data": text}
    if not isinstance(value, dict):
        return {"type": "raw", "data": text}
    if isinstance(value.get("type"), str):
        return value
    own = {"agent_type": value.pop("type")} if "type" in value else {}
    return {"type": "raw", **value, **own}


def from_agent(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with ``source`` set to ``"agent"``: what an agent says, also of its own, is never the harness's record.

    An agent's own field of that name is kept as ``agent_source``, or with one more ``agent_`` where it has that name too.
    """
    named = {_free_name(name, event) if name == "source" else name: value for name, value in event.items()}
    return {"type": named.pop("type"), "source": "agent", **named}


class Lines:
    """Cuts a stream of chunks into lines; holds at most one line of `LINE_BYTES_MAX` bytes, whatever comes.

    Of a longer line the first `LINE_BYTES_MAX` + 1 bytes are handed on, by which `parse_line` knows it.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes, without their ends; blank ones are left out."""
        *complete, rest = chunk.split(b"\n")
        lines = []
        for part in complete:
            self._hold(part)
            lines.append(bytes(self._held))
            self._held.clear()
        self._hold(rest)
        return [line for line in lines if line.strip()]

    def rest(self) -> list[bytes]:
        """Return what came after the last newline, once the stream has ended: a line, or none."""
        line = bytes(self._held)
        self._held.clear()
        return [line] if line.strip() else []

    def _hold(self, part: bytes) -> None:
        self._held += part[: LINE_BYTES_MAX + 1 - len(self._held)]


class EventLogger:
    """Appends events to a file, one JSON object a line, each on disk's way when `log` returns.

    Args:
        path: the file; parents are made.
        start_time: what ``elapsed_s`` counts from; now, where not given.
        include_elapsed_s: whether records carry ``elapsed_s``.
    """

    def __init__(self, path: str | Path, *, start_time: datetime | None = None, include_elapsed_s: bool = True) -> None:
        self.path = Path(path)
        self.start_time = start_time or datetime.now(UTC)
        self.include_elapsed_s = include_elapsed_s
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)  # what cannot be written now is not kept for later

    def log(self, event_type: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
        """Append one record of that type."""
        self.record({"type": event_type, **fields})

    def record(self, event: Mapping[str, Any]) -> int:
        """Append one event with whatever fields it has; the log's own time stands beside the agent's.

        Returns:
            The bytes that the record takes.
        """
        now = datetime.now(UTC)
        record = {"timestamp": now.isoformat(), "type": event.get("type", "raw")}
        record |= {
            _free_name(name, event) if name in OURS else name: value for name, value in event.items() if name != "type"
        }
        if self.include_elapsed_s:
            record["elapsed_s"] = round((now - _aware(self.start_time)).total_seconds(), 3)
        line = _encode(record).encode() + b"\n"
        self._file.write(line)
        return len(line)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def read(path: str | Path) -> list[dict[str, Any]]:
        """Return the records of a log; an absent file has none, blank and corrupt lines are passed over."""
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError:
            return []
        return list(filter(None, map(_record_of, content.splitlines())))


def _record_of(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _free_name(name: str, event: Mapping[str, Any]) -> str:
    free = f"agent_{name}"
    while free in event:
        free = f"agent_{free}"
    return free


def _encode(record: dict[str, Any]) -> str:
    try:
        return json.dumps(record, default=str)
    except (ValueError, TypeError, RecursionError) as exc:
        names = ("timestamp", "type", "source", "elapsed_s")
        kept = {name: record[name] for name in names if isinstance(record.get(name), str | float)}
        return json.dumps({**kept, "unreadable": type(exc).__name__})


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.astimezone()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("number out of range")
    return value
