"""What the event log of a trial tells."""

import json
from pathlib import Path

import pytest

from agent_preflight.runs.event_facts import EventFacts, read_events, seconds_between

EVENTS = (
    {"timestamp": "2026-01-01T00:00:00+00:00", "type": "agent_start", "elapsed_s": 0.5},
    {"timestamp": "2026-01-01T00:00:03+00:00", "type": "tool_execution_start", "elapsed_s": 3.5},
)


def log(folder: Path, text: str) -> Path:
    (folder / "events.jsonl").write_text(text)
    return folder


def test_events_are_counted_and_timed(tmp_path: Path) -> None:
    facts = read_events(log(tmp_path, "".join(json.dumps(event) + "\n" for event in EVENTS)))
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
