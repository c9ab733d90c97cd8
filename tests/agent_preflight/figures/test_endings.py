"""Figures of a run."""

from agent_preflight.figures.run_figures import page_figures
from tests.support.records import BEGUN_S, a_run


def test_a_run_without_trials_has_no_figures() -> None:
    assert page_figures(a_run(), BEGUN_S).table.models == ()
