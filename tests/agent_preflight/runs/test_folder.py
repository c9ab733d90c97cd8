"""A run's folder: no two runs share one, and what is private is private."""

import asyncio
import json
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_preflight.runs.control_file import read_control, tries_dir
from agent_preflight.runs.folder import (
    RunFolder,
    open_named,
    open_new,
    open_resumed,
    open_single,
    open_try,
    write_private,
)
from agent_preflight.sweeping import SweepScope, dead_runs, sweep
from preflight_proxy.core.errors import ConfigError


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def document(*names: str) -> dict[str, object]:
    return {"trials": [{"key_name": name} for name in names]}


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path, stack: ExitStack) -> None:
    first, second = (stack.enter_context(open_new(tmp_path / "runs", "run-1")) for _ in range(2))
    assert [folder.path.name for folder in (first, second)] == ["run-1", "run-1-2"]


def test_a_live_run_is_not_entered(tmp_path: Path, stack: ExitStack) -> None:
    stack.enter_context(open_named(tmp_path, "r", ["a"]))
    with pytest.raises(ConfigError, match="going on"):
        open_named(tmp_path, "r", ["b"])


def test_a_run_that_is_over_may_be_used_for_other_aliases_only(tmp_path: Path) -> None:
    with open_named(tmp_path, "r", ["a"]) as folder:
        (folder.make_trial_dir("a") / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"begun a before.*resume=True"):
        open_named(tmp_path, "r", ["a", "b"])
    with open_named(tmp_path, "r", ["b"]):
        pass


def test_only_a_run_that_is_there_and_dead_can_go_on(tmp_path: Path, stack: ExitStack) -> None:
    with pytest.raises(ConfigError, match=f'no run "r" in {tmp_path}/. There are no runs there'):
        open_resumed(tmp_path, "r")
    with (
        open_named(tmp_path, "r", ["a"]),
        pytest.raises(ConfigError, match=r"going on\. Follow it with `.* status r`, .* `agent-preflight stop r`"),
    ):
        open_resumed(tmp_path, "r")
    assert stack.enter_context(open_resumed(tmp_path, "r")).path == tmp_path / "r"


def test_single_trials_share_a_directory_and_nothing_else(tmp_path: Path, stack: ExitStack) -> None:
    first, second = (stack.enter_context(open_single(tmp_path, alias)) for alias in "ab")
    assert first.trial_dir("a") == first.path == tmp_path / "a"
    assert second.path == tmp_path / "b"
    with pytest.raises(ConfigError):
        open_single(tmp_path, "a")


def test_the_short_directory_is_private_and_gone_with_the_run(tmp_path: Path) -> None:
    with open_new(tmp_path, "r") as folder:
        short = folder.short_dir
        socket = folder.gate_socket(0)
        assert (mode(short), mode(socket.parent)) == (0o700, 0o711)
        assert len(str(socket)) < 104
        assert list(socket.parent.iterdir()) == []
    assert not short.exists()


KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from agent_preflight.runs.folder import open_new, open_try

place, kind, number = Path(sys.argv[1]), sys.argv[2], 0
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "tempfile.mkdtemp"}

def strike(event, args):
    global left
    if event in STEPS and (left := left - 1) == 0:
        os.kill(os.getpid(), signal.SIGKILL)

while True:
    number += 1
    left, tempfile.tempdir = number, str(place / f"t{number}")
    os.mkdir(tempfile.tempdir)
    if (child := os.fork()) == 0:
        sys.addaudithook(strike)
        with open_try(f"r{number}") if kind == "try" else open_new(place / f"runs{number}", "r") as folder:
            folder.gate_socket(0).touch()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != -signal.SIGKILL:
        break
print(number, code)
"""
"""Processes that are killed, the first at its first step on the file system, the next at its second, until one is through."""


@pytest.fixture
def short() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kf-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["run", "try"])
async def test_of_a_runner_that_is_killed_at_any_step_of_its_folder_a_sweep_leaves_nothing_beside_it(
    short: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has another temporary directory than the run had. What was only tried leaves no folder either."""
    monkeypatch.setenv("XDG_STATE_HOME", str(short / "state"))
    monkeypatch.setattr(dead_runs, "MAKING_S_MAX", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(short))

    command = [sys.executable, "-c", KILLED, str(short), kind]
    told = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, text=True)
    number, code = map(int, told.stdout.split())
    assert (number > 10, code) == (True, 0)
    for at in range(1, number + 1):
        assert (await sweep(SweepScope(short / f"runs{at}", None, containers=False))).verified
    left = [path for at in range(1, number + 1) for path in (short / f"t{at}").iterdir()]
    assert [*left, *tries_dir().glob("*/*")] == []


def test_the_directory_of_sockets_is_named_in_the_folder_before_it_is_there(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short / "missing"))
    with pytest.raises(FileNotFoundError):
        open_new(short, "r")
    control = read_control(short / "r")
    assert control is not None
    assert control.directory.parent == short / "missing"


def test_a_try_has_a_folder_where_every_sweep_looks_for_as_long_as_it_lasts(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(short))
    with open_try("t") as first, open_try("t") as second:
        assert [first.path, second.path] == [tries_dir() / "t", tries_dir() / "t-2"]
        assert read_control(first.path) is not None
    assert list(tries_dir().iterdir()) == []
    assert not first.short_dir.exists()
    (short / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(short / "file"))
    with pytest.raises(ConfigError, match="set XDG_STATE_HOME"), open_try("t"):
        pass


def test_an_attempt_that_is_followed_by_another_keeps_its_key_name_and_not_its_arguments(
    tmp_path: Path, stack: ExitStack
) -> None:
    folder = stack.enter_context(open_new(tmp_path, "r"))
    trials = [{"alias": alias, "key_name": f"{alias}1", "command": ["x"]} for alias in "ab"]
    folder.write_plan({"trials": trials})
    folder.write_plan({"trials": [{**trials[1], "key_name": "b2"}]})
    written = json.loads((folder.path / "plan.json").read_text())["trials"]
    assert [(trial["key_name"], "command" in trial) for trial in written] == [("a1", True), ("b1", False), ("b2", True)]


def test_agents_can_read_their_budget_directory_and_nothing_beside_it(tmp_path: Path, stack: ExitStack) -> None:
    folder: RunFolder = stack.enter_context(open_new(tmp_path, "r"))
    trial = folder.make_trial_dir("a")
    assert (mode(folder.path), mode(trial), mode(trial / "budget")) == (0o700, 0o700, 0o755)


def test_the_plan_keeps_the_key_names_of_an_earlier_one(tmp_path: Path, stack: ExitStack) -> None:
    folder = stack.enter_context(open_new(tmp_path, "r"))
    folder.write_plan(document("k1"))
    folder.write_plan(document("k2"))
    written = json.loads((folder.path / "plan.json").read_text())
    assert [trial["key_name"] for trial in written["trials"]] == ["k1", "k2"]
    assert mode(folder.path / "plan.json") == 0o600


def test_a_atomic_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_private(tmp_path / "f", {"a": 1})
    with pytest.raises(TypeError):
        write_private(tmp_path / "f", {"a": object()})
    assert json.loads((tmp_path / "f").read_text()) == {"a": 1}
