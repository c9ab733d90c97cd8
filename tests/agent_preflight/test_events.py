"""Whatever an agent prints becomes events, and no output stops the reader."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.events import LINE_BYTES_MAX, RAW_CHARS_MAX, EventLogger, Lines, from_agent, parse_line
from tests.support.cases import each


def test_an_object_with_a_type_is_the_event_with_its_own_fields() -> None:
    event = {"type": "tool_execution_start", "toolName": "bash", "timestamp": 17, "event_type": "x"}
    assert parse_line(json.dumps(event).encode()) == event


def test_an_object_without_a_type_is_raw_and_keeps_its_fields() -> None:
    assert parse_line(b'{"usage": {"prompt_tokens": 3}}') == {"type": "raw", "usage": {"prompt_tokens": 3}}


def test_a_type_that_is_no_text_is_kept_under_another_name() -> None:
    assert parse_line(b'{"type": 5, "a": 1}') == {"type": "raw", "a": 1, "agent_type": 5}


@each(
    "line",
    [
        "hello",
        "[1]",
        "3",
        "true",
        "null",
        '"text"',
        "{",
        '{"a": }',
        '{"type": "x", "v": NaN}',
        '{"type": "x", "v": -Infinity}',
        '{"type": "x", "v": 1e999}',
        "[" * 5000,
        '{"a":' * 100_000,
        '{"type": "x", "v": ' + "9" * 5000 + "}",
    ],
)
def test_what_is_no_json_object_is_raw(line: str) -> None:
    assert parse_line(line.encode()) == {"type": "raw", "data": line}


def test_invalid_utf8_is_replaced_not_refused() -> None:
    assert parse_line(b'{"type": "x", "v": "a\xffb"}') == {"type": "x", "v": "a\ufffdb"}
    assert parse_line(b"\xff\xfe") == {"type": "raw", "data": "\ufffd\ufffd"}


def test_a_line_that_ends_in_carriage_return_is_read() -> None:
    assert parse_line(b'{"type": "x"}\r') == {"type": "x"}


def test_a_line_of_the_largest_size_is_an_event() -> None:
    frame = len(b'{"type": "x", "v": ""}')
    line = b'{"type": "x", "v": "' + b"a" * (LINE_BYTES_MAX - frame) + b'"}'
    assert len(line) == LINE_BYTES_MAX
    assert parse_line(line)["type"] == "x"


def test_a_longer_line_is_cut_and_says_so() -> None:
    event = parse_line(b"a" * (LINE_BYTES_MAX + 1))
    assert event == {"type": "raw", "data": "a" * RAW_CHARS_MAX, "truncated": True}


@given(st.binary(max_size=60))
def test_no_line_makes_the_parser_raise(line: bytes) -> None:
    assert isinstance(parse_line(line)["type"], str)


@each(
    "printed, kept",
    [
        ({}, {}),
        ({"source": "preflight"}, {"agent_source": "preflight"}),
        ({"source": None}, {"agent_source": None}),
        ({"agent_source": "b"}, {"agent_source": "b"}),
        ({"agent_source": "b", "source": "a"}, {"agent_source": "b", "agent_agent_source": "a"}),
        ({"Source": "preflight", "source ": "preflight"}, {"Source": "preflight", "source ": "preflight"}),
    ],
)
def test_an_agents_event_says_that_it_is_one_and_keeps_every_field(printed: Any, kept: Any) -> None:
    event = {"type": "budget_poll", **printed}
    assert from_agent(event) == {"type": "budget_poll", "source": "agent", **kept}
    assert event == {"type": "budget_poll", **printed}


def test_several_lines_in_one_chunk_come_out_at_once() -> None:
    lines = Lines()
    assert lines.feed(b'{"a":1}\n{"b":2}\n\n  \n{"c"') == [b'{"a":1}', b'{"b":2}']
    assert lines.feed(b":3}\n") == [b'{"c":3}']
    assert lines.rest() == []


def test_a_last_line_without_newline_is_a_line() -> None:
    lines = Lines()
    assert lines.feed(b"abc") == []
    assert lines.rest() == [b"abc"]
    assert lines.rest() == []


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_chunking_does_not_change_the_lines(chunks: list[bytes]) -> None:
    whole, parts = Lines(), Lines()
    expected = whole.feed(b"".join(chunks)) + whole.rest()
    assert [line for chunk in chunks for line in parts.feed(chunk)] + parts.rest() == expected


def test_a_line_that_is_too_long_is_cut_though_its_end_comes_with_it() -> None:
    (line, after) = Lines().feed(b"a" * (LINE_BYTES_MAX + 9) + b"\nb\n")
    assert (len(line), after) == (LINE_BYTES_MAX + 1, b"b")


def test_a_line_without_end_holds_no_more_than_the_cap() -> None:
    lines = Lines()
    for _ in range(10):
        assert lines.feed(b"x" * 2**20) == []
    (line,) = lines.feed(b"tail\nnext\n")[:1]
    assert len(line) == LINE_BYTES_MAX + 1
    assert parse_line(line)["truncated"]


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_has_time_first_then_type_and_elapsed_last(tmp_path: Path) -> None:
    with EventLogger(tmp_path / "a" / "b" / "events.jsonl") as log:
        log.log("agent_start", model_id="m")
    (record,) = records(log.path)
    assert list(record) == ["timestamp", "type", "model_id", "elapsed_s"]
    assert record["type"] == "agent_start"
    assert datetime.fromisoformat(record["timestamp"]).utcoffset() is not None


def test_each_record_is_on_disk_at_once_and_a_second_logger_appends(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLogger(path) as log:
        log.log("one")
        assert len(records(path)) == 1
    with EventLogger(path) as log:
        log.log("two")
    assert [r["type"] for r in records(path)] == ["one", "two"]


def test_elapsed_time_may_be_left_out(tmp_path: Path) -> None:
    with EventLogger(tmp_path / "e", include_elapsed_s=False) as log:
        log.log("x")
    assert "elapsed_s" not in records(log.path)[0]


def test_elapsed_time_counts_from_the_start_given(tmp_path: Path) -> None:
    with EventLogger(tmp_path / "e", start_time=datetime(2000, 1, 1, tzinfo=UTC)) as log:
        log.log("x")
    assert records(log.path)[0]["elapsed_s"] > 1e8


def test_a_start_time_without_a_zone_is_local_time(tmp_path: Path) -> None:
    with EventLogger(tmp_path / "e", start_time=datetime(2000, 1, 1)) as log:
        log.log("x")
    assert records(log.path)[0]["elapsed_s"] > 1e8


def test_one_time_of_the_agents_own_is_kept_without_the_other(tmp_path: Path) -> None:
    with EventLogger(tmp_path / "e.jsonl") as log:
        log.record({"type": "x", "elapsed_s": -5})
        log.record({"type": "x", "timestamp": "then"})
    first, second = EventLogger.read(tmp_path / "e.jsonl")
    assert (first["agent_elapsed_s"], second["agent_timestamp"]) == (-5, "then")
    assert first["elapsed_s"] >= 0


def test_the_agent_s_own_times_are_kept_beside_ours(tmp_path: Path) -> None:
    with EventLogger(tmp_path / "e") as log:
        log.record({"type": "x", "timestamp": "mine", "elapsed_s": -5})
    (record,) = records(log.path)
    assert record["agent_timestamp"] == "mine"
    assert record["agent_elapsed_s"] == -5
    assert record["timestamp"] != "mine"
    assert 0 <= record["elapsed_s"] < 60


def test_a_name_already_taken_by_the_agent_is_not_overwritten(tmp_path: Path) -> None:
    with EventLogger(tmp_path / "e") as log:
        log.record({"type": "x", "timestamp": "a", "agent_timestamp": "b"})
    (record,) = records(log.path)
    assert {record["agent_timestamp"], record["agent_agent_timestamp"]} == {"a", "b"}


def test_a_field_of_any_name_can_be_recorded(tmp_path: Path) -> None:
    with EventLogger(tmp_path / "e") as log:
        log.record({"type": "x", "event_type": 1, "self": 2, "event": 3})
    (record,) = records(log.path)
    assert (record["event_type"], record["self"], record["event"]) == (1, 2, 3)


def test_what_json_cannot_hold_does_not_stop_the_log(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with EventLogger(tmp_path / "e") as log:
        log.log("deep", value=deep)
        log.log("path", value=tmp_path)
        log.log("lone", value="\ud800")
    assert [r["type"] for r in records(log.path)] == ["deep", "path", "lone"]
    assert records(log.path)[0]["unreadable"] == "RecursionError"
    while deep:
        deep = deep[0]


def test_closing_twice_does_nothing(tmp_path: Path) -> None:
    log = EventLogger(tmp_path / "e")
    log.close()
    log.close()


def test_reading_passes_over_blank_and_corrupt_lines(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(b'{"type": "a"}\n\nnot json\n[1]\n\xff\n{"type": "b"}\n{"torn')
    assert [r["type"] for r in EventLogger.read(path)] == ["a", "b"]


def test_an_absent_log_has_no_records(tmp_path: Path) -> None:
    assert EventLogger.read(tmp_path / "absent") == []


def test_a_path_may_be_text(tmp_path: Path) -> None:
    with EventLogger(str(tmp_path / "e")) as log:
        log.log("x")
    assert len(EventLogger.read(str(tmp_path / "e"))) == 1
