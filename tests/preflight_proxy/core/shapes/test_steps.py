"""Steps are done in order, and work that may take long is handed over."""

import pytest

from preflight_proxy.core.shapes.steps import STEP_COST, VALUE_COST, Steps, apart, run_steps, text_cost
from tests.support.cases import each


def test_steps_are_done_at_once_where_nobody_waits() -> None:
    def count() -> Steps[list[int]]:
        done = [(yield lambda: 1)]
        yield None
        done.append((yield lambda: 2))
        return done

    assert run_steps(count()) == [1, 2]


def test_each_value_of_a_text_costs_more_than_its_bytes() -> None:
    assert text_cost(b"xyz") == 3
    assert text_cost(b'[{"a":1},2]') == 11 + 3 * VALUE_COST


@each("cost, is_long", [(0, False), (STEP_COST, False), (STEP_COST + 1, True)])
def test_what_costs_more_than_a_step_is_handed_over(cost: int, is_long: bool) -> None:
    steps = apart(lambda: 7, cost)
    if not is_long:
        with pytest.raises(StopIteration) as end:
            next(steps)
        assert end.value.value == 7
        return
    work = next(steps)
    assert work is not None
    assert work() == 7
    with pytest.raises(StopIteration) as end:
        steps.send(8)
    assert end.value.value == 8
