"""Everything that is known about a run, read from its folder."""

from pathlib import Path

import pytest

from agent_preflight.runs.record import RecordReader, read_record
from preflight_proxy.core.errors import ConfigError
from tests.support.run_on_disk import CENT, EVENTS, begin, finish, keep_ledger, plan


def test_plan_ledger_events_and_summary_are_read(tmp_path: Path) -> None:
    run = plan(tmp_path / "run", "b", "a")
    keep_ledger(run, "a", "b")
    begin(run, "a", *EVENTS)
    finish(run, "a", {"status": "done"})
    record = read_record(run)
    assert [trial.status.alias for trial in record.trials] == ["b", "a"], "the order of the plan"
    assert [(call.trial, call.cost_pusd, call.prompt_tokens) for call in record.calls] == [
        ("a", CENT, 2000),
        ("b", CENT, 2000),
    ]
    assert record.trials[1].tools == ((1767225603.0, "?"),)
    assert record.trials[1].status.posted_pusd == CENT


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no run"):
        RecordReader(tmp_path / "none")
