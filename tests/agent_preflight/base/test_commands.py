"""Short commands end, one way or another."""

import sys

import pytest

from agent_preflight.base import commands
from agent_preflight.base.commands import CommandResult, NotInstalled, TimedOut


@pytest.mark.wire
def test_a_command_s_code_and_texts_are_told() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert commands.run([sys.executable, "-S", "-c", script], timeout_s=30) == CommandResult(3, "out", "err")


@pytest.mark.wire
def test_a_command_that_reads_finds_no_input() -> None:
    assert commands.run(["cat"], timeout_s=30) == CommandResult(0, "", "")


@pytest.mark.wire
def test_an_argument_is_never_a_command() -> None:
    assert commands.run(["echo", "$(id); `id`"], timeout_s=30) == CommandResult(0, "$(id); `id`", "")


def test_an_absent_program_is_no_exception() -> None:
    assert commands.run(["agent-preflight-no-such-program"], timeout_s=30) == NotInstalled()
    assert commands.run(["echo", "a\0b"], timeout_s=30) == NotInstalled()


@pytest.mark.wire
def test_a_command_that_does_not_end_is_killed() -> None:
    assert commands.run(["sleep", "60"], timeout_s=0.05) == TimedOut()


@pytest.mark.wire
def test_what_a_shown_command_prints_goes_where_ours_goes_and_its_code_is_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert commands.show([sys.executable, "-S", "-c", script], timeout_s=30) == 3
    assert capfd.readouterr() == ("out\n", "err\n")


@pytest.mark.wire
def test_a_shown_command_gets_no_input() -> None:
    assert commands.show(["cat"], timeout_s=30) == 0


def test_an_absent_program_cannot_be_shown() -> None:
    assert commands.show(["agent-preflight-no-such-program"], timeout_s=30) == NotInstalled()
    assert commands.show(["echo", "a\0b"], timeout_s=30) == NotInstalled()


@pytest.mark.wire
def test_a_shown_command_that_does_not_end_is_killed() -> None:
    assert commands.show(["sleep", "60"], timeout_s=0.05) == 124
