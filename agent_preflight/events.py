"""The events that agents print, one JSON object a line, and the log that keeps them.

Any other output becomes an event of type `raw`, so no output can stop the reader: no text, no other JSON, no bad UTF-8 and
no line without an end.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self

from agent_preflight.artifacts import json_object

__all__ = ["LINE_BYTES_MAX", "RAW_CHARS_MAX", "EventLogger", "Lines", "from_agent", "parse_line"]

LINE_BYTES_MAX = 8 * 2**20
"""The longest line that is read as an event, in bytes. Real agents print whole files in one line, but none this large."""

RAW_CHARS_MAX = 64 * 2**10
"""Characters that are kept of a longer line: enough to see what it was."""

OURS = ("timestamp", "elapsed_s")
"""Fields that the log writes itself. An agent's own are kept as `agent_timestamp` and `agent_elapsed_s`."""


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the event of one line of output. Never raises.

    - A JSON object is the event, with its own fields. Without a text in `type` it gets the type `raw`; a `type` that is no
      text is kept as `agent_type`.
    - Anything else is `{"type": "raw", "data": TEXT}`.
    - A line longer than `LINE_BYTES_MAX` is the same, with its first `RAW_CHARS_MAX` characters and `"truncated": True`.

    Args:
        line: The line, with or without its end.

    Examples:
        >>> parse_line(b'{"type": "agent_end"}')
        {'type': 'agent_end'}
        >>> parse_line(b"warming up")
        {'type': 'raw', 'data': 'warming up'}
    """
    if len(line) > LINE_BYTES_MAX:
        data = line[: RAW_CHARS_MAX * 4].decode(errors="replace")[:RAW_CHARS_MAX]
        return {"type": "raw", "data": data, "truncated": True}
    text = line.decode(errors="replace").strip("\r\n")
    if not text.lstrip(" \t\r\n").startswith(
        "{"
    ):  # no JSON object; an exception for each line would cost more than the line
        return {"type": "raw", "data": text}
    try:
        value: dict[str, Any] = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return {"type": "raw", "data": text}
    if isinstance(value.get("type"), str):
        return value
    own = {"agent_type": value.pop("type")} if "type" in value else {}
    return {"type": "raw", **value, **own}


def from_agent(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with `source` set to `"agent"`, so that an agent cannot write a record that looks like the runner's.

    Args:
        event: An event with a `type`. A field `source` of the agent's own is kept as `agent_source`, with one more `agent_` in
            front if it has that name too.
    """
    named = event
    if "source" in event:
        named = {_free_name(name, event) if name == "source" else name: value for name, value in event.items()}
    return {"type": event["type"], "source": "agent", **named}


class Lines:
    """Cuts a stream of bytes into lines. It never holds more than one line of `LINE_BYTES_MAX` bytes.

    Of a longer line the first `LINE_BYTES_MAX` + 1 bytes are returned, so that `parse_line` sees that it was too long.
    """

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes, without their newlines. Blank lines are left out.

        Args:
            chunk: The next bytes of the stream.
        """
        *complete, rest = chunk.split(b"\n")
        if complete and self._partial:
            self._hold(complete[0])
            complete[0] = bytes(self._partial)
            self._partial.clear()
        self._hold(rest)
        return [cut for line in complete if (cut := line[: LINE_BYTES_MAX + 1]) and not cut.isspace()]

    def rest(self) -> list[bytes]:
        """Return what followed the last newline, as a list of one line or none. Call it when the stream has ended."""
        line = bytes(self._partial)
        self._partial.clear()
        return [line] if line.strip() else []

    def _hold(self, part: bytes) -> None:
        self._partial += part[: LINE_BYTES_MAX + 1 - len(self._partial)]


class EventLogger:
    """Appends events to a file, one JSON object a line. A context manager, which closes the file.

    Each record is handed to the operating system when `log` or `record` returns; nothing is buffered here.

    Args:
        path: The file. Missing parent folders are made.
        start_time: The moment from which `elapsed_s` counts; the present by default. Without a time zone it is local time.
        include_elapsed_s: Whether records carry `elapsed_s`.

    Raises:
        OSError: The file cannot be opened for appending.
    """

    def __init__(self, path: str | Path, *, start_time: datetime | None = None, include_elapsed_s: bool = True) -> None:
        self.path = Path(path)
        self.start_time = start_time or datetime.now(UTC)
        self.include_elapsed_s = include_elapsed_s
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)  # what cannot be written now is not kept for later

    def log(self, event_type: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
        """Append one record.

        Args:
            event_type: Its `type`.
            **fields: Its other fields: any JSON values. Other values are written as their `str()`.

        Raises:
            OSError: The record cannot be written.
        """
        self.record({"type": event_type, **fields})

    def record(self, event: Mapping[str, Any]) -> int:
        """Append one event, as `record_all` does.

        Args:
            event: The event; without a `type` it is `raw`.

        Returns:
            The size of the record in bytes, newline included.

        Raises:
            OSError: The record cannot be written.
        """
        return self.record_all((event,))

    def record_all(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Append events with all their fields, by one write and with one time.

        Each record begins with `timestamp` (UTC, ISO 8601) and `type`, and ends with `elapsed_s` (seconds, 3 decimals). Fields of
        these names in the event are kept as `agent_timestamp` and `agent_elapsed_s`. Of an event that JSON cannot hold the type is
        written, and `unreadable`: the name of the error.

        Args:
            events: The events; one without a `type` is `raw`.

        Returns:
            The size of the records in bytes, newlines included.

        Raises:
            OSError: The records cannot be written.
        """
        now = datetime.now(UTC)
        timestamp, elapsed_s = now.isoformat(), round((now - _aware(self.start_time)).total_seconds(), 3)
        lines = []
        for event in events:
            named = event
            if "timestamp" in event or "elapsed_s" in event:
                named = {_free_name(name, event) if name in OURS else name: value for name, value in event.items()}
            record = {"timestamp": timestamp, "type": "raw", **named}
            if self.include_elapsed_s:
                record["elapsed_s"] = elapsed_s
            lines.append(_encode(record))
        lines.append("")
        data = "\n".join(lines).encode()
        self._file.write(data)
        return len(data)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @staticmethod
    def read(path: str | Path) -> list[dict[str, Any]]:
        """Return the records of a log, oldest first. Blank and corrupt lines are skipped; a missing file has no records.

        Args:
            path: The file.

        Raises:
            OSError: The file is there and cannot be read.
        """
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError:
            return []
        return list(filter(None, map(json_object, content.splitlines())))


def _free_name(name: str, event: Mapping[str, Any]) -> str:
    free = f"agent_{name}"
    while free in event:
        free = f"agent_{free}"
    return free


def _encode(record: dict[str, Any]) -> str:
    try:
        return _ENCODER.encode(record)
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


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_ENCODER = json.JSONEncoder(default=str)
