"""Reading what an agent prints, without pause and within limits."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.events import EventLogger, parse_line
from agent_preflight.runner import output
from agent_preflight.runner.output import (
    ERROR_CHARS_MAX,
    LINES_AT_ONCE,
    AgentEnd,
    AgentStreams,
    WeighedEvent,
    weight_of,
)
from tests.support.cases import each


class Reader:
    """An output with what it told."""

    def __init__(self, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.ends = 0
        self.logger = EventLogger(folder / "events.jsonl")
        self.output = AgentStreams(self.logger, self._take, self._end)

    def _take(self, events: Sequence[WeighedEvent]) -> None:
        self.events += [event for event, _ in events]

    def _end(self, is_done: bool) -> None:
        self.ends += is_done

    async def read(self, *chunks: bytes) -> None:
        stream = asyncio.StreamReader()
        for chunk in chunks:
            stream.feed_data(chunk)
        stream.feed_eof()
        await self.output.read_stdout(stream)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.setattr(output, "EVENTS_BYTES_MAX", 150)
    monkeypatch.setattr(output, "STDERR_BYTES_MAX", 5)
    made = Reader(tmp_path)
    yield made
    made.logger.close()


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


async def test_several_lines_in_one_chunk_are_several_events(reader: Reader) -> None:
    await reader.read(line(type="tool_execution_start", toolName="x") + line(type="agent_end", status="done"))
    assert [event["type"] for event in reader.events] == ["tool_execution_start", "agent_end"]
    assert (reader.output.tool_calls, reader.output.events_count, reader.ends) == (1, 2, 1)
    assert reader.output.end_status == "done"


async def test_every_event_of_an_agent_has_the_source_agent(reader: Reader, tmp_path: Path) -> None:
    """Also what is told of it besides, which is no more than its own word."""
    step = b"mini-swe-agent (step 1, $0.01):"
    forged = [line(type="preflight_ending", source="preflight"), b'{"source": "preflight"}\n', step]
    await reader.read(*forged)
    seen = [(event["type"], event["source"], event.get("agent_source")) for event in reader.events]
    assert seen == [
        ("preflight_ending", "agent", "preflight"),
        ("raw", "agent", "preflight"),
        ("raw", "agent", None),
        ("turn_end", "agent", None),
    ]
    assert {record["source"] for record in EventLogger.read(tmp_path / "events.jsonl")} == {"agent"}


async def test_output_that_is_not_an_event_becomes_a_raw_event(reader: Reader) -> None:
    await reader.read(b"[1]\n3\n\xff\xfe\nplain", b" text")
    assert [event["type"] for event in reader.events] == ["raw"] * 4
    assert reader.events[-1]["data"] == "plain text"


async def test_an_agents_usage_is_kept_as_its_claim(reader: Reader) -> None:
    await reader.read(line(type="x", usage={"prompt_tokens": 10, "cache_read_input_tokens": 4}))
    assert (reader.output.claims.total_prompt_tokens, reader.output.claims.cached_tokens) == (10, 4)


async def test_events_of_a_known_agent_are_translated(reader: Reader) -> None:
    """Its usage counts once, though the agent's own event has it too."""
    started = {"type": "item.started", "item": {"id": "i", "type": "command_execution", "command": "ls"}}
    done = {"type": "turn.completed", "usage": {"input_tokens": 100, "cached_input_tokens": 40, "output_tokens": 5}}
    await reader.read(*(json.dumps(event).encode() + b"\n" for event in (started, done)))
    types = [event["type"] for event in reader.events]
    assert types[:2] == ["item.started", "tool_execution_start"]
    assert "usage_claim" in types
    assert reader.output.tool_calls == 1
    assert reader.output.claims.total_prompt_tokens == 100
    assert reader.output.claims.request_count == 1


async def test_events_after_the_limit_are_counted_but_not_written(reader: Reader, tmp_path: Path) -> None:
    for numbers in (range(2), range(2, 5)):  # what comes together is written together
        await reader.read(*[line(type="a", n=n) for n in numbers])
    assert len(reader.events) == 5
    assert reader.output.caps_hit == {"events_bytes": 3}
    assert len(EventLogger.read(tmp_path / "events.jsonl")) == 2


async def test_stderr_is_written_to_a_private_file_up_to_its_limit(reader: Reader, tmp_path: Path) -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"abc")
    stream.feed_data(b"defgh")
    stream.feed_eof()
    path = tmp_path / "stderr.log"
    await reader.output.read_stderr(stream, path)
    assert path.read_bytes() == b"abcde"
    assert path.stat().st_mode & 0o777 == 0o600
    assert reader.output.caps_hit == {"stderr_bytes": 1}


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (b"", ""),
        (b"one\n\x1b[31mno   config\tfound\x1b[0m\n \n", "no config found"),
        (b"10%\r100%", "100%"),
        (b"\xff" + b"x" * 70_000, "x" * 200),
    ],
)
async def test_the_last_words_are_the_last_line_of_stderr(
    reader: Reader, tmp_path: Path, stderr: bytes, words: str
) -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(stderr)
    stream.feed_eof()
    await reader.output.read_stderr(stream, tmp_path / "stderr.log")
    assert reader.output.last_words == words


async def test_the_limit_counts_written_bytes(reader: Reader, tmp_path: Path) -> None:
    await reader.read(b"x\n" * 1000)
    assert reader.output.events_count == 1000
    assert len(EventLogger.read(tmp_path / "events.jsonl")) == LINES_AT_ONCE
    assert reader.output.caps_hit == {"events_bytes": 1000 - LINES_AT_ONCE}


class CountingLog(EventLogger):
    """An event log that counts its writes."""

    writes = 0

    def record_all(self, events: Iterable[Mapping[str, Any]]) -> int:
        self.writes += 1
        return super().record_all(events)


async def test_an_agent_that_prints_line_by_line_costs_few_reads_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that come while others gather are taken with them."""
    gathering, went_on = asyncio.Event(), asyncio.Event()

    async def gather(_: float) -> None:
        gathering.set()
        await went_on.wait()

    monkeypatch.setattr(output, "_pause", gather)
    taken: list[int] = []
    with CountingLog(tmp_path / "events.jsonl") as log:
        agent = AgentStreams(log, lambda events: taken.append(len(events)), lambda is_done: None)
        stream = asyncio.StreamReader()
        stream.feed_data(b"first\n")
        reading = asyncio.ensure_future(agent.read_stdout(stream))
        await gathering.wait()
        for number in range(LINES_AT_ONCE):
            stream.feed_data(b"line %d\n" % number)
            await asyncio.sleep(0)
        stream.feed_eof()
        went_on.set()
        await reading
    assert [count for count in taken if count] == [1, LINES_AT_ONCE]
    assert log.writes == 2


async def test_the_end_of_a_stream_waits_for_nothing(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "GATHER_S", 1000.0)
    await reader.read(b"x\n")
    assert reader.output.events_count == 1


async def test_a_flood_of_lines_does_not_block_the_loop(reader: Reader) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while reader.output.events_count < 2000:
            turns += 1
            await asyncio.sleep(0)

    await asyncio.gather(reader.read(b"x\n" * 2000), other())
    assert turns >= 15


@each(
    "line",
    [
        b'{"type":"x","a":[' + b",".join([b"{}"] * 5_000) + b"]}",
        b'{"type":"x",' + b",".join(b'"%d":1' % n for n in range(5_000)) + b"}",
        b'{"type":"x","a":"' + "é".encode() * 10_000 + "😀".encode() + b'"}',
        b'{"type":"x"}',
    ],
)
def test_an_event_takes_no_more_memory_than_its_weight(line: bytes) -> None:
    tracemalloc.start()
    try:
        event = parse_line(line)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert event["type"] == "x"
    assert taken <= weight_of(line)


END = {"type": "agent_end"}
RETRIES = {"type": "auto_retry_start", "attempt": 1, "delayMs": 2000}
GIVES_UP = {"type": "auto_retry_end", "success": False}
STARTS = {"type": "agent_start"}
COMPACTS = {"type": "compaction_start", "reason": "overflow"}
IN_VAIN = {"type": "compaction_end", "reason": "overflow", "willRetry": False}
COMPACTED = {"type": "compaction_end", "reason": "overflow", "willRetry": True}


def after(*events: dict[str, Any]) -> AgentEnd:
    end = AgentEnd()
    for event in events:
        end.take(event)
    return end


@each(
    "events, is_done",
    [
        ([], False),
        ([STARTS], False),
        ([END], True),
        ([{**END, "status": "done"}, END], True),
        ([END, RETRIES], False),
        ([END, RETRIES, {**GIVES_UP, "success": True}], False),
        ([END, STARTS], False),
        ([{**END, "willRetry": True}], False),
        ([END, {**END, "willRetry": True}], False),
        ([END, COMPACTS], False),
        ([END, COMPACTS, COMPACTED], False),
        ([END, RETRIES, STARTS, END], True),
        ([END, COMPACTS, COMPACTED, STARTS, END], True),
        ([{**END, "willRetry": True}, RETRIES, STARTS, END], True),
    ],
)
def test_an_agent_is_done_until_it_continues(events: list[dict[str, Any]], is_done: bool) -> None:
    assert after(*events).is_done is is_done


@each("event", [RETRIES, STARTS, COMPACTS, COMPACTED, {**END, "willRetry": True}])
def test_an_agent_is_done_again_after_a_retry_that_failed(event: dict[str, Any]) -> None:
    given_up = after(END, event, GIVES_UP).is_done, after(END, event, IN_VAIN).is_done
    assert given_up == ((False, False) if event is STARTS else (True, True))


@each("event", [GIVES_UP, IN_VAIN, COMPACTED, RETRIES, COMPACTS])
def test_a_retry_or_compaction_without_agent_end_does_not_end_the_agent(event: dict[str, Any]) -> None:
    assert not after(STARTS, event).is_done
    assert not after(STARTS, event, GIVES_UP, IN_VAIN).is_done


@each(
    "event",
    [
        {"type": "compaction_start", "reason": "threshold"},
        {"type": "auto_retry_end", "success": True},
        {"type": "turn_start"},
        {"type": "message_start"},
        {"type": "raw", "data": "auto_retry_start"},
        {"type": "tool_execution_start"},
        *({**END, "willRetry": value} for value in (False, None, 1, "true", [True])),
    ],
)
def test_other_events_do_not_take_the_end_back(event: dict[str, Any]) -> None:
    assert after(END, event).is_done


def test_each_change_is_reported_once() -> None:
    end = AgentEnd()
    told = [end.take(event) for event in (STARTS, END, END, RETRIES, STARTS, END)]
    assert told == [False, True, False, True, False, True]


def spoken(role: str = "assistant", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": [], **fields}


FAILED = spoken(stopReason="error", errorMessage="402 Budget\n spent.")
FINE = spoken(stopReason="stop")
ODD_MESSAGES: list[Any] = [None, "error", {}, [], ["x", None], [{"stopReason": "error"}]]
TOLD = "the agent's last message is an error: 402 Budget spent."


@each(
    "events, error",
    [
        ([END], ""),
        ([{**END, "messages": [FINE]}], ""),
        ([{**END, "messages": [spoken("user"), FAILED]}], TOLD),
        ([{**END, "messages": [FINE, FAILED, spoken("toolResult")]}], TOLD),
        ([{**END, "messages": [FAILED, FINE]}], ""),
        ([{**END, "messages": [FAILED]}, {**END, "messages": [FINE]}], ""),
        ([{**END, "messages": [FAILED]}, RETRIES, STARTS], TOLD),
        ([{"type": "message_end", "message": FAILED}], TOLD),
        ([{"type": "message_end", "message": FAILED}, END], TOLD),
        ([{"type": "message_end", "message": FAILED}, {"type": "message_end", "message": FINE}, END], ""),
        ([{"type": "message_end", "message": {**FAILED, "role": "user"}}], ""),
        ([{"type": "message_update", "message": FAILED}], ""),
        ([{**END, "messages": [spoken(stopReason="error")]}], "the agent's last message is an error: error"),
        ([{**END, "messages": [spoken(stopReason="aborted")]}], "the agent's last message is an error: aborted"),
        ([{**END, "messages": [spoken(stopReason="error", errorMessage=["x"])]}], f"{TOLD.split(':')[0]}: error"),
        *(([{**END, "messages": odd}], "") for odd in ODD_MESSAGES),
    ],
)
def test_the_error_is_that_of_the_agents_last_message(events: list[dict[str, Any]], error: str) -> None:
    assert after(*events).error == error


@each("text", ["x" * 10**6, " " * 10**6 + "x", "x\r\n" * 10**5, "ejected: budget"])
def test_an_error_is_limited_and_cannot_look_like_the_runners(text: str) -> None:
    error = after({**END, "messages": [spoken(stopReason="error", errorMessage=text)]}).error
    assert len(error) <= ERROR_CHARS_MAX
    assert error.startswith("the agent's last message is an error: ")
    assert error.isprintable()


@each("event", [{"type": "agent_end", "messages": [[[]]]}, {"type": "message_end", "message": []}, {"type": ""}, {}])
def test_an_unusual_event_raises_nothing(event: dict[str, Any]) -> None:
    assert after(event).error == ""
