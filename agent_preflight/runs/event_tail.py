"""The newest events of a trial, from the end of its events.jsonl, which its agent may have filled with anything."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import msgspec

from agent_preflight.artifacts import json_object, open_beneath
from preflight_proxy.core.terminal import plain

TAIL_BYTES_MAX = 256 * 2**10
"""Read from the end of the file, however large it is."""
HEADS = ("timestamp", "source", "type")
WORD_CHARS_MAX, TEXT_CHARS_MAX = 80, 300
"""Of a longer type or event this much is kept."""


class LoggedEvent(msgspec.Struct, frozen=True):
    """One line of events.jsonl, as plain text.

    Attributes:
        place: Where it begins in the file, in bytes.
        time: As it was logged, UTC; empty for a line that we did not log.
        source: `agent` or `preflight`.
        kind: Its `type`.
        text: Its other fields; empty without any.
    """

    place: int
    time: str
    source: str
    kind: str
    text: str


def newest_events(folder: Path, count_max: int) -> list[LoggedEvent]:
    """Return the last events of the trial in a folder, the newest first.

    At most `TAIL_BYTES_MAX` of the file are read, so there are fewer if they are long. What is no JSON object is left out.
    """
    content, place = b"", 0
    with contextlib.suppress(OSError), open_beneath(folder, "events.jsonl") as file:
        place = max(file.seek(0, os.SEEK_END) - TAIL_BYTES_MAX, 0)
        file.seek(place)
        content = file.read(TAIL_BYTES_MAX)
    events: list[LoggedEvent] = []
    end = content.rfind(b"\n")
    while end > 0 and len(events) < count_max:
        begin = content.rfind(b"\n", 0, end) + 1
        if (begin or not place) and (record := json_object(content[begin:end])) is not None:
            time, source, kind = (plain(str(record.pop(name, "")))[:WORD_CHARS_MAX] for name in HEADS)
            record.pop("elapsed_s", None)
            text = json.dumps(record, ensure_ascii=False)[: 4 * TEXT_CHARS_MAX] if record else ""
            events.append(LoggedEvent(place + begin, time, source, kind, plain(text)[:TEXT_CHARS_MAX]))
        end = begin - 1
    return events
