"""Where the marks of a chart stand."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.views.charts import (
    LABEL_CHARS_MAX,
    Box,
    Scale,
    labels,
    linear_scale,
    log_scale,
    steps,
)
from tests.support.cases import each

ROOM = Box(50.0, 10.0, 480.0, 250.0)
VALUES = st.lists(st.floats(-1e12, 1e12, allow_nan=False).map(lambda value: float(f"{value:.6g}")), max_size=30)
AMOUNTS = st.lists(st.just(0.0) | st.floats(1e-12, 1e6), max_size=30)


@given(values=VALUES)
def test_every_value_is_inside_the_axis(values: list[float]) -> None:
    scale = linear_scale(values, 50, 480)
    slack = (scale.high - scale.low) * 1e-6
    assert all(scale.low - slack <= value <= scale.high + slack for value in values)
    assert all(50 <= scale.at(value) <= 480 for value in values)


@given(values=AMOUNTS)
def test_every_amount_is_inside_a_logarithmic_axis(values: list[float]) -> None:
    scale = log_scale(values, 50, 480)
    assert all(50 <= scale.at(value) <= 480 for value in values)
    assert all(scale.low * (1 - 1e-9) <= value <= scale.high * (1 + 1e-9) for value in values if value > 0)


@given(values=VALUES | AMOUNTS)
def test_ticks_are_few_rising_and_inside(values: list[float]) -> None:
    for scale in (linear_scale(values, 250, 30), log_scale([round(abs(value), 12) for value in values], 50, 480)):
        assert 2 <= len(scale.ticks) <= 9
        assert list(scale.ticks) == sorted(set(scale.ticks))
        assert len({scale.at(tick) for tick in scale.ticks}) == len(scale.ticks)


@given(values=VALUES | AMOUNTS)
def test_a_larger_value_never_stands_before_a_smaller_one(values: list[float]) -> None:
    for scale in (linear_scale(values, 50, 480), log_scale([round(abs(value), 12) for value in values], 50, 480)):
        places = [scale.at(value) for value in sorted(values)]
        assert places == sorted(places)


@each(
    "values, ticks",
    [
        ([], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ([0.66, 0.94], (0.6, 0.7, 0.8, 0.9, 1.0)),
        ([0.0, 1.0], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ([7.0], (0.0, 5.0, 10.0, 15.0)),
        ([0.0], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    ],
)
def test_ticks_are_round(values: list[float], ticks: tuple[float, ...]) -> None:
    assert linear_scale(values, 0, 100).ticks == ticks


@each(
    "values, ticks",
    [
        ([0.0021, 0.2384], (0.003, 0.01, 0.03, 0.1, 0.3)),
        ([0.02, 0.18], (0.02, 0.05, 0.1, 0.2)),
        ([0.02, 0.05], (0.0, 0.01, 0.02, 0.03, 0.04, 0.05)),
        ([0.0, 0.0], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    ],
)
def test_costs_that_are_far_apart_have_a_logarithmic_axis(values: list[float], ticks: tuple[float, ...]) -> None:
    assert log_scale(values, 0, 100).ticks == ticks


def test_with_a_cost_of_nothing_the_axis_begins_at_0() -> None:
    scale = log_scale([0.0, 0.01, 1.0], 100, 200)
    assert (scale.at(0.0), scale.at(1.0)) == (100, 200)


@given(
    points=st.lists(st.tuples(st.text(min_size=1, max_size=40), st.floats(60, 470), st.floats(20, 240)), max_size=40)
)
def test_labels_cover_neither_each_other_nor_a_mark_and_stay_inside(points: list[tuple[str, float, float]]) -> None:
    placed = labels(points, ROOM)
    boxes = [label.box for label in placed]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert not any(box.overlaps(Box(x - 5, y - 5, x + 5, y + 5)) for box in boxes for _name, x, y in points)
    assert all(ROOM.left <= box.left and box.right <= ROOM.right for box in boxes)
    assert all(ROOM.top <= box.top and box.bottom <= ROOM.bottom for box in boxes)


def test_a_lone_mark_has_its_label_and_a_long_one_is_cut() -> None:
    [label] = labels([("x" * 64, 100.0, 100.0)], ROOM)
    assert (label.text, label.anchor) == ("x" * (LABEL_CHARS_MAX - 1) + "…", "start")
    [label] = labels([("sonnet", 479.0, 100.0)], ROOM)
    assert label.anchor != "start"


def test_a_spend_curve_stays_until_the_next_call() -> None:
    x, y = Scale(0, 10, 0, 100, ()), Scale(0, 1, 90, 10, ())
    assert steps([(0, 0), (2, 0.5), (4, 0.5), (10, 1)], x, y) == "M0,90H20V50H100V10"
    assert steps([(0, 0), (2, 0.5), (10, 0.5)], x, y) == "M0,90H20V50H100"
    assert steps([], x, y) == ""


@given(count=st.integers(0, 20_000))
def test_a_curve_of_many_calls_is_small(count: int) -> None:
    x, y = Scale(0, 20_000, 0, 200, ()), Scale(0, 20_000, 90, 10, ())
    assert len(steps(((n, n) for n in range(count)), x, y)) < 20_000
