"""The command line as scripts know it: help, unknown commands, errors in one line, and how little it loads."""

import errno
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from agent_preflight import __version__
from agent_preflight.cli import Commands, app
from agent_preflight.cli.proxy import account_app
from agent_preflight.cli.proxy import app as proxy_app
from agent_preflight.cli.shared import complain
from tests.support.cases import each
from tests.support.cli_commands import invoke

PROXY = [str(command.name) for command in proxy_app.registered_commands]
ACCOUNT = [str(command.name) for command in account_app.registered_commands]
COMMANDS = [*(str(command.name) for command in app.registered_commands), "proxy"]
"""The one with commands of its own comes last."""
BELOW = [*(f"proxy {name}" for name in PROXY), "proxy account", *(f"proxy account {name}" for name in ACCOUNT)]


@each("arguments", [(), ("-h",), ("--help",)])
def test_no_arguments_and_both_spellings_print_the_help_and_exit_with_0(arguments: tuple[str, ...]) -> None:
    told = invoke(*arguments)
    assert (told.exit_code, told.stderr) == (0, "")
    assert "Exit codes" in told.stdout
    shown = [str(command.name) for command in app.registered_commands if not command.hidden]
    assert all(f"\n  {command} " in told.stdout for command in shown)


def test_an_unknown_command_says_which_there_are_and_exits_with_1() -> None:
    told = invoke("nothing-like-it")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == f"Unknown command: nothing-like-it. Available: {', '.join(COMMANDS)}\n"


@each("arguments", [("--nope",), ("status", "--nope"), ("proxy",)])
def test_a_bad_option_or_one_that_is_missing_exits_with_2(arguments: tuple[str, ...]) -> None:
    told = invoke(*arguments)
    assert (told.exit_code, told.stdout) == (2, "")


def test_the_version_is_the_packages() -> None:
    told = invoke("--version")
    assert (told.exit_code, told.stdout) == (0, f"agent-preflight {__version__}\n")


def test_every_option_has_a_type_that_the_oldest_typer_reads() -> None:
    for command in (*app.registered_commands, *proxy_app.registered_commands, *account_app.registered_commands):
        assert command.callback is not None
        for option in inspect.signature(command.callback, eval_str=True).parameters.values():
            assert "Literal" not in str(option.annotation), f"{command.name}: Typer reads a Literal only from 0.19 on"


@each("command", [*COMMANDS, *BELOW])
def test_every_command_has_help_with_an_example(command: str) -> None:
    for spelling in ("-h", "--help"):
        told = invoke(*command.split(), spelling)
        assert told.exit_code == 0
        assert "Example: " in told.stdout


def test_what_fails_says_so_in_one_line() -> None:
    told = invoke("top-up", "no-such-run", "a=1")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith('There is no run "no-such-run" in runs/. ')
    assert told.stderr.count("\n") == 1


def test_escapes_from_elsewhere_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in invoke("sta\x1b[31mtus").stderr
    complain("a\x1b[31mred\x1b]0;title\x07\nb")
    assert capsys.readouterr().err == "ared\nb\n"


@pytest.mark.wire
def test_help_loads_no_http_library_and_no_rich() -> None:
    """As a process, by the module's name: what a person waits for who only wants to know how."""
    source = (
        "import runpy, sys\nsys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('agent_preflight', run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'aiohttp', 'httpx', 'rich', 'sqlite3', 'structlog', 'uvloop'} & sys.modules.keys()\n"
        "print(code, *sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stderr == "0\n"
    assert "Commands" in done.stdout


@pytest.mark.wire
def test_a_process_keeps_its_streams_and_its_exit_code_apart() -> None:
    command = [sys.executable, "-m", "agent_preflight", "stauts"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Unknown command: stauts. ")
    assert done.stderr.count("\n") == 1


RUN = ("run", "--sandbox", "process", "--skip-preflight", "--model", "a/b")
REFUSED = [
    ((*RUN, "--runs-dir", "P", "--", "true"), ("file", "loop")),
    ((*RUN, "--runs-dir", "P/x", "--", "true"), ("file",)),
    ((*RUN, "--run-id", "r", "--runs-dir", "P", "--", "true"), ("file", "loop")),
    (("run", "--config", "P"), ("file",)),
    (("sweep", "--runs-dir", "P"), ("loop",)),
    (("init", "P"), ("file", "folder", "loop")),
    (("init", "P/x"), ("file", "gone")),
    (("costs", "--data", "P"), ("file", "gone", "loop", "folder")),
    (("demo", "--sandbox", "process", "--runs-dir", "P"), ("file", "loop")),
]


@pytest.mark.wire
@pytest.mark.parametrize(("arguments", "paths"), REFUSED)
def test_a_path_that_cannot_be_used_is_a_sentence_and_exits_with_1(
    arguments: tuple[str, ...], paths: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever another error would be comes through `invoke`, as a traceback would."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    keys = {"OR_ADMIN_KEY": "a", "OPENROUTER_API_KEY": "k", "OPENROUTER_BASE_URL": "http://127.0.0.1:1"}
    for path in paths:
        told = invoke(*(word.replace("P", path) if word in ("P", "P/x") else word for word in arguments), env=keys)
        assert told.exit_code == 1, (path, told.output)
        assert path in told.stderr
        assert "Errno" not in told.stderr


@pytest.mark.parametrize("path", ["gone", "loop", "folder"])
def test_a_configuration_that_is_no_file_is_a_bad_option(path: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    told = invoke("run", "--config", str(tmp_path / path), env={"COLUMNS": "500"})
    assert (told.exit_code, told.stdout) == (2, "")
    assert "--config" in told.stderr


@each(
    "error, said",
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "/x: No space left on device. Free some room there"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied. Give another path"),
        (OSError("odd"), "odd. Give another path"),
    ],
)
def test_an_error_of_the_operating_system_in_any_command_is_a_sentence(error: OSError, said: str) -> None:
    told = _raising(error)
    assert told.exit_code == 1
    assert told.stderr.startswith(said)


def test_a_pipe_whose_reader_is_gone_is_left_to_the_usual_handling() -> None:
    assert (
        _raising(BrokenPipeError(errno.EPIPE, "Broken pipe")).exit_code,
        _raising(KeyboardInterrupt()).exit_code,
    ) == (1, 130)
    with pytest.raises(RuntimeError, match="ours"):
        _raising(RuntimeError("ours"))


def _raising(error: BaseException) -> Result:
    own = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @own.command("one")
    def one() -> None:
        raise error

    @own.command("two")
    def two() -> None:
        """A group has more than one."""

    result = CliRunner().invoke(own, ["one"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
