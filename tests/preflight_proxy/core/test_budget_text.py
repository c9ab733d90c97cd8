"""budget.txt, byte for byte."""

from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.budget_text import LABEL_CHARS_MAX, Action, detailed_text, label_text, simple_text
from tests.support.cases import each

USD = 10**12
CENT = USD // 100

SAMPLE = """\
Budget: $0.412 remaining of $0.50 (82% left)

Recent costs:
  - $0.0310  (grep)
  - $0.0570  (thinking)

Total actions: 2  |  Avg cost/action: $0.0440
Estimated actions remaining: ~9
"""


def test_the_simple_text_is_one_line() -> None:
    assert simple_text(88 * USD // 1000, USD // 2) == "Budget: $0.412 remaining of $0.50 (82% left)\n"


def test_the_detailed_text_is_the_known_sample() -> None:
    actions = [Action("grep", 31 * USD // 1000), Action("", 57 * USD // 1000)]
    assert detailed_text(88 * USD // 1000, USD // 2, actions, 2) == SAMPLE


def test_without_an_action_it_says_so() -> None:
    assert detailed_text(0, USD, [], 0) == "Budget: $1.000 remaining of $1.00 (100% left)\n\n(No cost data yet)\n"


def test_overspent_reads_as_nothing_left_never_as_a_negative_percentage() -> None:
    assert simple_text(119 * CENT, USD) == "Budget: $0.000 remaining of $1.00 (0% left)\n"


def test_a_limit_of_nothing_has_nothing_left() -> None:
    assert simple_text(0, 0) == "Budget: $0.000 remaining of $0.00 (0% left)\n"


def test_nine_tenths_used_leaves_ten_percent_exactly() -> None:
    assert "(10% left)" in simple_text(90 * CENT, USD)


def test_the_percentage_is_cut_towards_zero() -> None:
    assert "(0% left)" in simple_text(USD - 1, USD)


def test_only_the_five_newest_actions_are_listed_oldest_first() -> None:
    actions = [Action(f"tool{n}", CENT) for n in range(8)]
    text = detailed_text(8 * CENT, USD, actions, 8)
    assert [line for line in text.splitlines() if "(tool" in line] == [f"  - $0.0100  (tool{n})" for n in range(3, 8)]
    assert "Total actions: 8  |  Avg cost/action: $0.0100" in text
    assert text.endswith("Estimated actions remaining: ~92\n")


def test_the_average_counts_all_actions_not_only_those_kept() -> None:
    text = detailed_text(50 * CENT, USD, [Action("last", CENT)], 100)
    assert "Total actions: 100  |  Avg cost/action: $0.0050" in text


def test_an_average_of_nearly_nothing_gives_no_estimate() -> None:
    assert detailed_text(USD // 10_000, USD, [Action("a", USD // 10_000)], 1).endswith("~0\n")


def test_overspent_leaves_no_actions() -> None:
    assert detailed_text(2 * USD, USD, [Action("a", 2 * USD)], 1).endswith("~0\n")


@each("label", ["a\nEOF\nrm -rf /", "\x1b[2Jx", "a\x00b", "\u202eevil", "a\u2028b", "\ud800", "\x9b31mred", "a\r\nb"])
def test_a_hostile_label_stays_on_its_line(label: str) -> None:
    text = detailed_text(CENT, USD, [Action(label, CENT)], 1)
    assert len(text.splitlines()) == 7
    assert all(c.isprintable() or c == "\n" for c in text)
    text.encode()


def test_a_long_label_is_cut() -> None:
    assert len(label_text("x" * 10**6)) == LABEL_CHARS_MAX


@each("label", ["", "   ", "\n\t", "\x00"])
def test_a_label_with_nothing_to_show_reads_thinking(label: str) -> None:
    assert label_text(label) == "thinking"


@given(used=st.integers(0, 2 * USD), limit=st.integers(0, 2 * USD))
def test_the_share_left_is_between_nothing_and_all(used: int, limit: int) -> None:
    line = simple_text(used, limit)
    percent = int(line.rpartition("(")[2].partition("%")[0])
    assert 0 <= percent <= 100
    assert "-" not in line


@given(cents=st.integers(0, 10_000))
def test_whole_cents_read_as_python_would_format_them(cents: int) -> None:
    assert f"of ${cents / 100:.2f} (" in simple_text(0, cents * CENT)


def test_a_correction_downwards_shows_its_sign() -> None:
    assert "  - $-0.0100  (adjusted)" in detailed_text(CENT, USD, [Action("adjusted", -CENT)], 1)


def test_a_tie_is_rounded_to_the_even_figure() -> None:
    assert "$0.000 remaining" in simple_text(0, USD // 2000)
    assert "$0.002 remaining" in simple_text(0, 3 * USD // 2000)
