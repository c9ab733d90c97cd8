"""What `--help` shows of every option, and what a shell completes, on the real tree of commands and as a process."""

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cases import each
from tests.support.cli_commands import COMMANDS, invoke


def _commands(group: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in getattr(group, "commands", {}).items():
        if not command.hidden:
            found += [(*path, name), *_commands(command, (*path, name))]
    return found


ALL = _commands(COMMANDS)


@each("path", ALL)
def test_each_value_of_an_option_has_a_word_that_says_what_it_is(path: tuple[str, ...]) -> None:
    _, _, options = invoke(*path, "--help").stdout.partition("Options:")
    assert not re.findall(r"--[a-z-]+ <[^|]*?>", options)


@each("path", ALL)
def test_the_list_of_commands_cuts_no_sentence_short(path: tuple[str, ...]) -> None:
    told = invoke(*path[:-1], "--help")
    line = next(line for line in told.stdout.splitlines() if line.startswith(f"  {path[-1]} "))
    assert line.endswith(".")
    assert not line.endswith("...")


@each("typed, offered", [("staus", "status"), ("cost", "costs"), ("topup", "top-up"), ("prox", "proxy")])
def test_a_mistyped_command_gets_a_suggestion(typed: str, offered: str) -> None:
    told = invoke(typed)
    assert (told.exit_code, told.stdout) == (1, "")
    assert f"Do you mean `{offered}`?" in told.stderr


@each("typed, offered", [(("costs", "--run-dir", "x"), "--runs-dir"), (("sweep", "--dryrun"), "--dry-run")])
def test_a_mistyped_option_gets_a_suggestion(typed: tuple[str, ...], offered: str) -> None:
    told = invoke(*typed)
    assert told.exit_code == 2
    assert offered in told.stderr


def _complete(words: str, cwd: Path) -> list[str]:
    """Return what bash offers for the last word of a line, which ends in a space where it is empty."""
    environment = {
        **os.environ,
        "_AGENT_PREFLIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    command = [sys.executable, "-m", "agent_preflight"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd, env=environment)
    return done.stdout.split()


@pytest.mark.wire
def test_a_shell_completes_commands_run_ids_and_aliases(tmp_path: Path) -> None:
    for trial in ("runs/run-1/nano", "runs/run-1/opus", "runs/run-2/haiku", "elsewhere/run-3/flash"):
        (tmp_path / trial).mkdir(parents=True)
    os.utime(tmp_path / "runs/run-1", (1, 1))
    assert _complete("agent-preflight top", tmp_path) == ["top-up"]
    assert _complete("agent-preflight costs run-", tmp_path) == ["run-2", "run-1"]
    assert _complete("agent-preflight stop run-1 n", tmp_path) == ["nano"]
    assert _complete("agent-preflight top-up run-1 ", tmp_path) == ["nano=", "opus="]
    assert _complete("agent-preflight run --resume run-", tmp_path) == ["run-2", "run-1"]
    assert _complete("agent-preflight run --gate s", tmp_path) == ["shared"]
    assert _complete("agent-preflight costs --runs-dir elsewhere ", tmp_path) == ["run-3"]


@pytest.mark.wire
def test_a_shell_completes_live_runs_where_only_those_can_be_changed(tmp_path: Path) -> None:
    """The trials of the only live run too: `stop nano` needs no run."""
    for trial in ("runs/run-1/nano", "runs/run-2/haiku", "runs/run-3/flash"):
        (tmp_path / trial).mkdir(parents=True)
    with (tmp_path / "runs/run-1/lock").open("w") as first, (tmp_path / "runs/run-2/lock").open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        assert _complete("agent-preflight stop ", tmp_path) == ["run-1", "nano"]
        fcntl.flock(second, fcntl.LOCK_EX)
        assert sorted(_complete("agent-preflight top-up ", tmp_path)) == ["run-1", "run-2"]


@pytest.mark.wire
def test_completion_where_no_run_is_offers_nothing_and_fails_in_silence(tmp_path: Path) -> None:
    assert _complete("agent-preflight costs ", tmp_path) == []
    assert _complete("agent-preflight stop nope ", tmp_path) == []
