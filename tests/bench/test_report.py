"""What is printed, kept and drawn of a result."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from tests.bench.page import page
from tests.bench.picture import draw
from tests.bench.report import Result, as_json, from_json, merged, table
from tests.bench.rows import chosen_rows

RESULT = Result(
    {"processor": "two cores"},
    "2026-11-30",
    chosen_rows(["cpu", "calls"], quick=False),
    {
        ("naive", "cpu"): [400.0, 500.0, 410.0],
        ("ours", "cpu"): [800.0, 500.0, 410.0],
        ("nginx", "cpu"): [40.0, 41.0, 42.0],
        ("naive", "calls"): [2000.0] * 3,
        ("ours", "calls"): [1000.0] * 3,
    },
    None,
)


def line(text: str, beginning: str) -> str:
    """Return the line that begins so."""
    (found,) = [line for line in text.splitlines() if line.startswith(beginning)]
    return found


def test_a_table_has_medians_bounds_and_whether_they_hold() -> None:
    text = table(RESULT)
    assert line(text, "CPU per call").split()[-8:] == ["410", "500", "41", "1x", "0.7x", "1x", "(1-2)", "ok"]
    assert line(text, "calls/s").endswith(">0.9x  >1.5x  0.5x (0.5-0.5) MISSED")
    assert "processor: two cores" in text


def test_a_void_run_says_so() -> None:
    void = replace(RESULT, void="nobody did any work")
    assert "VOID: nobody did any work" in table(void)
    assert "This run is void:** nobody did any work." in page(void)


def test_a_result_is_read_back_as_it_was_written() -> None:
    assert from_json(as_json(RESULT)) == RESULT


def test_of_two_runs_the_later_figures_count() -> None:
    later = replace(
        RESULT,
        date="2026-12-01",
        rows=chosen_rows(["cpu"], quick=False),
        samples={("naive", "cpu"): [300.0], ("ours", "cpu"): [200.0]},
    )
    both = merged([RESULT, later])
    assert both.rows == RESULT.rows
    assert both.date == "2026-12-01"
    assert both.samples == later.samples | {key: RESULT.samples[key] for key in RESULT.samples if key[1] == "calls"}


def test_a_page_has_a_row_for_each_measure() -> None:
    text = page(RESULT)
    assert line(text, "| CPU per call").endswith("| 410 | 500 | 41 | 1x | 0.7x | 1x (1-2) ok |")
    assert "- processor: two cores\n" in text


def test_a_picture_is_svg_with_a_bar_for_each_ratio_and_those_missed_in_another_colour() -> None:
    root = ElementTree.fromstring(draw(RESULT))
    bars = [element.get("class") for element in root if element.tag.endswith("rect")]
    assert bars == ["bar", "bar missed"]
