"""The pages of `ui` show what is in the runs folder, and render nothing twice that did not change."""

from pathlib import Path

import pytest

from agent_preflight.views.live_pages import LivePages, View, rows_page
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each
from tests.support.ledger_on_disk import call, open_store
from tests.support.run_on_disk import EVENTS, alive, begin, finish, keep_ledger, plan


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one run that is over."""
    run = plan(tmp_path / "some runs" / "run-a", "nano", "mini")
    keep_ledger(run, "nano", "mini")
    begin(run, "nano", *EVENTS)
    finish(run, "nano")
    finish(run, "mini", error="out of order")
    return tmp_path / "some runs"


@each(
    "view, path",
    [
        (View(), "/"),
        (View(number=2), "/"),
        (View("r"), "/run/r"),
        (View("r", "t"), "/run/r/trial/t"),
        (View("r", calls=True), "/run/r/calls"),
        (View("r", "t", calls=True, number=3), "/run/r/trial/t/calls"),
        (View("../r", 'a/"b?'), "/run/..%2Fr/trial/a%2F%22b%3F"),
        (View("r\udcff"), "/run/r%FF"),
    ],
)
def test_every_page_has_its_path(view: View, path: str) -> None:
    assert view.path == path


@each("count, number, first, last", [(0, 1, 0, 1), (100, 1, 0, 1), (101, 2, 100, 2), (101, 9, 100, 2), (250, 0, 0, 3)])
def test_rows_are_cut_into_pages(count: int, number: int, first: int, last: int) -> None:
    page = rows_page(range(count), number)
    assert (page["first"], page["last"], page["total"]) == (first, last, count)
    assert list(page["rows"]) == list(range(count))[first : first + 100]


def test_the_page_of_runs_lists_them_with_their_costs(runs: Path) -> None:
    plan(runs / "run-b", "nano")
    (runs / "no run").mkdir()
    html = LivePages(runs).fragments(View(), "/s")["runs"]
    assert '<a href="/s/run/run-a">run-a</a>' in html
    assert "$0.0200" in html
    assert "2 of 2" in html
    assert '<a href="/s/run/run-b">run-b</a>' in html
    assert "no run<" not in html


def test_a_trial_shows_the_ledgers_figures_to_the_last_digit(runs: Path) -> None:
    store = open_store(runs / "run-a")
    call(store, "small", 123_456_789, "nano")
    store.close()
    html = LivePages(runs).fragments(View("run-a", "nano"), "")["trial"]
    assert "$0.010123456789" in html
    assert "$0.2500" in html


def test_a_run_that_is_going_on_shows_the_commands_that_change_it(runs: Path) -> None:
    pages = LivePages(runs)
    assert "agent-preflight stop" not in pages.fragments(View("run-a"), "")["commands"]
    with alive(runs / "run-a"):
        of_run = LivePages(runs).fragments(View("run-a"), "")["commands"]
        of_trial = LivePages(runs).fragments(View("run-a", "nano"), "")["commands"]
    assert f">agent-preflight stop run-a --runs-dir &#39;{runs}&#39;</pre>" in of_run
    assert f">agent-preflight stop run-a nano --runs-dir &#39;{runs}&#39;</pre>" in of_trial
    assert f">agent-preflight top-up run-a nano=1.00 --runs-dir &#39;{runs}&#39;</pre>" in of_trial


def test_a_run_that_is_over_is_rendered_once_until_something_changes(runs: Path) -> None:
    pages = LivePages(runs)
    for view in (View("run-a"), View("run-a", "nano"), View("run-a", calls=True)):
        first = pages.fragments(view, "")
        assert pages.fragments(view, "") is first
        store = open_store(runs / "run-a")
        call(store, f"after {view.path}", 10**10, "nano")
        store.close()
        assert pages.fragments(view, "") is not first


def test_the_page_of_a_run_that_is_going_on_goes_with_the_time(runs: Path) -> None:
    pages = LivePages(runs)
    begin(runs / "run-a", "other", *EVENTS)
    with alive(runs / "run-a"):
        first = pages.fragments(View("run-a", "other"), "")
        assert pages.fragments(View("run-a", "other"), "") is not first


@each("view, text", [(View("run-x"), 'no run "run-x"'), (View("run-a", "x"), 'no trial "x"'), (View(".."), "no run")])
def test_what_is_not_there_is_a_sentence(view: View, text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        plan(Path(folder) / "run-a", "nano")
        with pytest.raises(ConfigError, match=text):
            LivePages(Path(folder)).fragments(view, "")
