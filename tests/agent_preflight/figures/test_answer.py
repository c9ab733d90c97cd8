"""The sentences of a run."""

from agent_preflight.figures.answer import text_of
from agent_preflight.figures.run_figures import table_figures
from tests.support.records import BEGUN_S, a_run


def test_a_run_without_trials_has_no_figures() -> None:
    assert text_of(table_figures(a_run(), BEGUN_S).answer) == "No trial has started."
