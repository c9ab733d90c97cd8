"""The figures of a model over its repeats."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.figures.model_figures import ModelFigures
from agent_preflight.figures.run_figures import table_figures
from agent_preflight.runs.record import RunRecord
from tests.support.cases import each
from tests.support.records import BEGUN_S, CENT, a_call, a_field, a_run, a_score, a_trial


def models(record: RunRecord) -> tuple[ModelFigures, ...]:
    return table_figures(record, BEGUN_S + 100).models


def test_the_cost_of_a_success_counts_the_trials_that_failed_too() -> None:
    (nano,) = models(a_field({"nano": [CENT, 2 * CENT, 4 * CENT]}, {"nano": [1.0, 0.0, 1.0]}))
    assert (nano.successes, nano.posted_pusd, nano.cost_per_success_pusd) == (2, 7 * CENT, 35 * CENT // 10)
    assert nano.cost_per_trial_pusd == round(7 * CENT / 3)


def test_the_lowest_cost_of_a_success_is_the_best_and_a_tie_has_two() -> None:
    record = a_field(
        {"a": [CENT, CENT], "b": [CENT, 3 * CENT], "c": [CENT, CENT], "d": [1, 1]},
        {"a": [0.0, 1.0], "b": [1.0, 1.0], "c": [0.0, 0.5], "d": [0.0, 0.0]},
    )
    assert [model.is_best for model in models(record)] == [True, True, False, False]
    assert [model.cost_per_success_pusd for model in models(record)] == [2 * CENT, 2 * CENT, None, None]


def test_trials_that_never_began_make_no_other_one_cheaper() -> None:
    calls = [a_call("a-1", 3 * CENT), a_call("b", 2 * CENT)]
    waits = [a_trial(f"a-{n}", base="a", repeat=n, status="pending", has_ledger=False) for n in (2, 3)]
    begun = [a_trial("a-1", calls, base="a", repeat=1, score=a_score(1.0)), a_trial("b", calls, score=a_score(1.0))]
    a, b = models(a_run(*begun, *waits, calls=calls))
    assert (a.cost_per_trial_pusd, a.cost_interval_pusd, a.cost_per_success_pusd) == (3 * CENT, None, 3 * CENT)
    assert (a.on_front, b.on_front) == (False, True)


def test_amounts_are_divided_without_a_float() -> None:
    (nano,) = models(a_field({"nano": [10**18 + 1, 10**18 + 2, 0]}, {"nano": [1.0, 1.0, 1.0]}))
    assert nano.cost_per_trial_pusd == 666_666_666_666_666_668


def test_a_score_of_bools_has_wilsons_interval_and_one_of_numbers_students() -> None:
    bools, numbers = models(a_field({"b": [1, 1, 1], "n": [1, 1, 1]}, {"b": [True, True, False], "n": [1.0, 2.0, 3.0]}))
    assert (bools.score, bools.successes) == (2 / 3, 2)
    assert bools.interval is not None
    assert (bools.interval.low, bools.interval.high) == pytest.approx((0.2076596, 0.9385081))
    assert numbers.score == 2.0
    assert numbers.interval is not None
    assert (numbers.interval.low, numbers.interval.high) == pytest.approx((-0.4841377, 4.4841377))


def test_a_bool_among_numbers_counts_as_a_number() -> None:
    (mixed,) = models(a_field({"m": [1, 1, 1]}, {"m": [True, 2.0, 3.0]}))
    assert mixed.score == 2.0
    assert mixed.interval is not None
    assert mixed.interval.high == pytest.approx(4.4841377)


def test_one_number_has_no_interval() -> None:
    (nano,) = models(a_field({"nano": [CENT]}, {"nano": [0.5]}))
    assert (nano.score, nano.interval, nano.cost_interval_pusd) == (0.5, None, None)


def test_a_score_that_failed_is_not_zero() -> None:
    record = a_field({"nano": [CENT, CENT], "haiku": [CENT, CENT]}, {"nano": [None, 0.5], "haiku": [None, None]})
    nano, haiku = models(record)
    assert (nano.score, nano.scored, nano.successes, nano.unscored_reasons) == (0.5, 1, 0, ("the command failed",))
    assert (haiku.score, haiku.scored, haiku.successes) == (None, 0, None)


def test_an_unknown_cost_makes_the_sum_unknown_and_never_zero() -> None:
    trials = [
        a_trial("n-1", has_ledger=False, base="n", score=a_score(1.0)),
        a_trial("n-2", [a_call("n-2", CENT)], base="n"),
    ]
    (model,) = models(a_run(*trials, calls=[a_call("n-2", CENT)]))
    assert (model.posted_pusd, model.cost_per_trial_pusd, model.cost_per_success_pusd) == (None, None, None)
    assert (model.calls, model.cost_interval_pusd, model.is_best) == (None, None, False)


def test_models_keep_the_order_of_the_plan() -> None:
    record = a_field({"zeta": [CENT, CENT], "alpha": [CENT, CENT]})
    assert [(model.number, model.base, len(model.trials)) for model in models(record)] == [
        (0, "zeta", 2),
        (1, "alpha", 2),
    ]


@each(
    "statuses, ended",
    [
        (["done"] * 3, "done"),
        (["done", "ejected", "done"], "2 done, 1 ejected"),
        (["pending", "running"], "1 pending, 1 running"),
    ],
)
def test_how_trials_ended_is_said_in_a_few_words(statuses: Sequence[str], ended: str) -> None:
    trials = [a_trial(f"n-{n}", base="n", status=status) for n, status in enumerate(statuses)]
    (model,) = models(a_run(*trials))
    assert model.ended == ended


@each(
    "points, front",
    [
        ([(1, 0.5), (2, 0.9), (3, 0.7)], [True, True, False]),
        ([(1, 0.5), (1, 0.9)], [False, True]),
        ([(1, 0.5), (2, 0.5)], [True, False]),
        ([(1, 0.5), (1, 0.5)], [True, True]),
        ([(1, 0.5), (2, None)], [True, False]),
    ],
)
def test_the_front_has_whom_no_model_beats_in_both(
    points: Sequence[tuple[int, float | None]], front: list[bool]
) -> None:
    names = [f"m{n}" for n in range(len(points))]
    costs = {name: [cost * CENT] for name, (cost, _) in zip(names, points, strict=True)}
    scores = {name: [score] for name, (_, score) in zip(names, points, strict=True)}
    assert [model.on_front for model in models(a_field(costs, scores))] == front


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_exactly_the_models_that_nobody_dominates_are_on_the_front(points: list[tuple[int, int]]) -> None:
    record = a_field(
        {f"m{n}": [cost * CENT] for n, (cost, _) in enumerate(points)},
        {f"m{n}": [float(score)] for n, (_, score) in enumerate(points)},
    )
    expected = [
        not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points) for cost, score in points
    ]
    assert [model.on_front for model in models(record)] == expected
