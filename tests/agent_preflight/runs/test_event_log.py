"""A trial's event log, read in one piece or as it grows."""

import json
from pathlib import Path

import pytest

from agent_preflight.runs.event_log import EventFacts, EventReader, epoch_s, read_events, seconds_between

TIMED_EVENTS = (
    {"timestamp": "2026-01-01T00:00:00+00:00", "type": "agent_start", "elapsed_s": 0.5},
    {"timestamp": "2026-01-01T00:00:03+00:00", "type": "tool_execution_start", "elapsed_s": 3.5},
)


def log(folder: Path, text: str) -> Path:
    (folder / "events.jsonl").write_text(text)
    return folder


def test_events_are_counted_and_timed(tmp_path: Path) -> None:
    facts = read_events(log(tmp_path, "".join(json.dumps(event) + "\n" for event in TIMED_EVENTS)))
    assert (facts.count, facts.tool_calls, facts.started_at, facts.duration_s) == (
        *(2, 1, "2026-01-01T00:00:00+00:00", 3.5),
    )


def test_a_torn_or_corrupt_event_is_not_counted(tmp_path: Path) -> None:
    assert read_events(log(tmp_path, '{"type": "a"}\ngarbage\n[1]\n{"type": "torn')).count == 1


@pytest.mark.parametrize("content", ["", "{not json}\n", "{" * 100_000 + "}\n", '{"timestamp": 5, "elapsed_s": "x"}\n'])
def test_nonsense_is_no_error(tmp_path: Path, content: str) -> None:
    facts = read_events(log(tmp_path, content))
    assert facts.started_at is None
    assert facts.duration_s in (None, 0.0)


def test_a_log_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "events.jsonl").symlink_to(log(tmp_path, '{"type": "a"}\n') / "events.jsonl")
    assert read_events(tmp_path / "a") == EventFacts()
    assert read_events(tmp_path / "none") == EventFacts()


def test_seconds_lie_between_two_moments_that_can_be_read() -> None:
    assert seconds_between("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z") == 1.5
    assert seconds_between("2026-01-01T00:00:09Z", "2026-01-01T00:00:01Z") == 0.0
    assert seconds_between(None, "2026-01-01T00:00:01Z") is None
    assert seconds_between("2026-01-01T00:00:00", "2026-01-01T00:00:01Z") is None, "one has no time zone"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "noon", None])
def test_a_moment_that_has_no_date_is_none(moment: str | None) -> None:
    assert epoch_s(moment) is None
    assert epoch_s("1969-12-31T23:59:59Z") == -1.0


def test_a_second_read_adds_what_is_new(tmp_path: Path) -> None:
    path = log(tmp_path, json.dumps(TIMED_EVENTS[0]) + "\n") / "events.jsonl"
    reader = EventReader(tmp_path)
    assert (reader.read().count, reader.read().tool_calls) == (1, 0)
    line = json.dumps({**TIMED_EVENTS[1], "toolName": "bash"}) + "\n"
    with path.open("a") as file:
        file.write(line[:40])
        file.flush()
        assert reader.read().count == 1, "the line is not whole yet"
        file.write(line[40:])
    facts = reader.read()
    assert (facts.count, facts.tool_calls, facts.started_at) == (2, 1, "2026-01-01T00:00:00+00:00")
    assert facts.tools == ((1767225603.0, "bash"),)
    assert facts.last_at_s == 1767225603.0


def test_a_log_that_was_replaced_is_read_from_its_start(tmp_path: Path) -> None:
    reader = EventReader(log(tmp_path, '{"type": "a"}\n' * 5))
    assert reader.read().count == 5
    log(tmp_path, '{"type": "b"}\n')
    assert reader.read().count == 1


def test_the_state_is_the_runners_and_never_the_agents(tmp_path: Path) -> None:
    states = [("preflight", "created"), ("preflight", "running"), ("agent", "summarised")]
    lines = [json.dumps({"type": "preflight_state", "source": source, "state": state}) for source, state in states]
    assert read_events(log(tmp_path, "\n".join(lines) + "\n")).state == "running"


def test_a_tools_name_is_short_plain_text(tmp_path: Path) -> None:
    event = {"type": "tool_execution_start", "timestamp": "2026-01-01T00:00:00Z", "toolName": "\x1b[31m" + "x" * 500}
    ((_, name),) = read_events(log(tmp_path, json.dumps(event) + "\n")).tools
    assert len(name) == 80
    assert "\x1b" not in name
