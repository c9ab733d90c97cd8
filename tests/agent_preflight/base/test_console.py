"""Printing for people."""

import io
import os
import sys

import pytest

from agent_preflight.base.console import say, write_line


def test_a_line_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say("a")
    say()
    assert capsys.readouterr().out == "a\n\n"


def test_a_terminal_that_lacks_a_character_shows_another(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    say("a─b")
    assert buffer.getvalue() == b"a?b\n"


def test_a_pipe_whose_reader_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        os.close(reader)
        write_line(stream, "nobody reads this")
        write_line(stream, "nor this")
