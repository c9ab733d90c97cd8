"""What every command has in common: help, unknown names, errors in one line."""

import pytest
from typer.testing import CliRunner, Result

from agent_preflight import __version__
from agent_preflight.cli import app
from agent_preflight.cli.group import complain


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_help_is_no_failure(arguments: tuple[str, ...]) -> None:
    told = run(*arguments)
    assert told.exit_code == 0
    assert "Commands" in told.stdout
    assert "Exit codes" in told.stdout


def test_the_version_is_told() -> None:
    assert run("--version").stdout == f"agent-preflight {__version__}\n"


def test_an_unknown_command_is_exit_code_1_and_names_the_others() -> None:
    told = run("fly")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("Unknown command: fly. Available: preflight, ")


def test_a_bad_option_is_exit_code_2() -> None:
    assert run("status", "--fly").exit_code == 2


@pytest.mark.parametrize("name", [command.name for command in app.registered_commands])
def test_every_command_has_help_with_an_example(name: str) -> None:
    told = run(name, "--help")
    assert told.exit_code == 0
    assert "Example: " in told.stdout


def test_what_fails_says_so_in_one_line() -> None:
    told = run("top-up", "no-such-run", "a=1")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == "There is no run no-such-run in runs/.\n"


def test_escapes_of_others_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a\x1b[31mred\x1b]0;title\x07\nb")
    assert capsys.readouterr().err == "ared\nb\n"
