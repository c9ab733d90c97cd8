"""Reads what an agent prints, without pause and within limits: stdout as events, stderr to a file.

Reading waits neither for user code nor for a newline. So an agent cannot block itself, and cannot fill memory or disk.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_preflight.agents import AgentOutput
from agent_preflight.events import LINE_BYTES_MAX, EventLogger, Lines, from_agent, parse_line
from agent_preflight.models import CacheStats
from agent_preflight.usage import add_usage, read_usage
from preflight_proxy.core.terminal import plain

OUTPUT_CHUNK_BYTES = 2**16
EVENTS_BYTES_MAX = 512 * 2**20
"""At most about this much is written to events.jsonl for one agent's stdout; long agent sessions print some 10 MiB."""
STDERR_BYTES_MAX = 64 * 2**20

STATUS_CHARS_MAX = 64
STDERR_END_BYTES = 8192
LAST_WORDS_CHARS_MAX = 200

LINES_AT_ONCE = 100
"""After so many lines of one agent the loop serves the others, so that a flood of lines does not block them."""
GATHER_S = 0.02
"""After all that has come was read, output gathers for so long: an agent that prints line by line costs little for each line."""

CHARACTER_BYTES_MAX = 4
VALUE_BYTES = 100
EVENT_BYTES = 500
"""About the most memory that a character, a value in a list or object, and an event take."""

Event = dict[str, Any]
WeighedEvent = tuple[Event, int]
"""An event, and about how many bytes of memory it takes."""


class AgentStreams:
    """Reads one agent's streams.

    Args:
        events: The trial's event log.
        on_events: Takes events, each with its weight in bytes (`weight_of`), on the loop; must not block.
        on_end: Called with True when the agent says that it is done, with False when it continues after that.

    Attributes:
        events_count: Events so far.
        tool_calls: Tool calls among them.
        claims: The agent's own figures of its tokens.
        end: Whether the agent is done, and its last message, if that was an error.
        end_status: The status that the agent gave at its end, for display.
        stderr_end: The last bytes of its stderr.
        caps_hit: Names of the limits that were reached, with how often.
    """

    def __init__(
        self,
        events: EventLogger,
        on_events: Callable[[Sequence[WeighedEvent]], None],
        on_end: Callable[[bool], None],
    ) -> None:
        self._events = events
        self._on_events = on_events
        self._on_end = on_end
        self._agent = AgentOutput()
        self.end = AgentEnd()
        self._bytes_left = EVENTS_BYTES_MAX
        self.events_count = 0
        self.tool_calls = 0
        self.claims = CacheStats()
        self.caps_hit = Counter[str]()
        self.end_status = ""
        self.stderr_end = b""

    @property
    def last_words(self) -> str:
        """The last line of its stderr that is not empty, safe for a terminal and cut; empty if there is none."""
        lines = plain(self.stderr_end.decode(errors="replace").replace("\r", "\n"), keep_lines=True).split("\n")
        last = next((words for line in reversed(lines) if (words := " ".join(line.split()))), "")
        return last[:LAST_WORDS_CHARS_MAX]

    async def read_stdout(self, stream: StreamReader) -> None:
        """Take every line until the stream ends."""
        lines = Lines()
        async for chunk in _chunks(stream):
            complete = lines.feed(chunk)
            for at in range(0, len(complete), LINES_AT_ONCE):
                self._take(complete[at : at + LINES_AT_ONCE])
                await asyncio.sleep(0)
        if rest := lines.rest():
            self._take(rest)

    async def read_stderr(self, stream: StreamReader, path: Path) -> None:
        """Append the stream to a file until it ends, up to the limit. The rest is read and dropped."""
        bytes_left = STDERR_BYTES_MAX
        with path.open("ab", buffering=0) as file:
            path.chmod(0o600)
            async for chunk in _chunks(stream):
                file.write(chunk[:bytes_left])
                self.stderr_end = (self.stderr_end + chunk)[-STDERR_END_BYTES:]
                if len(chunk) > bytes_left:
                    self.caps_hit["stderr_bytes"] += 1
                bytes_left = max(bytes_left - len(chunk), 0)

    def _take(self, lines: Sequence[bytes]) -> None:
        """Log and count the events of some lines, and those that follow from them; then pass them on."""
        taken: list[WeighedEvent] = []
        for line in lines:
            if len(line) > LINE_BYTES_MAX:
                self.caps_hit["line_bytes"] += 1
            event = from_agent(parse_line(line))
            taken.append((event, weight_of(line)))
            follows = self._agent.derive(event)
            if "usage" in event and not any(each["type"] == "usage_claim" for each in follows):
                self._count_usage(event)
            for each in follows:
                taken.append((from_agent(each), EVENT_BYTES))
                self._count_usage(each)
        if self._bytes_left > 0:
            self._bytes_left -= self._events.record_all(event for event, _ in taken)
        else:
            self.caps_hit["events_bytes"] += len(taken)
        self.events_count += len(taken)
        self._on_events(taken)
        for event, _ in taken:
            kind = event["type"]
            if kind == "tool_execution_start":
                self.tool_calls += 1
            elif kind == "agent_end":
                self.end_status = str(event.get("status") or "")[:STATUS_CHARS_MAX]
            if kind in END_TYPES and self.end.take(event):
                self._on_end(self.end.is_done)

    def _count_usage(self, event: Mapping[str, Any]) -> None:
        if (usage := read_usage(event.get("usage"))) is not None:
            add_usage(self.claims, usage)


_pause = asyncio.sleep


async def _chunks(stream: StreamReader) -> AsyncIterator[bytes]:
    """Yield a stream's bytes until it ends; each chunk has what came within `GATHER_S`."""
    while chunk := await stream.read(OUTPUT_CHUNK_BYTES):
        yield chunk
        if len(chunk) < OUTPUT_CHUNK_BYTES and not stream.at_eof():
            await _pause(GATHER_S)


def weight_of(line: bytes) -> int:
    """Return about how many bytes of memory a line's event takes at most. Small values take far more than their text."""
    values = line.count(b",") + line.count(b"[") + line.count(b"{")
    return EVENT_BYTES + CHARACTER_BYTES_MAX * len(line) + VALUE_BYTES * values


ERROR_CHARS_MAX = 500
END_TYPES = frozenset(
    {
        *("agent_start", "agent_end", "message_end"),
        *("auto_retry_start", "auto_retry_end", "compaction_start", "compaction_end"),
    }
)
"""The types of events that tell whether an agent is done."""


class AgentEnd:
    """Follows one agent's events to find out whether it is done.

    pi sends `agent_end` before an automatic retry too, and before a compaction that ends in one: `auto_retry_start`, an
    `agent_start` or `compaction_start` for an overflow follow at once. Later versions have `willRetry` in the `agent_end`.
    Source: packages/coding-agent/docs/json.md, packages/coding-agent/docs/rpc.md of github.com/badlogic/pi-mono, 0.73.1.

    Attributes:
        is_done: Whether it has said that it is done, and has not continued since.
        error: Its last message, if that was an error, without line breaks; else empty.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.error = ""
        self._may_retry = False

    def take(self, event: Mapping[str, Any]) -> bool:
        """Take an event; returns whether it changed `is_done`. Never raises."""
        if event.get("type") not in END_TYPES:
            return False
        was_done, is_ending = self.is_done, self.is_done or self._may_retry
        self._take_error(event)
        match event:
            case {"type": "agent_end", "willRetry": True}:
                self.is_done, self._may_retry = False, True
            case {"type": "agent_end"}:
                self.is_done, self._may_retry = True, False
            case {"type": "agent_start"}:
                self.is_done, self._may_retry = False, False
            case (
                {"type": "auto_retry_start"}
                | {"type": "compaction_start", "reason": "overflow"}
                | {"type": "compaction_end", "willRetry": True}
            ):
                self.is_done, self._may_retry = False, is_ending
            case {"type": "auto_retry_end", "success": False} | {"type": "compaction_end"}:
                self.is_done, self._may_retry = is_ending, False
        return self.is_done != was_done

    def _take_error(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"type": "agent_end", "messages": list(messages)}:
                pass
            case {"type": "message_end", "message": message}:
                messages = [message]
            case _:
                return
        for message in messages:
            if isinstance(message, Mapping) and message.get("role") == "assistant":
                self.error = _error_of(message)


def _error_of(message: Mapping[str, Any]) -> str:
    stop, text = message.get("stopReason"), message.get("errorMessage")
    if stop not in ("error", "aborted"):
        return ""
    words = " ".join(text[: 2 * ERROR_CHARS_MAX].split()) if isinstance(text, str) else ""
    return f"the agent's last message is an error: {words or stop}"[:ERROR_CHARS_MAX]
