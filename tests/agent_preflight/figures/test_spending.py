"""Where the money went: every way to divide it adds up to all of it."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.figures.run_figures import page_figures
from agent_preflight.figures.spending import (
    NAMES_MAX,
    POINTS_MAX,
    TURNS_MAX,
    CostBreakdown,
    CostShare,
    Curve,
    costs_of,
    curves_of,
    decimated,
    timeline_of,
)
from agent_preflight.runs.call import Call
from tests.support.cases import each
from tests.support.records import BEGUN_S, CENT, PRICES, a_call, a_run, a_trial

USD = 10**12


def costs(*calls: Call, **more: Any) -> CostBreakdown:
    return costs_of(a_run(a_trial("a", calls, **more), calls=calls))


def names(shares: tuple[CostShare, ...]) -> dict[str, tuple[int, int, int]]:
    return {share.name: (share.cost_pusd, share.calls, share.tokens) for share in shares}


entries = st.builds(
    a_call,
    trial=st.sampled_from(["a", "b"]),
    cost_pusd=st.integers(-(10**13), 10**13),
    at_s=st.floats(BEGUN_S, BEGUN_S + 1000),
    outcome=st.sampled_from(["posted", "assumed", "voided", "recovered", "adjusted"]),
    model=st.sampled_from(["m/x", "m/y", ""]),
    prompt_tokens=st.integers(0, 10**6),
    cached_tokens=st.integers(0, 10**6),
    cache_write_tokens=st.integers(0, 10**6),
    completion_tokens=st.integers(0, 10**6),
    reasoning_tokens=st.integers(0, 10**6),
    conversation=st.sampled_from(["c", "d", None]),
    prices=st.none()
    | st.dictionaries(st.sampled_from(list(PRICES)), st.none() | st.decimals("0", "0.01", places=13), max_size=4),
)


@given(st.lists(entries, max_size=60))
def test_every_way_to_divide_the_costs_adds_up_to_all_of_them_exactly(calls: list[Call]) -> None:
    tools = [(BEGUN_S + n, f"tool {n}") for n in range(30)]
    page = page_figures(a_run(a_trial("a", calls, tools=tools), a_trial("b", calls), calls=calls), BEGUN_S + 2000)
    posted_pusd = sum(call.cost_pusd for call in calls)
    assert page.table.totals.posted_pusd == posted_pusd
    for shares in (page.costs.by_model, page.costs.by_tool, page.costs.by_turn, page.costs.by_kind):
        assert sum(share.cost_pusd for share in shares) == posted_pusd
    for shares in (page.costs.by_model, page.costs.by_tool, page.costs.by_turn):
        assert sum(share.calls for share in shares) == sum(call.is_call for call in calls)
    assert sum(curve.points[-1][1] for curve in page.curves) == posted_pusd


def test_cached_tokens_without_a_price_of_their_own_cost_what_plain_ones_do() -> None:
    prices = {"prompt": Decimal("0.000001"), "completion": Decimal("0.000002")}
    call = a_call("a", cost_pusd=10 * 10**6, prompt_tokens=10, cached_tokens=4, completion_tokens=0, prices=prices)
    assert names(costs(call).by_kind) == {"prompt": (6 * 10**6, 1, 6), "cache read": (4 * 10**6, 1, 4)}


def test_a_call_that_was_never_billed_is_no_row() -> None:
    assert costs(a_call("a", cost_pusd=0, outcome="voided", conversation=None)) == CostBreakdown((), (), (), ())


def test_the_cost_of_a_kind_of_token_is_its_count_times_its_price() -> None:
    tokens = {"prompt_tokens": 1000, "cached_tokens": 400, "cache_write_tokens": 100, "completion_tokens": 50}
    call = a_call("a", 10**9, reasoning_tokens=20, **tokens)
    assert names(costs(call).by_kind) == {
        "prompt": (500 * 10**6, 1, 500),
        "cache read": (400 * 10**5, 1, 400),
        "cache write": (100 * 1_250_000, 1, 100),
        "completion": (30 * 4 * 10**6, 1, 30),
        "reasoning": (20 * 4 * 10**6, 1, 20),
        "other": (10**9 - 500 * 10**6 - 40 * 10**6 - 125 * 10**6 - 200 * 10**6, 1, 0),
    }


@each(
    "changes",
    [{"prices": None}, {"outcome": "assumed", "prices": None}, {"outcome": "recovered"}, {"prices": {"prompt": None}}],
)
def test_what_no_price_explains_is_other(changes: dict[str, Any]) -> None:
    call = a_call("a", CENT, **changes)
    assert names(costs(call).by_kind) == {"other": (CENT, int(call.is_call), 0)}


def test_a_bill_below_the_list_price_has_a_negative_rest() -> None:
    call = a_call("a", 0, prompt_tokens=10, cached_tokens=0, completion_tokens=0)
    assert names(costs(call).by_kind) == {"prompt": (10**7, 1, 10), "other": (-(10**7), 1, 0)}


def test_a_call_is_counted_to_the_last_tool_that_had_begun() -> None:
    tools = [(BEGUN_S + 10, "bash"), (BEGUN_S + 20, "edit")]
    calls = [
        a_call("a", 1, BEGUN_S + 9),
        a_call("a", 2, BEGUN_S + 10),
        a_call("a", 4, BEGUN_S + 19),
        a_call("a", 8, BEGUN_S + 99),
    ]
    assert names(costs(*calls, tools=tools).by_tool) == {
        "edit": (8, 1, 1100),
        "bash": (6, 2, 2200),
        "no tool": (1, 1, 1100),
    }


def test_of_tools_that_began_in_the_same_moment_the_one_said_last_counts() -> None:
    tools = [(BEGUN_S + 10, "write"), (BEGUN_S + 10, "bash")]
    assert names(costs(a_call("a", 1, BEGUN_S + 11), tools=tools).by_tool) == {"bash": (1, 1, 1100)}


def test_tools_of_another_trial_do_not_count() -> None:
    calls = [a_call("b", 1)]
    record = a_run(a_trial("a", tools=[(BEGUN_S, "bash")]), a_trial("b", calls), calls=calls)
    assert names(costs_of(record).by_tool) == {"no tool": (1, 1, 1100)}


def test_names_beyond_a_limit_are_one_sum() -> None:
    count = NAMES_MAX + 5
    tools = [(BEGUN_S + n, f"tool {n}") for n in range(count)]
    calls = [a_call("a", 100 + n, BEGUN_S + n + 0.5) for n in range(count)]
    shares = costs(*calls, tools=tools).by_tool
    assert (len(shares), shares[0].name) == (NAMES_MAX + 1, f"tool {count - 1}")
    assert shares[-1] == CostShare("5 more", sum(range(100, 105)), 5, 5 * 1100)


def test_a_turn_is_the_number_of_a_call_in_its_conversation() -> None:
    calls = [
        *[a_call("a", 1, conversation="x"), a_call("a", 2, conversation="y"), a_call("a", 4, conversation="x")],
        *[a_call("a", 8, conversation=None), a_call("a", 16, outcome="adjusted", conversation="x")],
        a_call("a", 32, conversation="x"),
    ]
    shares = [(share.name, share.cost_pusd) for share in costs(*calls).by_turn]
    assert shares == [("1", 3), ("2", 4), ("3", 32), ("other", 24)]


def test_the_same_conversation_of_two_trials_is_two() -> None:
    calls = [a_call("a", 1), a_call("b", 2)]
    record = a_run(a_trial("a", calls), a_trial("b", calls), calls=calls)
    assert names(costs_of(record).by_turn) == {"1": (3, 2, 2200)}


def test_late_turns_are_one() -> None:
    shares = costs(*[a_call("a", 1) for _ in range(TURNS_MAX + 3)]).by_turn
    assert (len(shares), shares[-1]) == (TURNS_MAX + 1, CostShare(f"after {TURNS_MAX}", 3, 3, 3300))


def curve(*calls: Call, at_s: float = BEGUN_S + 100, **more: Any) -> Curve:
    (found,) = curves_of(a_run(a_trial("a", calls, **more), calls=calls), at_s)
    return found


def test_a_curve_begins_with_nothing_and_ends_with_what_is_posted() -> None:
    found = curve(a_call("a", CENT, BEGUN_S + 10), a_call("a", 2 * CENT, BEGUN_S + 20), duration_s=60.0)
    assert found.points == (
        *((BEGUN_S, 0), (BEGUN_S + 10, CENT), (BEGUN_S + 20, 3 * CENT)),
        (BEGUN_S + 60, 3 * CENT),
    )
    assert (found.number, found.limit_pusd) == (0, 25 * CENT)


def test_the_curve_of_a_trial_that_runs_goes_on_until_now() -> None:
    found = curve(a_call("a", CENT, BEGUN_S + 10), status="running", at_s=BEGUN_S + 100)
    assert found.points[-1] == (BEGUN_S + 100, CENT)


def test_a_trial_that_has_not_begun_or_has_no_ledger_has_no_curve() -> None:
    record = a_run(a_trial("a", status="pending"), a_trial("b", has_ledger=False))
    assert curves_of(record, BEGUN_S) == ()


def test_a_curve_ends_with_what_is_posted_though_an_entry_is_missing() -> None:
    trial = a_trial("a", [a_call("a", CENT), a_call("a", CENT, BEGUN_S + 20)])
    (found,) = curves_of(a_run(trial, calls=[a_call("a", CENT)]), BEGUN_S + 100)
    assert found.points[-1] == (BEGUN_S + 60, 2 * CENT)


@given(st.lists(st.integers(-50, 50), min_size=30, max_size=200), st.integers(6, 25))
def test_fewer_points_keep_the_first_the_last_and_the_extremes(steps: list[int], count: int) -> None:
    points = [(float(n), sum(steps[: n + 1])) for n in range(len(steps))]
    kept = decimated(points, count)
    assert len(kept) <= count
    assert set(kept) <= set(points)
    assert list(kept) == sorted(kept, key=lambda point: point[0])
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    amounts = [amount for _, amount in points]
    assert (min(amounts), max(amounts)) == (min(a for _, a in kept), max(a for _, a in kept))


def test_all_curves_together_have_a_bounded_number_of_points() -> None:
    calls = [a_call(f"t{n % 16}", 1, BEGUN_S + n) for n in range(16_000)]
    record = a_run(*(a_trial(f"t{n}", calls) for n in range(16)), calls=calls)
    curves = curves_of(record, BEGUN_S + 20_000)
    assert sum(len(each.points) for each in curves) <= POINTS_MAX
    assert {each.points[-1][1] for each in curves} == {1000}


def test_the_timeline_has_when_trials_and_calls_ran() -> None:
    calls = [a_call("a", 1, BEGUN_S + 10, duration_ms=2000), a_call("a", 1, BEGUN_S + 40, duration_ms=5000)]
    record = a_run(a_trial("a", calls, duration_s=60.0), a_trial("b", status="pending"), calls=calls)
    timeline = timeline_of(record, BEGUN_S + 100)
    (row,) = timeline.rows
    assert (timeline.began_at_s, timeline.ended_at_s) == (row.began_at_s, row.ended_at_s) == (BEGUN_S, BEGUN_S + 60)
    assert row.calls == ((BEGUN_S + 8, BEGUN_S + 10), (BEGUN_S + 35, BEGUN_S + 40))


def test_calls_that_overlap_or_nearly_touch_are_one_span() -> None:
    calls = [a_call("a", 1, BEGUN_S + n * 0.1, duration_ms=100) for n in range(1, 5001)]
    record = a_run(a_trial("a", calls, duration_s=600.0), calls=calls)
    (row,) = timeline_of(record, BEGUN_S).rows
    assert [pytest.approx(moment) for moment in row.calls[0]] == [BEGUN_S, BEGUN_S + 500]
    assert len(row.calls) == 1


def test_a_short_call_within_a_long_one_does_not_end_it() -> None:
    calls = [a_call("a", 1, BEGUN_S + 20, duration_ms=1000), a_call("a", 1, BEGUN_S + 50, duration_ms=40_000)]
    (row,) = timeline_of(a_run(a_trial("a", calls), calls=calls), BEGUN_S).rows
    assert row.calls == ((BEGUN_S + 10, BEGUN_S + 50),)


def test_a_run_that_has_not_begun_has_an_empty_timeline() -> None:
    timeline = timeline_of(a_run(), BEGUN_S)
    assert (timeline.began_at_s, timeline.ended_at_s, timeline.rows) == (BEGUN_S, BEGUN_S, ())
