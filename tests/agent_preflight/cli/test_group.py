"""The command line as scripts know it: help, unknown commands, errors in one line, and how little it loads."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import agent_preflight
from agent_preflight.cli import app

COMMANDS = ("preflight", "run", "status", "costs", "cache-report", "proxy", "simulate", "demo")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_no_arguments_and_both_spellings_print_the_help_and_exit_with_0(arguments: list[str]) -> None:
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0
    assert all(command in told.stdout for command in COMMANDS)


def test_an_unknown_command_says_which_there_are_and_exits_with_1() -> None:
    told = CliRunner().invoke(app, ["stauts"])
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("Unknown command: stauts. Available: preflight, ")


def test_a_bad_option_exits_with_2() -> None:
    assert CliRunner().invoke(app, ["status", "--nope"]).exit_code == 2


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.strip().endswith(agent_preflight.__version__)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    told = CliRunner().invoke(app, [command, "-h"])
    assert told.exit_code == 0
    assert "Example:" in told.stdout


def test_help_loads_no_http_library_and_no_rich() -> None:
    source = (
        "import sys\nfrom agent_preflight.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
        "print(*sorted({'aiohttp', 'httpx', 'rich', 'msgspec', 'sqlite3'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_escapes_from_elsewhere_do_not_reach_the_terminal() -> None:
    told = CliRunner().invoke(app, ["sta\x1b[31mtus"])
    assert "\x1b" not in told.stderr
