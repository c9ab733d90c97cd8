"""How figures become the values of rows, and when a run is void."""

import pytest

from tests.bench.rows import NGINX_TIMES_MAX, ROWS, Row, Samples, Unit, chosen_rows, why_void
from tests.support.cases import each


def samples(**figures: list[float]) -> Samples:
    """Return figures `x` of subjects by their names, `_` for a space."""
    return {(subject.replace("_", " "), "x"): values for subject, values in figures.items()}


def test_what_a_subject_adds_is_its_time_less_that_without_a_proxy() -> None:
    """Each round is one ratio."""
    row = Row("x", "x", "us", Unit.ADDED)
    assert row.reached(samples(no_proxy=[100, 200], naive=[200, 400], ours=[150, 500])) == [0.5, 1.5]


def test_a_figure_is_divided_by_the_naive_subjects() -> None:
    assert Row("x", "x", "us", Unit.NAIVE).reached(samples(naive=[2, 4], ours=[3, 2])) == [1.5, 0.5]


def test_a_figure_is_divided_by_its_base() -> None:
    row = Row("x", "x", "us", Unit.BASE, base="y")
    assert row.reached({("ours", "x"): [6.0], ("ours", "y"): [4.0]}) == [1.5]
    assert row.figures() == {"x", "y"}


def test_what_was_not_measured_reaches_nothing_and_breaks_no_bound() -> None:
    row = Row("x", "x", "us", Unit.ADDED, must=1.0)
    assert row.reached({}) == []
    assert row.holds({})


def test_the_median_decides_whether_a_bound_holds() -> None:
    row = Row("x", "x", "us", Unit.ITSELF, must=1.0)
    assert row.holds(samples(ours=[0.5, 1.0, 9.0]))
    assert not row.holds(samples(ours=[0.5, 1.1, 1.2]))
    assert row.holds(samples(ours=[1.9]), slack=2.0)
    assert not row.holds(samples(ours=[2.1]), slack=2.0)


def test_a_lower_bound_holds_above_it() -> None:
    row = Row("x", "x", "1/s", Unit.ITSELF, must=0.9, at_least=True)
    assert row.holds(samples(ours=[0.9]))
    assert not row.holds(samples(ours=[0.8]))
    assert row.holds(samples(ours=[0.46]), slack=2.0)
    assert not row.holds(samples(ours=[0.44]), slack=2.0)


def test_rows_are_chosen_by_their_name_or_their_beginning() -> None:
    assert [row.figure for row in chosen_rows(["cpu", "p50"], quick=False)] == ["p50_1", "p50_16", "cpu"]
    assert {row.figure for row in chosen_rows(["cpu_"], quick=True)} == {"cpu_1e3", "cpu_1e5", "cpu_256"}
    with pytest.raises(ValueError, match="nonsense"):
        chosen_rows(["cpu", "nonsense"], quick=False)


def test_without_names_all_rows_or_the_quick_ones_are_chosen() -> None:
    assert chosen_rows([], quick=False) == list(ROWS)
    assert [row for row in ROWS if row.quick] == chosen_rows([], quick=True)


@each("naive_us, void", [(NGINX_TIMES_MAX * 20.0, False), (NGINX_TIMES_MAX * 20.0 + 1, True)])
def test_a_run_with_a_slow_naive_subject_is_void(naive_us: float, void: bool) -> None:
    """Every ratio would look better than it is."""
    found: Samples = {("naive", "cpu"): [naive_us], ("nginx", "cpu"): [20.0]}
    assert (why_void(found) is not None) == void


def test_without_nginx_nobody_judges_the_naive_subject() -> None:
    assert why_void({("naive", "cpu"): [10_000.0]}) is None
