"""Commands of other programs: code, output and time limit."""

import sys

import pytest

from agent_preflight.base import commands
from agent_preflight.base.commands import CommandError


@pytest.mark.wire
def test_a_command_returns_its_code_and_output() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert commands.run([sys.executable, "-S", "-c", script], timeout_s=30) == (3, "out")


@pytest.mark.wire
def test_a_command_gets_no_input() -> None:
    assert commands.run(["cat"], timeout_s=30) == (0, "")


@pytest.mark.wire
def test_an_argument_is_not_run_by_a_shell() -> None:
    assert commands.run(["echo", "$(id); `id`"], timeout_s=30) == (0, "$(id); `id`")


def test_an_absent_program_is_an_error_that_names_it() -> None:
    with pytest.raises(CommandError, match=r"^agent-preflight-no-such-program CLI not found$"):
        commands.run(["agent-preflight-no-such-program"], timeout_s=30)
    with pytest.raises(CommandError, match=r"^echo CLI not found$"):
        commands.run(["echo", "a\0b"], timeout_s=30)


@pytest.mark.wire
def test_a_command_that_does_not_end_is_killed() -> None:
    with pytest.raises(CommandError, match=r"^sleep timed out$"):
        commands.run(["sleep", "60"], timeout_s=0.05)


@pytest.mark.wire
def test_the_output_of_a_shown_command_goes_where_ours_goes(capfd: pytest.CaptureFixture[str]) -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert commands.run([sys.executable, "-S", "-c", script], timeout_s=30, shown=True) == (3, "")
    assert capfd.readouterr() == ("out\n", "err\n")
