"""What an agent prints, taken without pause and within bounds: stdout as events, stderr to a file.

The host never waits for user code here, and never for a newline: an agent can neither stall itself nor fill memory or disk.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent_preflight.agents import AgentOutput
from agent_preflight.base.terminal import plain
from agent_preflight.events import LINE_BYTES_MAX, EventLogger, Lines, from_agent, parse_line
from agent_preflight.models import CacheStats
from agent_preflight.usage import add_usage, read_usage

CHUNK_BYTES = 2**16
EVENTS_BYTES_MAX = 512 * 2**20
"""At most about this much is written to events.jsonl for one agent's stdout; long agent sessions print some 10 MiB."""
STDERR_BYTES_MAX = 64 * 2**20

STATUS_CHARS_MAX = 64
STDERR_END_BYTES = 8192
LAST_WORDS_CHARS_MAX = 200

LINES_AT_ONCE = 100
"""An agent that floods us with lines must not keep the loop from the others: after so many they have their turn."""

CHARACTER_BYTES_MAX = 4
VALUE_BYTES = 100
EVENT_BYTES = 500
"""What text, a value in a list or object, and an event take in memory at most, or about that."""

Event = dict[str, Any]


class AgentStreams:
    """Reads one agent's streams.

    Args:
        events: The trial's event log.
        on_event: Takes each event and its weight in bytes (`weight_of`), on the loop; must not block.
        on_end: Called with True when the agent says that it is done, with False when it goes on after all.
        events_bytes_max: How much is written for stdout.
        stderr_bytes_max: How much of stderr is kept.

    Attributes:
        events_count: Events so far.
        tool_calls: Tool calls among them.
        claims: What the agent itself says of its tokens.
        end_status: What the agent said of itself at its end; for the eye only.
        stderr_end: The last bytes of its stderr.
        caps_hit: Names of the bounds that were reached, with how often.
    """

    def __init__(
        self,
        events: EventLogger,
        on_event: Callable[[Event, int], None],
        on_end: Callable[[bool], None],
        *,
        events_bytes_max: int = EVENTS_BYTES_MAX,
        stderr_bytes_max: int = STDERR_BYTES_MAX,
    ) -> None:
        self._events = events
        self._on_event = on_event
        self._on_end = on_end
        self._agent = AgentOutput()
        self._end = AgentEnd()
        self._bytes_left = events_bytes_max
        self._stderr_bytes_max = stderr_bytes_max
        self.events_count = 0
        self.tool_calls = 0
        self.claims = CacheStats()
        self.caps_hit: dict[str, int] = {}
        self.end_status = ""
        self.stderr_end = b""

    @property
    def error(self) -> str:
        """The error that the agent's last message was, in words; empty if it was none."""
        return self._end.error

    @property
    def last_words(self) -> str:
        """The last line of its stderr that is not empty, fit for a terminal and cut; empty if there is none."""
        lines = plain(self.stderr_end.decode(errors="replace").replace("\r", "\n"), keep_lines=True).split("\n")
        last = next((words for line in reversed(lines) if (words := " ".join(line.split()))), "")
        return last[:LAST_WORDS_CHARS_MAX]

    async def read_stdout(self, stream: StreamReader) -> None:
        """Take every line until the stream ends."""
        lines = Lines()
        while chunk := await stream.read(CHUNK_BYTES):
            for number, line in enumerate(lines.feed(chunk), 1):
                self._take(line)
                if number % LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
        for line in lines.rest():
            self._take(line)

    async def read_stderr(self, stream: StreamReader, path: Path) -> None:
        """Append the stream to a file until it ends, up to the cap; the rest is read and dropped."""
        left = self._stderr_bytes_max
        with path.open("ab", buffering=0) as file:
            path.chmod(0o600)
            while chunk := await stream.read(CHUNK_BYTES):
                file.write(chunk[:left])
                self.stderr_end = (self.stderr_end + chunk)[-STDERR_END_BYTES:]
                if len(chunk) > left:
                    self.cap("stderr_bytes")
                left = max(left - len(chunk), 0)

    def cap(self, name: str, count: int = 1) -> None:
        """Note that a bound was reached."""
        if count:
            self.caps_hit[name] = self.caps_hit.get(name, 0) + count

    def _take(self, line: bytes) -> None:
        if len(line) > LINE_BYTES_MAX:
            self.cap("line_bytes")
        event = from_agent(parse_line(line))
        follows = self._agent.derive(event)
        claimed = any(each["type"] == "usage_claim" for each in follows)
        self._accept(event, weight_of(line), counts_usage=not claimed)
        for each in follows:
            self._accept(from_agent(each), EVENT_BYTES, counts_usage=True)
        if event["type"] == "agent_end":
            self.end_status = str(event.get("status") or "")[:STATUS_CHARS_MAX]
        if self._end.take(event):
            self._on_end(self._end.said)

    def _accept(self, event: Event, weight_bytes: int, *, counts_usage: bool) -> None:
        """Log, count and pass on one event, the agent's own or one that follows from it."""
        if self._bytes_left > 0:
            self._bytes_left -= self._events.record(event)
        else:
            self.cap("events_bytes")
        self.events_count += 1
        self.tool_calls += event["type"] == "tool_execution_start"
        if counts_usage and (usage := read_usage(event.get("usage"))) is not None:
            add_usage(self.claims, usage)
        self._on_event(event, weight_bytes)


def weight_of(line: bytes) -> int:
    """Return about how many bytes of memory the event of a line takes at most: small values cost far more than their text."""
    values = line.count(b",") + line.count(b"[") + line.count(b"{")
    return EVENT_BYTES + CHARACTER_BYTES_MAX * len(line) + VALUE_BYTES * values


ERROR_CHARS_MAX = 500


class AgentEnd:
    """Follows one agent's events.

    Attributes:
        said: Whether it has said that it is done, and not since that it goes on.
        error: The error that its last message was, in words and without line breaks; empty if it was none.
    """

    def __init__(self) -> None:
        self.said = False
        self.error = ""
        self._put_off = False

    def take(self, event: Mapping[str, Any]) -> bool:
        """Take an event; returns whether `said` has changed by it. Never raises."""
        before, ended = self.said, self.said or self._put_off
        self._take_error(event)
        match event:
            case {"type": "agent_end", "willRetry": True}:
                self.said, self._put_off = False, True
            case {"type": "agent_end"}:
                self.said, self._put_off = True, False
            case {"type": "agent_start"}:
                self.said, self._put_off = False, False
            case (
                {"type": "auto_retry_start"}
                | {"type": "compaction_start", "reason": "overflow"}
                | {"type": "compaction_end", "willRetry": True}
            ):
                self.said, self._put_off = False, ended
            case {"type": "auto_retry_end", "success": False} | {"type": "compaction_end"}:
                self.said, self._put_off = ended, False
        return self.said != before

    def _take_error(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"type": "agent_end", "messages": list(messages)}:
                said = [each for each in messages if isinstance(each, Mapping) and each.get("role") == "assistant"]
            case {"type": "message_end", "message": {"role": "assistant"} as message}:
                said = [message]
            case _:
                return
        if said:
            self.error = _error_of(said[-1])


def _error_of(message: Mapping[str, Any]) -> str:
    stop, text = message.get("stopReason"), message.get("errorMessage")
    if stop not in ("error", "aborted"):
        return ""
    told = " ".join(text[: 2 * ERROR_CHARS_MAX].split()) if isinstance(text, str) else ""
    return f"the agent's last message is an error: {told or stop}"[:ERROR_CHARS_MAX]
