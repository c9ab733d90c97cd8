"""A run's folder, its lock and its control file: private, and no two runs share one."""

import asyncio
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agent_preflight.runner.api import request_of
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import run_blocking
from agent_preflight.runs.folder import (
    RunControl,
    RunFolder,
    RunState,
    is_live,
    is_short_dir_of,
    lock_if_dead,
    lock_if_dead_soon,
    open_named,
    open_new,
    open_resumed,
    open_single,
    open_try,
    read_control,
    shortage,
    tries_dir,
    write_private,
)
from agent_preflight.sweeping import SweepScope, dead_runs, sweep
from preflight_proxy.core.errors import ConfigError
from tests.support.trial_field import MODEL, Field


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def document(*names: str) -> dict[str, object]:
    return {"trials": [{"key_name": name} for name in names]}


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path, stack: ExitStack) -> None:
    first, second = (stack.enter_context(open_new(tmp_path / "runs", "run-1")) for _ in range(2))
    assert [folder.path.name for folder in (first, second)] == ["run-1", "run-1-2"]


def test_the_folder_of_a_live_run_cannot_be_opened(tmp_path: Path, stack: ExitStack) -> None:
    stack.enter_context(open_named(tmp_path, "r", ["a"]))
    with pytest.raises(ConfigError, match="going on"):
        open_named(tmp_path, "r", ["b"])


def test_a_run_that_is_over_can_be_opened_for_other_aliases_only(tmp_path: Path) -> None:
    with open_named(tmp_path, "r", ["a"]) as folder:
        (folder.make_trial_dir("a") / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"begun a before.*resume=True"):
        open_named(tmp_path, "r", ["a", "b"])
    with open_named(tmp_path, "r", ["b"]):
        pass


def test_only_a_dead_run_can_be_resumed(tmp_path: Path, stack: ExitStack) -> None:
    with (
        open_named(tmp_path, "r", ["a"]),
        pytest.raises(ConfigError, match=r"going on\. Follow it with `.* status r`, .* `agent-preflight stop r`"),
    ):
        open_resumed(tmp_path / "r")
    assert stack.enter_context(open_resumed(tmp_path / "r")).path == tmp_path / "r"


def test_single_trials_share_a_directory_and_nothing_else(tmp_path: Path, stack: ExitStack) -> None:
    first, second = (stack.enter_context(open_single(tmp_path, alias)) for alias in "ab")
    assert first.trial_dir("a") == first.path == tmp_path / "a"
    assert second.path == tmp_path / "b"
    with pytest.raises(ConfigError):
        open_single(tmp_path, "a")


OPENERS: dict[str, Callable[[Path], RunFolder]] = {
    "new": lambda above: open_new(above, "r"),
    "named": lambda above: open_named(above, "r", ["a"]),
    "single": lambda above: open_single(above, "r"),
}


@pytest.mark.parametrize("opener", list(OPENERS))
def test_after_failed_checks_only_a_folder_of_runs_that_was_made_for_the_run_is_removed(
    tmp_path: Path, opener: str
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for above in (theirs, tmp_path / "ours"):
        with OPENERS[opener](above) as folder:
            folder.is_wanted = False
        assert not folder.path.exists()
        assert above.exists() == (above == theirs)


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
"""Kills one process after the other: the first at its first file operation, the next at its second, until one completes."""


@pytest.fixture
def short() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kf-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["run", "try"])
async def test_a_sweep_removes_what_a_runner_killed_at_any_step_left_outside_its_folder(
    short: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has another temporary directory than the run had. A trial run of a check leaves no folder either."""
    monkeypatch.setenv("XDG_STATE_HOME", str(short / "state"))
    monkeypatch.setattr(dead_runs, "MAKING_S_MAX", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(short))

    command = [sys.executable, "-c", KILLED, str(short), kind]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, text=True)
    number, code = map(int, done.stdout.split())
    assert (number > 10, code) == (True, 0)
    for at in range(1, number + 1):
        assert (await sweep(SweepScope(short / f"runs{at}", None, containers=False))).verified
    remaining = [path for at in range(1, number + 1) for path in (short / f"t{at}").iterdir()]
    assert [*remaining, *tries_dir().glob("*/*")] == []


def test_the_control_file_names_the_directory_of_sockets_before_that_is_made(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short / "missing"))
    with pytest.raises(FileNotFoundError):
        open_new(short, "r")
    control = read_control(short / "r")
    assert control is not None
    assert control.directory.parent == short / "missing"


def test_a_trial_run_of_a_check_has_a_folder_that_every_sweep_searches_until_it_ends(
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


def test_an_earlier_attempt_keeps_its_key_name_but_not_its_arguments_in_the_plan(
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


def test_a_private_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_private(tmp_path / "f", {"a": 1})
    with pytest.raises(TypeError):
        write_private(tmp_path / "f", {"a": object()})
    assert json.loads((tmp_path / "f").read_text()) == {"a": 1}


def lock(run_dir: Path) -> int:
    fd = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_run_is_live_while_its_lock_is_held(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.LIVE
    os.close(fd)
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.DEAD


def test_a_process_that_asks_whether_a_run_is_live_is_not_taken_for_its_runner(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    assert is_live(tmp_path)
    os.close(fd)
    with (tmp_path / "lock").open() as another:
        fcntl.flock(another, fcntl.LOCK_SH)
        assert not is_live(tmp_path)
    os.close(lock(tmp_path))
    assert not is_live(tmp_path / "none")


def test_a_run_without_a_lock_or_a_folder_is_unreadable(tmp_path: Path) -> None:
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.UNREADABLE
    with lock_if_dead(tmp_path / "none") as state:
        assert state is RunState.UNREADABLE
    (tmp_path / "file").touch()
    with lock_if_dead(tmp_path / "file") as state:
        assert state is RunState.UNREADABLE


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/etc/passwd")
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.UNREADABLE


def test_reading_the_state_makes_no_files(tmp_path: Path) -> None:
    with lock_if_dead(tmp_path), lock_if_dead(tmp_path / "none"):
        assert list(tmp_path.iterdir()) == []


def test_a_dead_run_cannot_be_resumed_while_its_lock_is_held(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with lock_if_dead(tmp_path) as state:
        assert state is RunState.DEAD
        fd = os.open(tmp_path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)


def open_files() -> int:
    """Return how many files this process has open; 0 if the system does not say."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else 0


def test_the_lock_of_a_dead_run_is_released_after_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    before = open_files()
    with pytest.raises(ZeroDivisionError), lock_if_dead(tmp_path):
        raise ZeroDivisionError
    os.close(lock(tmp_path))
    assert open_files() == before


async def test_a_lock_that_a_forked_process_holds_a_moment_longer_does_not_make_a_run_live(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    asyncio.get_running_loop().call_later(0.07, os.close, fd)
    async with lock_if_dead_soon(tmp_path) as state:
        assert state is RunState.DEAD


async def test_a_run_whose_lock_stays_held_is_live(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    async with lock_if_dead_soon(tmp_path) as state:
        assert state is RunState.LIVE
    os.close(fd)


async def test_several_tries_hold_the_lock_of_a_dead_run_too(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    async with lock_if_dead_soon(tmp_path) as state:
        assert state is RunState.DEAD
        with lock_if_dead(tmp_path) as other:
            assert other is RunState.LIVE


def test_the_control_file_exists_while_the_run_does_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    with open_new(tmp_path, "r") as folder:
        control = read_control(folder.path)
        assert control == RunControl(folder.short_dir / "control.sock", folder.short_dir, os.getpid())
        assert (folder.path / "control.json").stat().st_mode & 0o077 == 0
    assert read_control(tmp_path / "r") is None


def test_the_name_of_a_directory_of_sockets_proves_its_run(tmp_path: Path) -> None:
    with open_new(tmp_path, "r") as folder, open_new(tmp_path, "r") as other:
        name = folder.short_dir.name
        assert is_short_dir_of(name, folder.path)
        assert not is_short_dir_of(name, other.path)
        changed = name[:-1] + ("1" if name[-1] == "0" else "0")
        for wrong in (changed, name + "0", name[:-1], name.removeprefix("ap-"), "ap-", ""):
            assert not is_short_dir_of(wrong, folder.path)


@pytest.mark.parametrize("content", ["", "5", "{}", '{"socket": 1, "directory": "d", "pid": 1}', '{"socket": "s"}'])
def test_an_invalid_control_file_is_read_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "control.json").write_text(content)
    assert read_control(tmp_path) is None


def test_a_full_disk_is_reported_with_its_folder(tmp_path: Path) -> None:
    assert shortage(tmp_path, 1) is None
    reason = shortage(tmp_path, 2**62)
    assert reason is not None
    assert str(tmp_path) in reason


def test_a_folder_that_is_gone_is_not_reported_as_full(tmp_path: Path) -> None:
    assert shortage(tmp_path / "no", 2**62) is None


@pytest.mark.wire
def test_trials_on_a_full_disk_are_cleaned_up_and_their_summaries_say_why_they_ended(trials: Field) -> None:
    options = trials.options({"a": "call(); time.sleep(60)", "b": "time.sleep(60)"})
    request = request_of({"models": [(MODEL, "a"), (MODEL, "b")], **options})
    finished = run_blocking(lambda stop: run_field(replace(request, free_bytes_min=2**62), stop))
    assert all("the disk is nearly full" in (result.error or "") for result in finished.results)
    for alias in ("a", "b"):
        extra = trials.summary(alias)["preflight"]
        assert extra["caps_hit"] == {"free_space": 1}
        assert set(extra["cleanup"].values()) == {"ok"}
