"""The report in its known form."""

from agent_preflight.checks.report import CheckLine, failed, foot, line_text, passed, print_report, skipped, warned


def test_only_a_failed_line_has_a_failure() -> None:
    assert [(line.ok, line.failure) for line in (passed("n", "d"), warned("n", "d"), skipped("n", "d"))] == [
        (True, ""),
        (None, ""),
        (None, ""),
    ]
    assert (failed("n", "d").ok, failed("n", "d").failure) == (False, "n: d")
    assert failed("n", "d", "f").failure == "f"


def test_a_report_has_a_head_and_lists_each_failure_once() -> None:
    printed: list[str] = []
    lines = [failed("A", "bad", "f"), failed("B", "bad", "f"), skipped("C", "no"), failed("D", "bad", "g")]
    assert print_report(lines, printed.append) == ["f", "g"]
    assert printed[:4] == ["", "  " + "=" * 60, "  PREFLIGHT CHECKS", "  " + "=" * 60]
    assert printed[-4:] == ["  PREFLIGHT FAILED (2 issues):", "    x f", "    x g", ""]


def test_a_line_has_the_sign_of_its_finding() -> None:
    assert line_text(passed("A", "fine")) == "  [v] A  fine"
    assert line_text(warned("A", "hm")) == "  [!] A  hm"
    assert line_text(failed("A", "bad", "f")) == "  [x] A  bad"


def test_a_hint_follows_the_detail() -> None:
    assert line_text(CheckLine(False, "A", "bad", "f", "do this")) == "  [x] A  bad -> do this"


def test_colour_is_for_the_sign_only() -> None:
    assert line_text(passed("A", "x"), colour=True) == "  [\x1b[32mv\x1b[0m] A  x"


def test_control_characters_are_removed() -> None:
    line = CheckLine(False, "A\x1b[2J", "b\x1b]0;t\x07ad\nnews", "f", "h\x9bint")
    assert line_text(line) == "  [x] A  bad news -> hnt"
    assert foot(["\x1b[31mred"]) == ["", "  PREFLIGHT FAILED (1 issue):", "    x red", ""]


def test_the_foot_counts_in_singular_and_plural() -> None:
    assert foot(["a", "b"])[1] == "  PREFLIGHT FAILED (2 issues):"
    assert foot([]) == ["", "  All preflight checks passed.", ""]
    assert foot([], warnings=1) == ["", "  All preflight checks passed, with 1 warning.", ""]
    assert foot([], warnings=2)[1] == "  All preflight checks passed, with 2 warnings."
