"""A run as data: typed rows, DataFrames with exact dollars, and tables in a notebook."""

import copy
import json
import pickle
import re
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas
import pytest

from agent_preflight import Run, RunResult, RunResults, read_run
from agent_preflight.figures.run_figures import table_figures
from agent_preflight.run_data import COLUMNS, table_html
from agent_preflight.runs.costs import accounts_of
from preflight_proxy.core.errors import ConfigError, LedgerError
from tests.support.records import BEGUN_S, a_call, a_field, a_run, a_trial
from tests.support.run_on_disk import EVENTS, begin, finish, keep_ledger, plan
from tests.support.trial_field import Field


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with a trial that has ended, one that runs no more, and one that never began."""
    run = plan(tmp_path / "run-1", "nano", "mini", "late")
    keep_ledger(run, "nano", "mini", pending=True)
    begin(run, "mini", *EVENTS)
    finish(run, "nano", {"status": "done"}, started_at="2026-01-01T00:00:00+00:00", duration_s=3.0)
    return run


def test_the_rows_of_a_run_are_its_trials_and_calls(folder: Path) -> None:
    run = read_run(str(folder))
    assert (run.run_id, [trial.alias for trial in run.trials]) == ("run-1", ["nano", "mini", "late"])
    nano, mini, late = run.trials
    assert (nano.posted_usd, nano.pending_usd, nano.limit_usd) == (Decimal("0.01"), Decimal("0.02"), Decimal("0.25"))
    assert (nano.calls, nano.prompt_tokens, nano.cached_tokens, nano.duration_s) == (1, 2000, 500, 3.0)
    assert (nano.started_at, late.started_at) == (datetime(2026, 1, 1, tzinfo=UTC), None)
    assert (mini.status, late.status, late.tags, late.score, late.repeat) == ("lost", "pending", {}, None, 0)
    assert [(call.entry_id, call.trial, call.cost_usd) for call in run.calls] == [
        (1, "nano", Decimal("0.01")),
        (2, "mini", Decimal("0.01")),
    ]
    assert run.calls[0].time.tzinfo is UTC
    assert repr(run) == "<Run run-1: 3 trials, 2 calls>"
    total_usd = sum(call.cost_usd for call in run.calls)
    assert total_usd * 10**12 == sum(account.posted_pusd for account in accounts_of(folder).values())


def test_scores_repeats_and_tags_are_in_the_rows_of_trials(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    run.mkdir()
    trials = [
        {"alias": f"nano-{n}", "model_id": "m/x", "budget_usd": "0.25", "key_name": "k", "base": "nano", "repeat": n}
        for n in (1, 2)
    ]
    (run / "plan.json").write_text(json.dumps({"trials": trials, "tags": {"task": "refactor"}}))
    keep_ledger(run, "nano-1", "nano-2")
    scored = {"score": 0.5, "success": False, "kind": "number", "reason": None, "details": None, "duration_s": 1.0}
    finish(run, "nano-1", {"status": "done", "score": scored})
    finish(
        run, "nano-2", {"status": "done", "score": {**scored, "score": None, "success": None, "reason": "no output"}}
    )
    first, second = read_run(run).trials
    assert (first.base, first.repeat, second.repeat, first.tags) == ("nano", 1, 2, {"task": "refactor"})
    assert (first.score, first.success, first.score_reason) == (0.5, False, None)
    assert (second.score, second.success, second.score_reason) == (None, None, "no output")


def test_rows_can_be_copied_and_kept_and_are_frozen(folder: Path) -> None:
    run = read_run(folder)
    assert pickle.loads(pickle.dumps(run)) == run == copy.deepcopy(run)
    with pytest.raises(AttributeError):
        run.calls[0].cost_pusd = 1  # type: ignore[misc]


def test_calls_become_a_data_frame_with_exact_dollars_and_utc_times(folder: Path) -> None:
    run = read_run(folder)
    frame = run.to_pandas()
    assert tuple(frame.columns) == COLUMNS["calls"]
    assert [*frame["cost_usd"]] == ["0.01", "0.01"]
    assert frame["cost_usd"].map(Decimal).sum() == Decimal("0.02")
    assert frame["cost_usd"].astype(float).sum() == 0.02
    assert str(frame["time"].dt.tz) == "UTC"
    assert abs(frame["time"][0].timestamp() - run.calls[0].at_s) < 0.001
    assert frame["prompt_tokens"].sum() == 4000


def test_trials_become_a_data_frame(folder: Path) -> None:
    frame = read_run(folder).to_pandas("trials")
    assert tuple(frame.columns) == COLUMNS["trials"]
    assert [*frame["posted_usd"]][:2] == ["0.01", "0.01"]
    assert frame["started_at"][0] == pandas.Timestamp("2026-01-01", tz="UTC")
    assert frame["started_at"].isna().tolist() == [False, False, True]


def test_a_run_without_calls_has_an_empty_data_frame_with_all_columns(tmp_path: Path) -> None:
    frame = read_run(plan(tmp_path / "run-1", "nano")).to_pandas("calls")
    assert (len(frame), tuple(frame.columns)) == (0, COLUMNS["calls"])
    assert str(frame["time"].dt.tz) == "UTC"


def test_without_pandas_the_error_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(folder)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_pandas needs another package: pip install pandas"):
        run.to_pandas()


def test_another_word_for_the_rows_is_an_error(folder: Path) -> None:
    with pytest.raises(KeyError, match="events"):
        read_run(folder).to_pandas("events")  # type: ignore[arg-type]


def test_a_run_of_an_older_version_has_trials_and_no_calls(tmp_path: Path) -> None:
    finish(tmp_path / "run-1", "nano", cost_usd=0.125)
    run = read_run(tmp_path / "run-1")
    assert ([*run.calls], run.trials[0].posted_usd, run.trials[0].base) == ([], Decimal("0.125"), "nano")


def test_a_folder_that_is_no_run_and_a_damaged_ledger_are_sentences(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "foreign" / "folder").mkdir(parents=True)
    for wrong in ("none", "foreign"):
        with pytest.raises(ConfigError, match=str(tmp_path / wrong)):
            read_run(tmp_path / wrong)
    (folder / "ledger.sqlite3").write_text("none")
    with pytest.raises(LedgerError, match="ledger"):
        read_run(folder)


def cells(html: str) -> list[list[str]]:
    """Return the texts of a table's cells, line by line."""
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", line) for line in re.findall(r"<tr>(.*?)</tr>", html)]


def test_a_notebook_shows_scores_and_the_cost_for_each_success() -> None:
    record = a_field(
        {"nano": [10**10, 3 * 10**10], "mini": [10**9], "pico": [0]},
        {"nano": [True, False], "mini": [None], "pico": [False]},
    )
    table = table_figures(record, BEGUN_S + 100)
    head, nano, mini, pico = cells(table_html(table))
    assert head == ["model", "score", "cost for each success", "cost", "calls", "ended"]
    assert table.models[0].cost_per_success_pusd == 4 * 10**10
    assert nano == ["nano (m/x)", "0.50", "$0.0400", "$0.0400", "2", "done"]
    assert mini == ["mini (m/x)", "unknown", "unknown", "$0.0010", "1", "done"]
    assert pico == ["pico (m/x)", "0.00", "none", "$0.0000", "1", "done"]


def test_a_notebook_shows_no_column_of_scores_where_there_are_none() -> None:
    calls = [a_call("nano", 10**10)]
    html = table_html(table_figures(a_run(a_trial("nano", calls), calls=calls), BEGUN_S + 100))
    assert cells(html) == [["model", "cost", "calls", "ended"], ["nano (m/x)", "$0.0100", "1", "done"]]


def test_what_others_wrote_is_text_in_a_notebook() -> None:
    hostile = "<script>alert(1)</script>&\"'"
    trial = a_trial(hostile, model_id=hostile, base=hostile, status=hostile)
    html = table_html(table_figures(a_run(trial, tags={"task": hostile}), BEGUN_S + 100))
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;") >= 3


def test_an_unknown_cost_is_not_0_in_a_notebook() -> None:
    html = table_html(table_figures(a_run(a_trial("nano", has_ledger=False)), BEGUN_S + 100))
    assert cells(html)[1] == ["nano (m/x)", "unknown", "unknown", "done"]


def test_results_are_a_list_for_scripts(folder: Path) -> None:
    plain_list = [RunResult("nano", "m/x", 0.5), RunResult("mini", "m/x", 0.5)]
    results = RunResults(plain_list, folder)
    assert isinstance(results, list)
    assert results == plain_list
    assert type(results[:1]) is list
    assert results[:1] == plain_list[:1]
    assert json.loads(json.dumps([result.to_dict() for result in results]))[1]["alias"] == "mini"
    for twin in (copy.copy(results), copy.deepcopy(results), pickle.loads(pickle.dumps(results))):
        assert (twin, type(twin), twin.run_dir) == (plain_list, RunResults, folder)


def test_a_notebook_shows_results_as_the_table_of_the_run(folder: Path) -> None:
    html = RunResults([], folder)._repr_html_()
    assert html is not None
    assert [line[0] for line in cells(html)] == ["model", "nano (m/x)", "mini (m/x)", "late (m/x)"]
    assert html == read_run(folder)._repr_html_()
    assert RunResults([], folder / "none")._repr_html_() is None


@pytest.mark.wire
def test_a_run_returns_its_results_with_the_table(trials: Field) -> None:
    results = trials.run({"a": "call()", "b": "call()"})
    assert isinstance(results, RunResults)
    (run_dir,) = trials.run_dirs
    run = read_run(run_dir)
    assert isinstance(run, Run)
    assert results.run_dir == run_dir
    assert sum(call.cost_usd for call in run.calls) * 10**12 == sum(
        account.posted_pusd for account in accounts_of(run_dir).values()
    )
    for trial, result in zip(run.trials, results, strict=True):
        assert (trial.alias, str(trial.posted_usd)) == (result.alias, result.preflight["posted_usd"])
    html = results._repr_html_()
    assert html is not None
    assert [line[0].split()[0] for line in cells(html)] == ["model", "a", "b"]
