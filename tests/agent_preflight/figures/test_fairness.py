"""Whether trials had the same conditions, and what is not known of that."""

from decimal import Decimal
from typing import Any

from agent_preflight.figures.run_figures import page_figures
from agent_preflight.runs.call import Call
from agent_preflight.runs.record import RunRecord
from preflight_proxy.core.refusals.outcomes import Cause
from preflight_proxy.core.refusals.refusals import Source
from tests.support.cases import each
from tests.support.records import BEGUN_S, CENT, a_call, a_run, a_trial

BUDGET = Cause("does_not_fit", Source.BUDGET, "This call does not fit.", count=2)
SPENT = Cause("spent", Source.BUDGET, "Budget spent.")
FAULT = Cause("upstream_502", Source.UPSTREAM, "OpenRouter answered with status 502", count=4)
BROKEN = Cause("error_in_answer", Source.UPSTREAM, "The answer ended in an error.")
MISTAKE = Cause("bad_request", Source.REQUEST, "There is no model.")


def rows(record: RunRecord) -> dict[str, tuple[str, bool | None]]:
    return {row.question: (row.answer, row.is_fair) for row in page_figures(record, BEGUN_S + 100).fairness}


def run(*calls: Call, **of_b: Any) -> RunRecord:
    """A run of two trials with these calls, in which some things of the second one may differ."""
    return a_run(a_trial("a", calls), a_trial("b", calls, **of_b), calls=calls)


def test_every_run_is_asked_the_same_and_what_is_not_known_is_unknown() -> None:
    nothing = rows(a_run())
    assert list(nothing) == [
        *("same budget", "first calls apart", "same prices all the time", "providers of a model", "waited for room"),
        *("refused for budget", "faults upstream"),
    ]
    assert set(nothing.values()) == {("unknown", None)}
    assert list(rows(run(a_call("a", CENT), a_call("b", CENT)))) == list(nothing)


def test_a_run_without_differences_is_fair() -> None:
    assert rows(run(a_call("a", CENT), a_call("b", CENT, BEGUN_S + 10.4))) == {
        "same budget": ("yes, $0.25 a trial", True),
        "first calls apart": ("0.4s", True),
        "same prices all the time": ("yes", True),
        "providers of a model": ("one each", True),
        "waited for room": ("no call", True),
        "refused for budget": ("none", True),
        "faults upstream": ("none", True),
    }


def test_budgets_that_differ_are_not_fair() -> None:
    assert rows(run(limit_pusd=50 * CENT))["same budget"] == ("no: $0.25 to $0.50 a trial", False)
    unknown = a_run(a_trial("a"), a_trial("b", limit_pusd=None))
    assert rows(unknown)["same budget"] == ("unknown", None)


@each(
    "later_s, duration_ms, answer, is_fair",
    [(0.5, 1000, "0.5s", True), (2, 3000, "0.0s", True), (60, 1000, "1m00s", True), (61, 1000, "1m01s", False)],
)
def test_first_calls_are_compared_by_their_starts(later_s: float, duration_ms: int, answer: str, is_fair: bool) -> None:
    calls = (a_call("a", CENT), a_call("b", CENT, BEGUN_S + 10 + later_s, duration_ms=duration_ms))
    assert rows(run(*calls, a_call("b", CENT, BEGUN_S + 900)))["first calls apart"] == (answer, is_fair)


def test_the_first_call_of_one_trial_is_compared_with_nothing() -> None:
    assert rows(run(a_call("a", CENT)))["first calls apart"] == ("unknown", None)


def test_a_price_that_changed_is_not_fair() -> None:
    dearer = a_call("b", CENT, prices={"prompt": Decimal("0.000002"), "completion": Decimal("0.000004")})
    record = run(a_call("a", CENT), a_call("b", CENT), dearer)
    assert rows(record)["same prices all the time"] == ("b: 2 price lists", False)


def test_prices_and_waits_of_older_lines_are_unknown() -> None:
    found = rows(run(a_call("a", CENT, prices=None), a_call("b", CENT, prices=None)))
    assert found["same prices all the time"] == found["waited for room"] == ("unknown", None)


def test_a_call_whose_prices_are_not_known_is_counted() -> None:
    found = rows(run(a_call("a", CENT, prices=None), a_call("b", CENT), a_call("b", CENT)))
    assert found["same prices all the time"] == ("yes, of 2 calls; those of 1 are not known", True)
    assert found["waited for room"] == ("no call", True)


def test_a_model_with_several_providers_is_not_fair() -> None:
    calls = [a_call("b", CENT, provider=name) for name in ("novita", "fireworks", "novita")]
    assert rows(run(a_call("a", CENT), *calls))["providers of a model"] == ("b: 2 (novita 2, fireworks 1)", False)
    assert rows(run(a_call("a", CENT, provider="")))["providers of a model"] == ("unknown", None)


def test_repeats_of_a_model_are_asked_together() -> None:
    calls = [a_call("n-1", CENT, provider="novita"), a_call("n-2", CENT, provider="fireworks")]
    record = a_run(a_trial("n-1", calls, base="n"), a_trial("n-2", calls, base="n"), calls=calls)
    assert rows(record)["providers of a model"] == ("n: 2 (novita 1, fireworks 1)", False)


def test_waits_are_summed_and_are_neither_fair_nor_unfair() -> None:
    calls = [a_call("b", CENT, waited_ms=6000), a_call("b", CENT, waited_ms=6100), a_call("b", CENT)]
    assert rows(run(*calls))["waited for room"] == ("b 12.1s in 2 calls", None)


def test_refusals_for_the_budget_are_counted_by_model() -> None:
    record = run(a_call("a", CENT), causes=[BUDGET, SPENT, MISTAKE])
    assert rows(record)["refused for budget"] == ("b 3", None)
    assert rows(record)["faults upstream"] == ("none", True)


def test_faults_upstream_are_counted_by_kind() -> None:
    found = rows(run(a_call("a", CENT), causes=[FAULT, BROKEN, MISTAKE]))
    assert found["faults upstream"] == ("b 4 × 502, 1 × error in answer", False)
    assert found["refused for budget"] == ("none", True)


def test_without_a_ledger_the_summary_says_what_was_not_served() -> None:
    summary = {"preflight": {"not_served": [{"code": "upstream_502", "source": "upstream", "count": 2}, 5, {}]}}
    assert rows(a_run(a_trial("a", has_ledger=False, summary=summary)))["faults upstream"] == ("a 2 × 502", False)
    assert rows(a_run(a_trial("a", has_ledger=False)))["faults upstream"] == ("unknown", None)
