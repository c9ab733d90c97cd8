"""The figures of a whole run."""

import pytest

from agent_preflight.figures.run_figures import WARNINGS_MAX, page_figures, table_figures
from agent_preflight.runs.record import Notice
from tests.support.records import BEGUN_S, CENT, a_call, a_field, a_run, a_trial


def test_a_page_has_the_figures_of_the_table() -> None:
    record = a_field({"nano": [CENT], "haiku": [2 * CENT, CENT]}, {"nano": [1.0], "haiku": [0.5, None]})
    assert page_figures(record, BEGUN_S + 5).table == table_figures(record, BEGUN_S + 5)


def test_totals_are_the_sums_of_the_trials() -> None:
    calls = [a_call("a", CENT), a_call("b", 2 * CENT), a_call("b", 3 * CENT)]
    trials = [
        a_trial("a", calls),
        a_trial("b", calls, status="running", pending_pusd=CENT),
        a_trial("c", has_ledger=False),
    ]
    totals = table_figures(a_run(*trials, calls=calls, live=True), BEGUN_S + 60).totals
    assert (totals.trials, totals.ended, totals.calls, totals.refused) == (3, 2, 3, 0)
    assert (totals.posted_pusd, totals.pending_pusd, totals.limit_pusd) == (6 * CENT, CENT, 75 * CENT)
    assert (totals.tokens.prompt, totals.rate_pusd_per_min, totals.unknown_costs) == (3000, 5 * CENT, 1)


def test_the_age_of_a_live_run_grows_and_that_of_another_ends_with_its_last_trial() -> None:
    live = a_run(a_trial("a", status="running"), a_trial("b"), live=True)
    assert table_figures(live, BEGUN_S + 500).age_s == 500.0
    over = a_run(a_trial("a", duration_s=70.0), a_trial("b"))
    assert table_figures(over, BEGUN_S + 500).age_s == 70.0


def test_a_run_is_called_by_its_task() -> None:
    assert table_figures(a_run(tags={"task": "refactor"}), BEGUN_S).title == "refactor"
    assert table_figures(a_run(), BEGUN_S).title == "run-20270115-080000"


def test_the_latest_warnings_are_shown_but_not_that_the_run_is_done() -> None:
    notices = [Notice(BEGUN_S + n, "a", "warning", str(n)) for n in range(9)] + [
        Notice(BEGUN_S, None, "run_done", "done")
    ]
    shown = table_figures(a_run(notices=notices), BEGUN_S).warnings
    assert [notice.text for notice in shown] == ["4", "5", "6", "7", "8"]
    assert len(shown) == WARNINGS_MAX


def test_scores_and_repeats_are_counted() -> None:
    table = table_figures(a_field({"nano": [CENT], "haiku": [CENT] * 3}), BEGUN_S)
    assert (table.has_scores, table.repeats) == (False, 3)
    assert table_figures(a_field({"nano": [CENT]}, {"nano": [None]}), BEGUN_S).has_scores


@pytest.mark.parametrize(("usage_usd", "exit_code"), [("0.01", 0), ("0.02", 3)])
def test_each_account_is_compared_with_the_figure_in_its_summary(usage_usd: str, exit_code: int) -> None:
    calls = [a_call("a", CENT)]
    found = page_figures(a_run(a_trial("a", calls, key_usage_usd=usage_usd), calls=calls), BEGUN_S).table.reconciliation
    assert found is not None
    assert (found.rows[0].posted_pusd, found.rows[0].entries_pusd, found.exit_code) == (CENT, CENT, exit_code)


def test_without_a_ledger_there_is_nothing_to_compare() -> None:
    assert page_figures(a_run(a_trial("a", has_ledger=False)), BEGUN_S).table.reconciliation is None
