"""The table of a run on a terminal."""

import re

import pytest
from msgspec.structs import replace
from rich.console import Console

from agent_preflight.base.tables import text_of
from agent_preflight.figures.intervals import Interval
from agent_preflight.figures.run_figures import TableFigures
from agent_preflight.runs.record import Notice, Score
from agent_preflight.views.run_table import live_frame, notice_line, run_parts, spend_bar, state_line
from tests.support.figures import ended, model, run, trial

NOTE = "budget exhausted ($0.2422 of $0.2500): the cheapest call needs $0.0101, and nothing more is coming back"
FIELD = run(
    trial("claude-sonnet-4", model_id="anthropic/claude-sonnet-4.5"),
    ended("greedy", status="spent", note=NOTE, posted_pusd=250_000_000_000),
    trial("idle", last_tool=None, posted_pusd=0, pending_pusd=0, calls=0, refused=0, rate_pusd_per_min=0),
    trial(
        "later", status="pending", state="", posted_pusd=0, pending_pusd=0, calls=None, last_tool=None, duration_s=None
    ),
    warnings=(Notice(0.0, "greedy", "spent", "the budget is spent"),),
)
HOSTILE = "\x1b[2J\x1b]0;owned\x07a\nb\x9b31m[bold red]c[/]\u202ed"


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tests independent of the terminal that they run in."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")


def frame(figures: TableFigures, width: int, height: int = 24, title: str = "run-1: press Ctrl-C") -> list[str]:
    """Return the lines that a terminal shows, without the spaces at their ends."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(live_frame(figures, title, width, height))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("posted", "pending", "bar"),
    [
        (0, 0, "··········"),
        (1, 0, "▏·········"),
        (50, 0, "█████·····"),
        (55, 0, "█████▌····"),
        (50, 20, "█████▒▒···"),
        (50, 1, "█████▒····"),
        (0, 1, "▒·········"),
        (99, 1, "█████████▒"),
        (99, 0, "█████████▉"),
        (100, 0, "██████████"),
        (130, 0, "██████████"),
        (50, 200, "█████▒▒▒▒▒"),
    ],
)
def test_a_bar_shows_spent_reserved_and_free_without_any_colour(posted: int, pending: int, bar: str) -> None:
    assert spend_bar(posted, pending, 100, 10).plain == bar


@pytest.mark.parametrize("chars", [1, 8, 13, 20])
def test_a_bar_is_full_only_if_the_limit_is_spent_and_has_its_width_always(chars: int) -> None:
    for posted in range(101):
        for pending in (0, 1, 37, 100):
            text = spend_bar(posted, pending, 100, chars).plain
            assert len(text) == chars
            assert (text == "█" * chars) == (posted == 100)
            assert ("▒" in text) == (pending > 0 and posted < 100)


def test_of_a_limit_of_nothing_a_bar_is_drawn_too() -> None:
    assert spend_bar(0, 0, 0, 4).plain == "····"
    assert spend_bar(1, 0, 0, 4).plain == "████"


def test_at_80_columns_the_most_important_columns_stay() -> None:
    assert frame(FIELD, 80) == [
        "run-1: press Ctrl-C",
        "trial            status   spent        cost    limit  calls  cached   time",
        "claude-sonnet-4  running  ███▉▒···  $0.1235  $0.2500  1,234     50%  2m00s",
        "greedy           spent    ████████  $0.2500  $0.2500  1,234     50%  2m00s",
        "idle             running  ········  $0.0000  $0.2500      0     50%  2m00s",
        "later            pending  ········  $0.0000  $0.2500      -     50%",
        "TOTAL                               $0.3735  $1.0000  2,468      0%",
        "",
        f"{notice_line(FIELD.warnings[0])}",
    ]


def test_at_140_columns_everything_that_moves_is_shown() -> None:
    lines = frame(FIELD, 140)
    assert lines[1].split() == [
        *(
            "trial",
            "status",
            "spent",
            "cost",
            "limit",
            "calls",
            "refused",
            "tokens",
            "cached",
            "$/min",
            "lasts",
            "tool",
        ),
        *("idle", "time", "note"),
    ]
    assert lines[2].split() == [
        *(
            "claude-sonnet-4",
            "running",
            "███▉▒···",
            "$0.1235",
            "$0.2500",
            "1,234",
            "2",
            "1,000",
            "50%",
            "$0.0617",
            "1m43s",
        ),
        *("bash", "2.5s", "2m00s"),
    ]
    assert lines[3].endswith("2m00s  budget exhausted (…")


def test_at_200_columns_the_model_and_what_is_reserved_are_shown_too() -> None:
    head, first = frame(FIELD, 200)[1:3]
    assert ("model" in head, "reserved" in head, "anthropic/claude-sonnet-4.5" in first, "$0.0200" in first) == (
        True,
    ) * 4


@pytest.mark.parametrize("width", [40, 60, 80, 99, 100, 120, 140, 163, 200])
@pytest.mark.parametrize("height", [5, 6, 9, 15, 24, 60])
def test_a_frame_never_exceeds_the_terminal_and_no_cost_is_cut(width: int, height: int) -> None:
    many = run(
        *(trial(f"t{n}") if n % 3 else ended(f"t{n}", note=NOTE) for n in range(20)),
        warnings=tuple(Notice(n, f"t{n}", "warning", f"warning {n}: {NOTE}") for n in range(5)),
    )
    lines = frame(many, width, height, title="run-1: press Ctrl-C to stop it, or from another terminal: stop run-1")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("t") and "trial" not in line]
    assert all("$0.1235" in row for row in rows)


def test_if_not_all_trials_have_room_the_running_ones_come_first_and_a_line_counts_the_others() -> None:
    many = run(
        *(ended(f"e{n}") for n in range(5)), trial("later", status="pending"), *(trial(f"r{n}") for n in range(4))
    )
    assert [line.split()[0] for line in frame(many, 80, 9)] == [
        "run-1:",
        "trial",
        "r0",
        "r1",
        "r2",
        "r3",
        "later",
        "TOTAL",
        "and",
    ]
    assert frame(many, 80, 9)[-1] == "and 5 more, for which the window is too low"
    in_order = [line.split()[0] for line in frame(many, 80, 13)]
    assert in_order == ["run-1:", "trial", "e0", "e1", "e2", "e3", "e4", "later", "r0", "r1", "r2", "r3", "TOTAL"]


def test_the_newest_warnings_stand_below_the_table_each_in_a_line() -> None:
    warned = run(trial(), warnings=tuple(Notice(n, "nano", "warning", f"w{n} " + "x" * 90) for n in range(5)))
    assert [line[10:18] for line in frame(warned, 60, 24)[-5:]] == [f"nano: w{n}" for n in range(5)]
    assert [line[10:18] for line in frame(warned, 60, 8)[-2:]] == ["nano: w3", "nano: w4"]
    assert frame(warned, 60, 24)[-1].endswith("x…")


def test_a_run_whose_trials_have_not_begun_shows_its_title_alone() -> None:
    assert frame(run(), 80) == ["run-1: press Ctrl-C"]


def test_the_sums_are_those_of_the_figures_and_not_of_the_rows() -> None:
    figures = run(trial("a"), trial("b"))
    figures = replace(figures, totals=replace(figures.totals, posted_pusd=7 * 10**12, calls=99))
    assert frame(figures, 80)[-1].split()[:4] == ["TOTAL", "$7.0000", "$0.5000", "99"]


def test_what_agents_say_is_neither_escape_nor_markup_nor_a_second_line() -> None:
    wild = trial("a", last_tool=HOSTILE, model_id=HOSTILE, state=HOSTILE, note=HOSTILE)
    figures = run(
        wild, ended("b", note=HOSTILE, score=Score(None, reason=HOSTILE)), warnings=(Notice(0.0, HOSTILE, "warning", HOSTILE),)
    )  # fmt: skip
    scored = replace(
        figures, has_scores=True, repeats=2, answer=(((HOSTILE, True),),), models=(model(HOSTILE, ended=HOSTILE),)
    )
    for text in ("\n".join(frame(figures, 200)), text_of(*run_parts(scored, each_trial=True), width=200)):
        assert [sign for sign in ("\x1b", "\x9b", "\u202e", "\x07") if sign in text] == []
        assert "[bold red]" in text
    assert len(frame(figures, 200)) == 7


def test_a_run_without_scores_prints_its_trials_without_what_only_moves() -> None:
    over = run(
        ended("greedy", status="spent", note=NOTE),
        ended("idle", refused=0),
        ended("later", status="pending", ended=False),
    )
    assert text_of(*run_parts(replace(over, live=False)), width=80).splitlines() == [
        "trial   status          cost    limit  calls  refused  tokens  cached   time",
        "greedy  spent        $0.1235  $0.2500  1,234        2   1,000     50%  2m00s",
        "idle    ejected      $0.1235  $0.2500  1,234            1,000     50%  2m00s",
        "later   not started  $0.1235  $0.2500  1,234        2   1,000     50%  2m00s",
        "TOTAL                $0.3704  $0.7500  3,702        4   3,000      0%",
        "greedy: budget exhausted ($0.2422 of $0.2500): the cheapest call needs $0.0101,",
        "and nothing more is coming back",
    ]


def test_a_cost_that_is_not_known_is_never_nothing() -> None:
    unknown = run(ended("a", posted_pusd=None, calls=None), ended("b", posted_pusd=None, calls=None))
    unknown = replace(unknown, totals=replace(unknown.totals, unknown_costs=2))
    for row in text_of(*run_parts(unknown), width=80).splitlines()[1:]:
        assert (row.count("$0.0000"), "-" in row.split()) == (0, True)


SCORED = run(
    ended("nano-1", status="done"),
    ended("nano-2", status="done", score=Score(None, reason="no number on the last line")),
    ended("gemini-1", status="spent", note="the budget is spent"),
    models=(
        model("nano", score=0.71, interval=Interval(0.58, 0.82), successes=2, scored=3, is_best=True, posted_pusd=6_400_000_000,
              cost_per_success_pusd=3_200_000_000),
        model("gemini", successes=0, cost_per_success_pusd=None, cost_interval_pusd=(10**9, 2 * 10**9), ended="1 done, 1 ejected"),
        model("lost", score=None, successes=None, scored=0, posted_pusd=None, cost_per_success_pusd=None, ended="lost"),
    ),
    repeats=3,
    answer=((("nano", True), (" is the best for the dollar.", False)), (("Scores cannot be told apart.", False),)),
)  # fmt: skip


def test_a_scored_run_prints_its_models_the_best_marked_without_colour_and_the_answer_below() -> None:
    assert text_of(*run_parts(SCORED), width=80).splitlines() == [
        "model   score  95 %          solved  each success     cost   time  ended",
        "nano     0.71  0.58 to 0.82     2/3     * $0.0032  $0.0064  1m12s  done",
        "gemini   0.50                   0/3          none  $0.0063  1m12s  1 done, 1",
        "                                                                   ejected",
        "lost        -                     -             -        -  1m12s  lost",
        "TOTAL                                              $0.3704",
        "* the lowest cost for each success",
        "nano-2: not scored: no number on the last line",
        "gemini-1: the budget is spent",
        "",
        "nano is the best for the dollar. Scores cannot be told apart.",
    ]


def test_a_wide_table_of_models_has_all_columns_in_the_order_of_the_page() -> None:
    head = text_of(*run_parts(SCORED), width=200).splitlines()[0]
    titles = re.split(r"  +", head)
    assert titles[:7] == ["model", "id", "score", "95 %", "solved", "each success", "spent"]
    assert titles[7:] == ["cost", "each trial", "95 %", "limit", "calls", "cached", "time", "ended"]


def test_the_status_of_a_run_with_repeats_has_each_trial_too() -> None:
    lines = text_of(*run_parts(SCORED, each_trial=True), width=80).splitlines()
    assert [line.split()[0] for line in lines[lines.index("") + 3 :]][:4] == ["trial", "nano-1", "nano-2", "gemini-1"]
    assert sum("the budget is spent" in line for line in lines) == 1


def test_how_a_trial_stands_is_a_line_and_so_is_a_notice() -> None:
    assert state_line("a", "done", 10**10, 1) == "[a] done: $0.0100 spent, 1 call"
    assert state_line("a\x1b[2J", "done", None, 1234) == "[a] done: an unknown amount spent, 1,234 calls"
    assert notice_line(Notice(0.0, None, "no_credit", "no credit\x1b[2J"))[8:] == "  run: no credit"
