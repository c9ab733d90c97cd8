"""The report in its known form."""

from agent_preflight.checks import report
from agent_preflight.checks.line import CheckLine, failed, passed, warned


def test_the_head() -> None:
    assert report.head() == ["", "  " + "=" * 60, "  PREFLIGHT CHECKS", "  " + "=" * 60]


def test_signs() -> None:
    assert report.line_text(passed("A", "fine")) == "  [v] A  fine"
    assert report.line_text(warned("A", "hm")) == "  [!] A  hm"
    assert report.line_text(failed("A", "bad", "f")) == "  [x] A  bad"


def test_hints_follow() -> None:
    assert report.line_text(CheckLine(False, "A", "bad", "f", "do this")) == "  [x] A  bad -> do this"


def test_colour_is_for_the_sign_only() -> None:
    assert report.line_text(passed("A", "x"), colour=True) == "  [\x1b[32mv\x1b[0m] A  x"


def test_what_others_wrote_is_made_plain() -> None:
    line = CheckLine(False, "A\x1b[2J", "b\x1b]0;t\x07ad\nnews", "f", "h\x9bint")
    assert report.line_text(line) == "  [x] A  bad news -> hnt"
    assert report.foot(["\x1b[31mred"]) == ["", "  PREFLIGHT FAILED (1 issue):", "    x red", ""]


def test_the_foot_counts_in_words_that_fit() -> None:
    assert report.foot(["a", "b"])[1] == "  PREFLIGHT FAILED (2 issues):"
    assert report.foot([]) == ["", "  All preflight checks passed.", ""]
    assert report.foot([], warnings=1) == ["", "  All preflight checks passed, with 1 warning.", ""]
    assert report.foot([], warnings=2)[1] == "  All preflight checks passed, with 2 warnings."
