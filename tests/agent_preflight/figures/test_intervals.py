"""95 % intervals against values from tables."""

import pytest

from agent_preflight.figures.intervals import Interval, mean_interval, share_interval, t_quantile
from tests.support.cases import each


@each(
    "degrees, quantile",
    [
        *[(1, 12.7062047362), (2, 4.3026527297), (3, 3.1824463053), (4, 2.7764451052), (5, 2.5705818356)],
        *[(9, 2.2621571628), (10, 2.2281388520), (30, 2.0422724563), (100, 1.9839715185)],
    ],
)
def test_quantiles_of_students_t_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(degrees) == pytest.approx(quantile, abs=1e-9)


@each(
    "successes, trials, low, high",
    [(2, 3, 0.2076596, 0.9385081), (8, 10, 0.4901625, 0.9433178), (0, 3, 0.0, 0.5614970), (3, 3, 0.4385030, 1.0)],
)
def test_the_interval_of_a_share_is_wilsons(successes: int, trials: int, low: float, high: float) -> None:
    interval = share_interval(successes, trials)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-7)


def test_the_interval_of_a_mean_is_students() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])  # s = 1, t(2) = 4.3026527, half = t / sqrt(3)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((-0.4841377, 4.4841377))


def test_too_few_values_have_no_interval() -> None:
    assert mean_interval([0.5]) is None
    assert mean_interval([]) is None
    assert share_interval(0, 0) is None


@each(
    "one, other, overlap",
    [((0, 1), (1, 2), True), ((0, 1), (1.1, 2), False), ((0, 3), (1, 2), True), ((2, 3), (0, 1.9), False)],
)
def test_intervals_overlap_if_they_have_a_value_in_common(
    one: tuple[float, float], other: tuple[float, float], overlap: bool
) -> None:
    assert Interval(*one).overlaps(Interval(*other)) is overlap
    assert Interval(*other).overlaps(Interval(*one)) is overlap
