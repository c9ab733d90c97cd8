"""Steps are done in order, and work that may take long is handed over."""

import pytest

from preflight_proxy.core.shapes.steps import LONG_BYTES, LONG_VALUES, Steps, apart, run_steps
from tests.support.cases import each


def test_steps_are_done_at_once_where_nobody_waits() -> None:
    def count() -> Steps[list[int]]:
        done = [(yield lambda: 1)]
        yield None
        done.append((yield lambda: 2))
        return done

    assert run_steps(count()) == [1, 2]


@each(
    "text, is_long",
    [
        (b"x" * LONG_BYTES, False),
        (b"x" * (LONG_BYTES + 1), True),
        (b"," * LONG_VALUES, False),
        (b"," * (LONG_VALUES + 1), True),
    ],
)
def test_what_reads_a_long_text_is_handed_over(text: bytes, is_long: bool) -> None:
    steps = apart(lambda: 7, b"", text)
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
