"""Everything that is known about a run, read from its folder, once and again."""

import json
import sqlite3
from pathlib import Path

import pytest

from agent_preflight.runs.record import Notice, RecordReader, Score, read_record
from preflight_proxy.core.errors import ConfigError
from tests.support.ledger_on_disk import call, open_account, open_store
from tests.support.run_on_disk import CENT, EVENTS, alive, begin, finish, keep_ledger, plan


@pytest.fixture
def run(tmp_path: Path, no_engine: str) -> Path:
    """A run with two trials that are planned, on a machine without an engine."""
    return plan(tmp_path / "run-1", "b", "a")


def test_plan_ledger_events_and_summary_are_read(run: Path) -> None:
    keep_ledger(run, "a", "b", pending=True)
    begin(run, "a", *EVENTS)
    finish(run, "a", {"status": "done", "posted_usd": "7"}, finished_at="2026-01-01T00:01:00+00:00")
    record = read_record(run)
    b, a = record.trials
    assert (b.status.alias, a.status.alias, b.base, b.repeat) == ("b", "a", "b", 0), "the order of the plan"
    assert [(each.trial, each.cost_pusd, each.prompt_tokens, each.outcome) for each in record.calls] == [
        *(("a", CENT, 2000, "posted"), ("b", CENT, 2000, "posted")),
    ]
    assert (a.status.posted_pusd, a.status.pending_pusd, a.account is not None) == (CENT, 2 * CENT, True)
    assert (a.tools, a.began_at_s, a.last_event_at_s) == (((1767225603.0, "?"),), None, 1767225603.0)
    assert (a.ended_at_s, a.summary["preflight"]["status"], a.score) == (1767225660.0, "done", None)
    assert (record.run_id, record.live, record.status, record.trouble) == ("run-1", False, "incomplete", None)


def test_a_second_read_adds_what_is_new(run: Path) -> None:
    store = open_store(run)
    open_account(store, "a", 25 * CENT)
    call(store, "one", CENT)
    reader = RecordReader(run)
    first = reader.read()
    call(store, "two", 2 * CENT)
    begin(run, "a", *EVENTS)
    (run / "notices.jsonl").write_text(
        '{"time": "2026-01-01T00:00:00Z", "trial": "a", "kind": "warning", "text": "t"}\n'
    )
    second = reader.read()
    store.close()
    assert [each.cost_pusd for each in first.calls] == [CENT], "a record does not change"
    assert [each.cost_pusd for each in second.calls] == [CENT, 2 * CENT]
    assert second.calls[0] is first.calls[0], "what was read before is not read again"
    assert second.trials[1].status.posted_pusd == 3 * CENT
    assert len(second.trials[1].tools) == len(second.notices) == 1


def test_a_ledger_that_was_replaced_is_read_from_its_start(run: Path) -> None:
    keep_ledger(run, "a")
    reader = RecordReader(run)
    assert len(reader.read().calls) == 1
    keep_ledger(run / "other", "b")
    (run / "other" / "ledger.sqlite3").rename(run / "ledger.sqlite3")
    assert [each.trial for each in reader.read().calls] == ["b"]


def test_the_state_of_a_live_trial_is_the_runners_newest(run: Path) -> None:
    states = [{"type": "preflight_state", "source": "preflight", "state": state} for state in ("opened", "running")]
    with alive(run):
        begin(run, "a", *states)
        record = read_record(run)
    assert (record.live, record.status, record.trials[1].state, record.trials[1].status.status) == (
        *(True, "running", "running", "running"),
    )


def test_repeats_and_tags_are_those_of_the_plan(tmp_path: Path) -> None:
    trial = {"model_id": "m/x", "budget_usd": "0.25", "key_name": "k", "base": "nano"}
    trials = [{**trial, "alias": f"nano-{n}", "repeat": n} for n in (1, 2)]
    (tmp_path / "r").mkdir()
    document = {"trials": trials, "tags": {"task": "refactor"}, "created_at": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "r" / "plan.json").write_text(json.dumps(document))
    record = read_record(tmp_path / "r")
    assert [(each.status.alias, each.base, each.repeat) for each in record.trials] == [
        ("nano-1", "nano", 1),
        ("nano-2", "nano", 2),
    ]
    assert (record.tags, record.begun_at_s) == ({"task": "refactor"}, 1767225600.0)


NO_NUMBER = Score(None, reason="it is not a number of at most 1e+15")
SCORED = {"score": 0.5, "success": False, "kind": "number", "reason": None, "details": {"passed": 3}, "duration_s": 1.5}


@pytest.mark.parametrize(
    ("block", "score"),
    [
        (SCORED, Score(0.5, False, "number", None, {"passed": 3}, 1.5)),
        ({**SCORED, "score": None, "reason": "timeout"}, Score(None, False, "number", "timeout", {"passed": 3}, 1.5)),
        (None, None),
        ("high", NO_NUMBER),
        ({"score": "high"}, NO_NUMBER),
        ({}, NO_NUMBER),
        ({**SCORED, "score": 5.0, "kind": "bool"}, Score(None, reason="it is neither true nor false")),
        *[({**SCORED, "score": number}, NO_NUMBER) for number in (1e300, -1e300, float("nan"), float("inf"))],
    ],
)
def test_a_score_is_that_of_the_summary(run: Path, block: object, score: Score | None) -> None:
    finish(run, "a", {"status": "done", "score": block})
    assert read_record(run).trials[1].score == score


def test_notices_are_short_plain_text_and_torn_lines_are_left_out(run: Path) -> None:
    line = {"time": "2026-01-01T00:00:00Z", "trial": None, "kind": "warning", "text": "\x1b[31m" + "x" * 1000}
    lines = [
        json.dumps(line),
        "[1]",
        json.dumps({**line, "time": "noon"}),
        json.dumps({**line, "text": 5}),
        '{"time": "20',
    ]
    (run / "notices.jsonl").write_text("\n".join(lines))
    (notice,) = read_record(run).notices
    assert notice == Notice(1767225600.0, None, "warning", notice.text)
    assert len(notice.text) == 400
    assert "\x1b" not in notice.text


def test_what_is_a_link_is_not_read(run: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(
        '{"time": "2026-01-01T00:00:00Z", "kind": "warning", "text": "secret", "type": "tool_execution_start"}\n'
    )
    (run / "notices.jsonl").symlink_to(secret)
    (run / "a").mkdir()
    (run / "a" / "events.jsonl").symlink_to(secret)
    (run / "a" / "summary.json").symlink_to(secret)
    record = read_record(run)
    assert (record.notices, record.trials[1].status.tool_calls, record.trials[1].summary) == ((), 0, {})


def test_the_folder_of_a_planned_trial_that_is_a_link_is_not_read(run: Path, tmp_path: Path) -> None:
    (run / "a").symlink_to(begin(tmp_path / "elsewhere", "a", *EVENTS))
    trial = next(trial for trial in read_record(run).trials if trial.status.alias == "a")
    assert (trial.status.status, trial.status.events_count) == ("pending", 0)


def trouble(run: Path) -> str:
    return read_record(run).trouble or ""


def test_a_run_of_an_older_version_has_the_costs_of_its_summaries(run: Path) -> None:
    finish(run, "a", cost_usd=0.5)
    assert trouble(run) == "The run has no ledger (an earlier version made it), so costs are those of the summaries."
    assert read_record(run).trials[1].status.posted_pusd == 50 * CENT


def test_a_damaged_ledger_is_said_and_the_rest_is_shown(run: Path) -> None:
    (run / "ledger.sqlite3").write_bytes(b"no database at all, but long enough" * 100)
    finish(run, "a", {"status": "done", "posted_usd": "0.01"})
    record = read_record(run)
    assert "ledger" in (record.trouble or "")
    assert "calls are not known" in (record.trouble or "")
    assert (record.calls, record.trials[1].status.posted_pusd) == ((), CENT)


def test_the_ledger_of_a_newer_version_is_said(run: Path) -> None:
    keep_ledger(run, "a")
    connection = sqlite3.connect(run / "ledger.sqlite3")
    connection.execute("UPDATE meta SET value = '999' WHERE name = 'schema_version'")
    connection.commit()
    connection.close()
    assert "was written by a newer version of this program." in trouble(run)


def test_a_crashed_run_says_how_to_go_on(run: Path) -> None:
    keep_ledger(run, "a")
    begin(run, "a", *EVENTS)
    assert "`agent-preflight run --resume run-1` continues the run." in trouble(run)
    with alive(run):
        assert trouble(run) == ""


def test_a_run_that_began_nothing_says_so(tmp_path: Path, no_engine: str) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "lock").touch()
    assert trouble(tmp_path / "r") == (
        "The run has no plan.json that can be read, so what it was to do is not known. It has no trials."
    )


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"trials": [{"alias": "../x", "key_name": "k"}, 5], "tags": 7}'])
def test_a_plan_of_nonsense_breaks_nothing(run: Path, content: str) -> None:
    (run / "plan.json").write_text(content)
    finish(run, "a", {"status": "done"})
    record = read_record(run)
    assert [each.status.alias for each in record.trials] == ["a"]
    assert record.tags == {}


def test_folders_that_are_no_runs_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no run at .*none\."):
        RecordReader(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"is not a run: it has no plan, no lock and no trials\."):
        RecordReader(tmp_path)
    keep_ledger(tmp_path / "data", "a")
    with pytest.raises(ConfigError, match="is the data folder of a stand-alone proxy, not a run"):
        RecordReader(tmp_path / "data")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="There is no run at"):
        RecordReader(tmp_path / "file")


def test_the_trial_that_is_a_run_by_itself_is_read(tmp_path: Path, no_engine: str) -> None:
    run = plan(tmp_path / "nano", "nano")
    keep_ledger(run, "nano")
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    (trial,) = read_record(run).trials
    assert (trial.status.alias, trial.status.posted_pusd, len(trial.tools)) == ("nano", CENT, 1)


def test_trials_that_are_runs_by_themselves_are_one_run(tmp_path: Path, no_engine: str) -> None:
    for alias in ("a", "b"):
        keep_ledger(plan(tmp_path / "r" / alias, alias), alias)
        finish(tmp_path / "r", alias, {"status": "done"})
    record = read_record(tmp_path / "r")
    assert [(each.trial, each.entry_id) for each in record.calls] == [("a", 1), ("b", 1)]
    assert [each.status.posted_pusd for each in record.trials] == [CENT, CENT]


def test_ten_thousand_calls_are_read_once(run: Path) -> None:
    keep_ledger(run, "a")
    connection = sqlite3.connect(run / "ledger.sqlite3")
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO entries "
        "SELECT i, NULL, account, 'recovered', 1, at_s, line FROM entries, n WHERE entry_id = 1"
    )
    connection.commit()
    connection.close()
    reader = RecordReader(run)
    first, again = reader.read(), reader.read()
    assert len(first.calls) == len(again.calls) == 10_000
    assert all(one is other for one, other in zip(first.calls, again.calls, strict=True))
