"""What the event log of a trial tells, which an agent may have written: how much there is, since when, until when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import number, open_beneath


@dataclass(slots=True)
class EventFacts:
    """What the event log tells of a trial."""

    count: int = 0
    tool_calls: int = 0
    started_at: str | None = None
    last_at: str | None = None
    elapsed_s: float | None = None

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first event to the last, None where neither tells a time."""
        return (
            float(number(self.elapsed_s))
            if self.elapsed_s is not None
            else seconds_between(self.started_at, self.last_at)
        )


def read_events(folder: Path) -> EventFacts:
    """Return what a trial's event log tells; lines that a crash tore are left out."""
    facts, last = EventFacts(), b""
    for last in _event_lines(folder):
        facts.count += 1
        facts.tool_calls += b'"tool_execution_start"' in last and _record(last).get("type") == "tool_execution_start"
        if facts.count == 1:
            facts.started_at = text_or_none(_record(last).get("timestamp"))
    if facts.count:
        facts.last_at = text_or_none(_record(last).get("timestamp"))
        facts.elapsed_s = _record(last).get("elapsed_s")
    return facts


def _event_lines(folder: Path) -> Iterator[bytes]:
    try:
        with open_beneath(folder, "events.jsonl") as file:
            for line in file:
                if line.startswith(b"{") and line.rstrip().endswith(b"}"):
                    yield line
    except OSError:
        return


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds from one ISO 8601 moment to another, never below 0; None if one of them cannot be read."""
    try:
        moments = [datetime.fromisoformat(text or "") for text in (start, end)]
        return max((moments[1] - moments[0]).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def text_or_none(value: object) -> str | None:
    """Return a value that is text."""
    return value if isinstance(value, str) else None
