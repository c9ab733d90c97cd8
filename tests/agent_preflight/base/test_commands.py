"""Short commands end, one way or another."""

import sys
from collections.abc import Callable

import pytest

from agent_preflight.base import commands
from agent_preflight.base.commands import CommandError
from tests.support.cases import each


@pytest.mark.wire
def test_a_command_s_code_and_texts_are_told() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert commands.run([sys.executable, "-S", "-c", script], timeout_s=30) == (3, "out")


@pytest.mark.wire
def test_a_command_that_reads_finds_no_input() -> None:
    assert commands.run(["cat"], timeout_s=30) == (0, "")


@pytest.mark.wire
def test_an_argument_is_never_a_command() -> None:
    assert commands.run(["echo", "$(id); `id`"], timeout_s=30) == (0, "$(id); `id`")


@each("run", [commands.run, commands.show])
def test_an_absent_program_is_an_error_that_names_it(run: Callable[..., object]) -> None:
    with pytest.raises(CommandError, match=r"^agent-preflight-no-such-program CLI not found$"):
        run(["agent-preflight-no-such-program"], timeout_s=30)
    with pytest.raises(CommandError, match=r"^echo CLI not found$"):
        run(["echo", "a\0b"], timeout_s=30)


@pytest.mark.wire
def test_a_command_that_does_not_end_is_killed() -> None:
    with pytest.raises(CommandError, match=r"^sleep timed out$"):
        commands.run(["sleep", "60"], timeout_s=0.05)


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


@pytest.mark.wire
def test_a_shown_command_that_does_not_end_is_killed() -> None:
    assert commands.show(["sleep", "60"], timeout_s=0.05) == 124
