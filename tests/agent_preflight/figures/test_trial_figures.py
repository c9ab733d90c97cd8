"""Figures of a trial."""

from agent_preflight.figures.run_figures import table_figures
from tests.support.records import BEGUN_S, CENT, a_field


def test_a_trial_has_its_costs() -> None:
    (figures,) = table_figures(a_field({"nano": [CENT]}), BEGUN_S).trials
    assert figures.posted_pusd == CENT
