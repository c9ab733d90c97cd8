"""What others wrote cannot drive the reader's terminal."""

from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.terminal import plain
from tests.support.cases import each


@each(
    "text, shown",
    [
        ("plain text", "plain text"),
        ("über 日本", "über 日本"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1b(Bx", "x"),
        ("\x1bPdevice\x1b\\x", "x"),
        ("cut \x1b[", "cut "),
        ("cut \x1b", "cut "),
        ("a\rb\x08c\x00d", "a b c d"),
        ("a\u202eb", "a b"),
        ("one\ntwo", "one two"),
        ("\ud800", " "),
    ],
)
def test_escapes_are_dropped_and_controls_become_spaces(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_lines_may_be_kept() -> None:
    assert plain("one\n\ttwo\r\x1b[1m", keep_lines=True) == "one\n\ttwo "


@given(st.text(alphabet="a\x1b[]0;m\x07\\\x9b\x9c\n?$ P", max_size=20))
def test_nothing_that_does_not_print_remains(text: str) -> None:
    assert plain(text).isprintable()
