"""Reads a trial's event log from where the last read ended. Its agent wrote most of it, so lines and memory are bounded."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agent_preflight.artifacts import json_object, number, open_beneath
from agent_preflight.events import Lines
from preflight_proxy.core.terminal import plain

CHUNK_BYTES = 2**20
TOOLS_MAX = 20_000
"""Of more tool calls the latest are kept; all are counted."""
TOOL_CHARS_MAX = 80
_TOOL, _STATE = "tool_execution_start", "preflight_state"
_TOOL_BYTES, _STATE_BYTES = _TOOL.encode(), _STATE.encode()


class EventFacts(msgspec.Struct, frozen=True):
    """Figures from a trial's event log, which its agent may have written.

    Attributes:
        started_at: The first event's time, ISO 8601.
        duration_s: Seconds from the agent's start to the last event; None if the events have no times.
        state: The newest `preflight_state` of the runner; empty without one.
        last_at_s: The last event's time, seconds since the epoch; None without one.
        tools: When each tool call began (seconds since the epoch), and its tool's name as plain text; at most `TOOLS_MAX`.
    """

    count: int = 0
    tool_calls: int = 0
    started_at: str | None = None
    duration_s: float | None = None
    state: str = ""
    last_at_s: float | None = None
    tools: Sequence[tuple[float, str]] = ()


class EventReader:
    """One trial's event log. Each `read` costs what was written since the one before. Links are not followed.

    Args:
        folder: The trial's folder, which may not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begin(0)

    def _begin(self, inode: int) -> None:
        self._inode, self._offset, self._lines = inode, 0, Lines()
        self._tools: deque[tuple[float, str]] = deque(maxlen=TOOLS_MAX)
        self._facts = EventFacts()

    def read(self) -> EventFacts:
        """Return the figures of all whole lines. A file that was replaced or cut is read from its start."""
        with contextlib.suppress(OSError), open_beneath(self._folder, "events.jsonl") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._offset:
                self._begin(found.st_ino)
            file.seek(self._offset)
            while chunk := file.read(CHUNK_BYTES):
                self._offset += len(chunk)
                self._add(self._lines.feed(chunk))
        return self._facts

    def _add(self, lines: Sequence[bytes]) -> None:
        whole = [line for line in lines if line.startswith(b"{") and line.rstrip().endswith(b"}")]
        if not whole:
            return
        facts, tool_calls, state = self._facts, 0, None
        for line in whole:
            if _TOOL_BYTES in line:
                tool_calls += self._add_tool(line)
            elif _STATE_BYTES in line:
                state = _state(line) or state
        end, started_at = json_object(whole[-1]) or {}, facts.started_at
        if not facts.count:
            started_at = text_or_none((json_object(whole[0]) or {}).get("timestamp"))
        elapsed_s, between_s = end.get("elapsed_s"), seconds_between(started_at, end.get("timestamp"))
        self._facts = EventFacts(
            *(facts.count + len(whole), facts.tool_calls + tool_calls, started_at),
            duration_s=between_s if elapsed_s is None else float(number(elapsed_s)),
            state=state or facts.state,
            last_at_s=epoch_s(end.get("timestamp")),
            tools=tuple(self._tools),
        )

    def _add_tool(self, line: bytes) -> bool:
        event = json_object(line) or {}
        if event.get("type") != _TOOL:
            return False
        at_s, name = epoch_s(event.get("timestamp")), event.get("toolName")
        if at_s is not None:
            self._tools.append((at_s, plain(name)[:TOOL_CHARS_MAX] if isinstance(name, str) else "?"))
        return True


def _state(line: bytes) -> str | None:
    """Return the state in a line of the runner. An agent's own events have another source."""
    event = json_object(line) or {}
    is_ours = event.get("type") == _STATE and event.get("source") == "preflight"
    return text_or_none(event.get("state")) if is_ours else None


def read_events(folder: Path) -> EventFacts:
    """Return the figures of a trial's event log. Incomplete lines are ignored."""
    return EventReader(folder).read()


def epoch_s(moment: object) -> float | None:
    """Return an ISO 8601 time in seconds since the epoch; None if it is invalid, or has no date in UTC."""
    try:
        at_s = datetime.fromisoformat(str(moment)).timestamp()
        return at_s if datetime.fromtimestamp(at_s, UTC) else None
    except (ValueError, OverflowError):
        return None


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds between two ISO 8601 times, at least 0; None if one of them is invalid."""
    try:
        return max((datetime.fromisoformat(end or "") - datetime.fromisoformat(start or "")).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def text_or_none(value: object) -> str | None:
    """Return a value that is text, else None."""
    return value if isinstance(value, str) else None
