"""Wrong values for each option of `run`, `proxy` and `preflight`: one sentence, the right code, nothing spent, nothing left."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.options import kinds
from agent_preflight.options.settings import OPTIONS
from openrouter_sim import Simulator
from tests.support.cli_commands import COMMANDS, CommandResult, invoke

MODEL = "openai/gpt-4.1-nano"
HOSTILE = "\x1b[31m$(id)"
NUMBERS = ("soon", "0", "-1", "nan", "1e999", "1,5", "0x10", HOSTILE)

WRONG: Mapping[kinds.OptionKind, tuple[str, ...]] = {
    kinds.DOLLARS: ("", "two", "0", "1000001", HOSTILE, "1,50", "2$", "-1", "nan", "1e400"),
    kinds.MODELS: ("", "a b", "a/b=..", f"a/b={'x' * 65}", HOSTILE, "a/b=", "=alias", "a/b=x/y"),
    kinds.IMAGE: ("", "my agent", "x" * 600, "--privileged", HOSTILE, ":tag"),
    kinds.NETWORK: ("", "my net", "x" * 300, "--internal", HOSTILE, "container:other", "sealed "),
    kinds.SERVICES: ("", "los", "los=", "los=h:0", f"los={HOSTILE}:1", "los=h:99999", "=h:1", "los=h"),
    kinds.PLACES: ("", "pypi.org", "pypi.org:0", "pypi.org:70000", f"{HOSTILE}:1", "https://pypi.org:443"),
    kinds.ENV: ("", "=x", "A\nB=x", "A=x\ny", "A=" + "x" * 200_000, "NO_SUCH_VARIABLE_IS_SET\x1b"),
    kinds.FILES: ("", ".", "missing.env", "wrong.env", "latin.env", "x" * 5000),
    kinds.FILE: ("", ".", "missing.txt", "latin.env", "large.txt", "x" * 5000),
    kinds.MOUNTS: ("", "task", "./task:task", "./task:/task:xx", "/a:/b:ro:ro", f"./task:{HOSTILE}", ":/task"),
    kinds.INSIDE: ("", "output", "./output", "/a:/b", "C:/output", "/" + "x" * 300),
    kinds.SECONDS: (*NUMBERS, ""),
    kinds.COUNT: (*NUMBERS, "1.5", ""),
    kinds.BYTES: ("", "much", "0", "-1", "1gg", "99999999999p", HOSTILE, "1,5g"),
    kinds.MEMORY: ("", "much", "-1", "2gig", "99999999999p", HOSTILE, "1,5g"),
    kinds.CPUS: ("", "all", "-1", "1e3", "1.0000000001", HOSTILE, "1,5"),
    kinds.TAGS: ("", "task", "=x", "a b=x", f"task={HOSTILE}", f"task={'x' * 201}", "ü=1", "task=a\nb"),
    kinds.COMMAND: ("", " ", "\n\t", "nul \0", "\udcff"),
    kinds.SCORE: ("", " ", "\n\t", "nul \0", "\udcff"),
    kinds.NUMBER: ("", "soon", "nan", "inf", "1e999", "1,5", "0x10", HOSTILE),
    kinds.RUN_ID: ("", "..", "../x", "a" * 129, HOSTILE, "a b", ".hidden"),
    kinds.TEXT: ("nul \0", "\udcff"),
    **{option.kind: ("", "vm", HOSTILE, "AUTO", "dockerr") for option in OPTIONS.values() if option.kind.choices},
}
"""What no value of a kind may be: empty, of another type, out of range, hostile, nearly right."""
ALWAYS_A_FOLDER = {"runs_dir"}
"""Options that any path is a value of; what is wrong with the folder shows when it is made."""


def subcommands(*names: str) -> list[str]:
    """Return the names of the commands below a command."""
    command: Any = COMMANDS
    for name in names:
        command = command.commands[name]
    return list(command.commands)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that are wrong."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.env").write_text("A=1\nno value here\n")
    (tmp_path / "latin.env").write_bytes(b"A=\xff")
    (tmp_path / "large.txt").write_text("x" * (2**20 + 1))
    return tmp_path


@pytest.fixture(autouse=True)
def keys(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Keys in the environment; after the test nothing was made and nothing spent with them."""
    monkeypatch.setenv("OR_ADMIN_KEY", simulator.admin_key)
    monkeypatch.setenv("OPENROUTER_API_KEY", simulator.inference_key)
    before = dict(simulator.account.keys)
    yield simulator
    assert dict(simulator.account.keys) == before
    assert simulator.bill().total_usd == 0


def left() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def run(*arguments: str) -> CommandResult:
    return invoke("run", "--sandbox", "process", *arguments, "--", sys.executable, "-V")


def said(told: CommandResult) -> str:
    """Return the sentence of an error, after the lines about usage."""
    lines = told.stderr.rstrip("\n").split("\n")
    errors = [line for line in lines if not line.startswith(("Usage:", "Try ")) and line]
    assert len(errors) == 1, told.stderr
    return errors[0]


def wrong_values() -> Iterator[tuple[str, str, str]]:
    for name, option in OPTIONS.items():
        if option.flags and name not in ALWAYS_A_FOLDER and option.kind is not kinds.SWITCH:
            yield from ((name, option.flags[0], value) for value in WRONG[option.kind])
    yield from (("resume", "--resume", value) for value in WRONG[kinds.RUN_ID])


def parameters(*names: str) -> list[Any]:
    """Return the options of a command."""
    command: Any = COMMANDS
    for name in names:
        command = command.commands[name]
    return [each for each in command.params if each.opts[0].startswith("-")]


def test_the_table_has_five_wrong_values_for_each_option_of_a_run() -> None:
    for name, option in OPTIONS.items():
        if option.flags and name not in ALWAYS_A_FOLDER and option.kind not in (kinds.SWITCH, kinds.TEXT):
            assert len(WRONG[option.kind]) >= 5, name
    flags = {flag for option in OPTIONS.values() for flags in option.flags for flag in flags.split("/")}
    of_the_command = {opt for each in parameters("run") for opt in [*each.opts, *each.secondary_opts]}
    assert of_the_command == flags | {"--config", "--json"}


def test_a_wrong_value_of_an_option_of_run_is_one_sentence() -> None:
    failed = []
    before = left()
    for name, flag, value in wrong_values():
        told = run("--model", MODEL, "--budget", "0.01", f"{flag}={value}")
        if (
            (told.exit_code, told.stdout) != (2, "")
            or "Traceback" in told.output
            or not said(told).startswith("Error: ")
        ):
            failed.append((name, value[:40], told.exit_code, told.output[-300:]))
        elif "\x1b" in told.stderr:
            failed.append((name, value[:40], told.exit_code, "an escape reaches the terminal"))
    assert failed == []
    assert left() == before


def test_an_option_without_its_value_and_one_that_is_misspelt_are_one_sentence() -> None:
    for each in parameters("run"):
        for flag in (opt for opt in each.opts if opt.startswith("--")):
            misspelt = run("--model", MODEL, f"{flag}x=1")
            assert (misspelt.exit_code, misspelt.stdout) == (2, ""), flag
            assert said(misspelt)
            last = invoke("run", "--model", MODEL, flag) if not each.is_flag else run(f"{flag}=yes")
            assert (last.exit_code, last.stdout) == (2, ""), flag
            assert said(last)


@pytest.mark.parametrize("value", ["", ".", "missing.toml", "\x1b[31m", "preflight.tom"])
def test_a_configuration_that_is_not_there_is_a_bad_option(value: str) -> None:
    told = run("--model", MODEL, f"--config={value}")
    assert (told.exit_code, told.stdout) == (2, "")
    assert said(told)


@pytest.mark.parametrize(
    "text", ["models = 3", "modls = []", "budget = 'two'", "= 3", "\x1b = 1", "[env]\nA = 1", "resume = true"]
)
def test_a_wrong_file_is_one_sentence_and_what_it_means_for_money(folder: Path, text: str) -> None:
    (folder / "preflight.toml").write_text(text)
    told = run("--model", MODEL)
    assert (told.exit_code, told.stdout) == (1, "")
    sentence, money = told.stderr.rstrip("\n").split("\n")
    assert sentence.startswith("preflight.toml" if not sentence.startswith("/") else "/")
    assert money == "No agent was started, so none has spent money."
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("how", [(), ("--run-id", "r"), ("--resume", "r")])
@pytest.mark.parametrize("value", ["", "file", "file/runs", "/proc/runs", "x" * 300])
def test_a_folder_of_runs_that_cannot_be_made_is_one_sentence(folder: Path, value: str, how: tuple[str, ...]) -> None:
    (folder / "file").write_text("")
    before = left()
    told = run("--model", MODEL, "--skip-preflight", "--budget", "0.01", f"--runs-dir={value}", *how)
    is_path = 0 < len(value) < 256
    assert (told.exit_code, told.stdout) == (1 if is_path else 2, "")
    assert "Traceback" not in told.output
    sentence, *money = [line for line in told.stderr.split("\n") if line and not line.startswith(("Usage:", "Try "))]
    assert sentence
    assert money == (["No agent was started, so none has spent money."] if is_path else [])
    assert left() == before


VARIABLES = {
    "OR_ADMIN_KEY": ("", " ", "x\ny", "sk-or-\udcff", "ключ"),
    "OPENROUTER_API_KEY": ("", " ", "x\ny", "sk-or-\udcff", "ключ"),
    "PREFLIGHT_MODELS": ("", ",", " , ", "a b", HOSTILE),
    "PREFLIGHT_BUDGET": ("two", "0", "1000001", HOSTILE, "1,50"),
    "OPENROUTER_BASE_URL": ("openrouter.ai", "ftp://x", "http://", HOSTILE, "http:///api"),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_wrong_variable_of_preflight_exits_with_1_and_no_traceback(name: str, folder: Path) -> None:
    assert [each.name for each in parameters("preflight")] == ["as_json"]
    before = left()
    for value in VARIABLES[name]:
        if "\n" in value or "\udcff" in value:
            continue
        told = invoke("preflight", env={"PREFLIGHT_MODELS": MODEL, name: value})
        assert told.exit_code == 1, (name, value, told.output)
        assert "Traceback" not in told.output
        assert "\x1b" not in told.output
    assert left() == before


HOSTILE_NAMES = ("", "..", "a/b", "x" * 65, HOSTILE, "a b")
WRONG_OF_PROXY: Mapping[str, tuple[str, ...]] = {
    "listen": ("", "localhost", "127.0.0.1:99999", f"{HOSTILE}:1", "127.0.0.1:", "8788"),
    "upstream": ("openrouter.ai", "ftp://x", "http://", f"http://{HOSTILE}", "https:/openrouter.ai"),
    "budget": WRONG[kinds.DOLLARS],
    "durability": ("", "Power", "disk", "none", HOSTILE),
    "bound": ("", "Proven", "bytes", "none", HOSTILE),
    "cache_bound": ("", "Billed", "read", "none", HOSTILE),
    "account": ("", "alice", *(f"{name}=1" for name in HOSTILE_NAMES), *(f"a={text}" for text in WRONG[kinds.DOLLARS])),
}
SWITCHES_OF_PROXY = {"byok", "no_weigh", "share_preambles"}
WHEN_IT_STARTS = {"unix", "ready_file", "data"}
"""Options whose wrong values show when it starts to serve: those tests are with the command's own."""


def test_the_table_has_five_wrong_values_for_each_option_of_the_proxy() -> None:
    declared = {str(each.name) for each in parameters("proxy")}
    assert declared - SWITCHES_OF_PROXY - WHEN_IT_STARTS == WRONG_OF_PROXY.keys()
    assert all(len(values) >= 5 for values in WRONG_OF_PROXY.values())


@pytest.mark.parametrize("name", WRONG_OF_PROXY)
def test_a_wrong_value_of_an_option_of_proxy_is_one_sentence(folder: Path, name: str) -> None:
    (folder / "file").write_text("")
    before, failed = left(), []
    for value in WRONG_OF_PROXY[name]:
        given = {"data": "data", "listen": "127.0.0.1:0", "budget": "1", name: value}
        if name == "account":
            del given["budget"]
        arguments = [f"--{option.replace('_', '-')}={text}" for option, text in given.items()]
        told = invoke("proxy", *arguments, env={"OPENROUTER_API_KEY": None})  # so that none of them serves
        if (told.exit_code, told.stdout) != (2, "") or "\x1b" in told.stderr or left() != before or not said(told):
            failed.append((value[:40], told.exit_code, left(), told.output[-300:]))
    assert failed == []


def test_a_wrong_account_of_a_command_below_proxy_is_one_sentence() -> None:
    failed = []
    commands = {"add": "=1", "raise": "=1", "limit": "=1", "freeze": "", "unfreeze": "", "remove": "", "show": ""}
    assert sorted(commands) == sorted(name for name in subcommands("proxy", "account") if name != "list")
    for command, amount in commands.items():
        for wrong in [f"{name}{amount}" for name in HOSTILE_NAMES if name or amount]:
            told = invoke("proxy", "account", command, "--data", "data", "--", wrong)
            if (told.exit_code, told.stdout) != (2, "") or "\x1b" in told.stderr or not said(told):
                failed.append((command, wrong, told.exit_code, told.output[-200:]))
    assert failed == []


@pytest.mark.parametrize("value", ["", "nowhere", "file", "file/data", "x" * 300])
def test_a_data_folder_that_is_none_is_one_sentence_for_each_command_below_proxy(folder: Path, value: str) -> None:
    (folder / "file").write_text("")
    before, failed = left(), []
    arguments = {
        "add": "a=1",
        "raise": "a=1",
        "limit": "a=1",
        "freeze": "a",
        "unfreeze": "a",
        "remove": "a",
        "show": "a",
    }
    for command in (("status",), *(("account", name) for name in subcommands("proxy", "account"))):
        told = invoke("proxy", *command, f"--data={value}", *filter(None, [arguments.get(command[-1])]))
        if told.exit_code not in (1, 2) or told.stdout or "Traceback" in told.output or not said(told):
            failed.append((command, told.exit_code, told.output[-300:]))
    assert failed == []
    assert left() == before
