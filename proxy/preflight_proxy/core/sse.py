"""Cuts a byte stream into server-sent events and keeps their bytes.

The relay forwards `Event.raw` and reads `Event.data`. All `raw` together are always exactly the input, with blank lines, comments
and a last event that is cut off.

Source: html.spec.whatwg.org, section "Server-sent events" (line ends LF, CRLF or CR); comments and both line ends as
OpenRouter sends them: openrouter.ai/docs/api_reference/streaming, 2026-10.
"""

from __future__ import annotations

import re

import msgspec

SSE_EVENT_BYTES_MAX = 64 * 2**20
"""A larger event is relayed without being read, so that one event cannot fill the memory (M16 (usage in an answer))."""

_END = re.compile(rb"(?:\r\n?+|\n)(?:\r\n?+|\n)")  # possessive: the halves of one CRLF are never two line ends
_LF_END = re.compile(rb"\n\n")  # the same where there is no CR, and found much faster
_LINE_END = re.compile(rb"\r\n|\r|\n")
_END_BYTES_MAX = 4
_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One block of the stream.

    Attributes:
        raw: Its exact bytes, the blank line included.
        name: Its event name; empty if it has none.
        data: Its data lines, joined by LF; empty if it has none (comments alone).
        skipped: True if these are bytes of an event too large to be read.
    """

    raw: bytes
    name: str = ""
    data: bytes = b""
    skipped: bool = False


class Decoder:
    """Cuts a stream into events.

    Attributes:
        oversized: True once an event passed `max_event_bytes`; what that event said is unknown.

    Args:
        max_event_bytes: Largest event that is read.
    """

    def __init__(self, max_event_bytes: int = SSE_EVENT_BYTES_MAX) -> None:
        self._max_event_bytes = max_event_bytes
        self._buffer = bytearray()
        self._searched = 0  # no event ends within this many first bytes of the buffer
        self._skipping = False
        self.oversized = False

    @property
    def pending(self) -> bytes:
        """The bytes at the end of the input that are not a whole event yet."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes; return the events that they complete, in order."""
        data: bytes | bytearray = chunk
        if self._buffer:  # seldom: most chunks are whole events, and are not copied
            self._buffer += chunk
            data = self._buffer
        events: list[Event] = []
        start = 0
        for match in (_END if b"\r" in data else _LF_END).finditer(data, self._searched):
            end = match.end()
            if end == len(data) and data.endswith(b"\r"):
                break  # an LF may yet belong to it
            raw = bytes(data[start:end])
            events.append(Event(raw, skipped=True) if self._skipping else parse(raw))
            self._skipping = False
            start = end
        if data is chunk:
            if start == len(chunk):
                return events
            self._buffer += chunk[start:]
        else:
            del self._buffer[:start]
        self._searched = max(0, len(self._buffer) - _END_BYTES_MAX + 1)
        self._give_up_on_large(events)
        return events

    def flush(self) -> list[Event]:
        """Take the end of the input; return the last event, if the input did not end in a blank line."""
        if not self._buffer:
            return []
        raw = bytes(self._buffer)
        event = Event(raw, skipped=True) if self._skipping else parse(raw)
        self._buffer.clear()
        self._searched, self._skipping = 0, False
        return [event]

    def _give_up_on_large(self, events: list[Event]) -> None:
        if not self._skipping and len(self._buffer) <= self._max_event_bytes:
            return
        self._skipping = self.oversized = True
        kept = self._searched
        if kept:
            events.append(Event(bytes(self._buffer[:kept]), skipped=True))
            del self._buffer[:kept]
            self._searched = 0


def parse(raw: bytes) -> Event:
    """Read one block: its name and data."""
    line = raw.rstrip(b"\r\n")
    if line.startswith(b"data: ") and b"\n" not in line and b"\r" not in line:
        return Event(raw, data=line[6:])
    name, data = b"", []
    text = raw.removeprefix(_BOM)
    for line in _LINE_END.split(text) if b"\r" in text else text.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(raw, name.decode("utf-8", "replace"), b"\n".join(data))
