"""The figures of trials, models and runs."""

from agent_preflight.figures.run_figures import page_figures, table_figures
from tests.support.records import BEGUN_S, CENT, a_field


def test_the_lowest_cost_for_each_success_is_the_best() -> None:
    record = a_field({"nano": [CENT, CENT], "haiku": [3 * CENT, 3 * CENT]}, {"nano": [0.0, 1.0], "haiku": [1.0, 1.0]})
    nano, haiku = table_figures(record, BEGUN_S).models
    assert (nano.cost_per_success_pusd, haiku.cost_per_success_pusd) == (2 * CENT, 3 * CENT)
    assert (nano.is_best, haiku.is_best) == (True, False)


def test_a_page_has_the_figures_of_the_table() -> None:
    record = a_field({"nano": [CENT]})
    assert page_figures(record, BEGUN_S).table == table_figures(record, BEGUN_S)
