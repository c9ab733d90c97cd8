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
_WORDS = re.compile(rb'"(?:content|text|delta|reasoning|thinking|partial_json)":"([^"\\\r\n]*)"')
_NOT_IN_WORDS = re.compile(rb'["\\\r\n]')


class Event(msgspec.Struct, frozen=True, gc=False):
    """One block of the stream.

    Attributes:
        raw: Its exact bytes, the blank line included.
        name: Its event name; empty if it has none.
        data: Its data lines, joined by LF; empty if it has none (comments alone).
        skipped: True if these are bytes of an event too large to be read; they are not parsed.
    """

    raw: bytes
    name: str = ""
    data: bytes = b""
    skipped: bool = False


class Decoder:
    """Cuts a stream into events.

    Attributes:
        pending: The bytes at the end of the input that are not a whole event yet.
        oversized: True once an event passed `max_event_bytes`; what that event said is unknown.

    Args:
        max_event_bytes: Largest event that is read.
    """

    def __init__(self, max_event_bytes: int = SSE_EVENT_BYTES_MAX) -> None:
        self._max_event_bytes = max_event_bytes
        self.pending = bytearray()
        self._searched = 0  # no event ends within this many first bytes of the buffer
        self._skipping = False
        self.oversized = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes; return the events that they complete, in order, unread: `parse` reads one."""
        data: bytes | bytearray = chunk
        if self.pending:  # seldom: most chunks are whole events, and are not copied
            self.pending += chunk
            data = self.pending
        events: list[Event] = []
        start = 0
        for match in (_END if b"\r" in data else _LF_END).finditer(data, self._searched):
            end = match.end()
            if end == len(data) and data.endswith(b"\r"):
                break  # an LF may yet belong to it
            raw = bytes(data[start:end])
            events.append(Event(raw, skipped=self._skipping))
            self._skipping = False
            start = end
        if data is chunk:
            if start == len(chunk):
                return events
            self.pending += chunk[start:]
        else:
            del self.pending[:start]
        self._searched = max(0, len(self.pending) - _END_BYTES_MAX + 1)
        self._give_up_on_large(events)
        return events

    def flush(self) -> list[Event]:
        """Take the end of the input; return the last event, if the input did not end in a blank line."""
        if not self.pending:
            return []
        raw = bytes(self.pending)
        event = Event(raw, skipped=self._skipping)
        self.pending.clear()
        self._searched, self._skipping = 0, False
        return [event]

    def _give_up_on_large(self, events: list[Event]) -> None:
        if not self._skipping and len(self.pending) <= self._max_event_bytes:
            return
        self._skipping = self.oversized = True
        kept = self._searched
        if kept:
            events.append(Event(bytes(self.pending[:kept]), skipped=True))
            del self.pending[:kept]
            self._searched = 0


class Outline:
    """What an event is beside the model's words. Most events of a stream have the same, so one of them is read for all.

    The words are the text of a field that no API shape reads in an event. They count where they stand in JSON without an escape or
    a line end: so no field and no event can hide in them.
    """

    def __init__(self) -> None:
        self._head = self._tail = b""
        self._head_bytes = self._tail_bytes = 0

    def note(self, raw: bytes) -> None:
        """Take the outline of an event that was read; none if it has no words."""
        match = _WORDS.search(raw) if raw.endswith(b"\n") else None
        self._head, self._tail = (raw[: match.start(1)], raw[match.end(1) :]) if match else (b"", b"")
        self._head_bytes, self._tail_bytes = len(self._head), len(self._tail)

    def fits(self, raw: bytes) -> bool:
        """True if these bytes are one whole event of the same outline: it says what that one said."""
        start, end = self._head_bytes, len(raw) - self._tail_bytes
        return (
            0 < start <= end
            and raw[:start] == self._head
            and raw[end:] == self._tail
            and _NOT_IN_WORDS.search(raw, start, end) is None
        )


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
