"""What agents in real containers write to their output folder, by the whole path: kept, within limits, whatever ended the trial."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import run_multi
from agent_preflight.models import RunResult
from agent_preflight.runner.arguments import request_of
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking
from agent_preflight.runs.result import exit_code
from agent_preflight.sweeping import SweepScope, sweep
from openrouter_sim import Simulator
from tests.agent_preflight.docker.conftest import BASE, containers_of
from tests.agent_preflight.sweeping.test_dead_runs import scope
from tests.support.crashed_run import BUSY, crash
from tests.support.trial_field import Field, agent

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

MODEL = "openai/gpt-4.1-nano"
BEGIN = """
import json, os, signal, socket, sys, time
os.chdir("/workspace/output")
def write(name, text="1"):
    if "/" in name: os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "w") as file: file.write(text)
def say(type): print(json.dumps({"type": type}), flush=True)
"""


class Output:
    """Runs one sealed agent of Python text; its folder, and what was said."""

    def __init__(self, simulator: Simulator, runs_dir: Path) -> None:
        self.simulator, self.runs_dir = simulator, runs_dir
        self.said: list[str] = []

    def options(self, *texts: str, **options: Any) -> dict[str, Any]:
        """The arguments of `run_multi` for agents of these texts."""
        agents = {f"a{number}": ["python3", "-c", BEGIN + text] for number, text in enumerate(texts)}
        return {
            "models": [(MODEL, alias) for alias in agents],
            "image_name": BASE,
            "admin_key": self.simulator.admin_key,
            "or_key": self.simulator.inference_key,
            "budget_usd": 0.05,
            "runs_dir": self.runs_dir,
            "run_id": "run",
            "network": "sealed",
            "skip_preflight": True,
            "log_fn": self.said.append,
            "container_args": agents,
            **options,
        }

    def run(self, *texts: str, **options: Any) -> list[RunResult]:
        """Run agents of these texts."""
        return run_multi(**self.options(*texts, **options))

    def one(self, text: str, **options: Any) -> dict[str, Any]:
        """Run one agent that is seen to be gone; what the summary says of its output."""
        (result,) = self.run(text, **options)
        assert containers_of(self.runs_dir / "run") == []
        assert set(result.preflight["cleanup"].values()) == {"ok"}, result.preflight
        told: dict[str, Any] = json.loads(self.summary.read_text())["preflight"]["output"]
        assert told == result.preflight["output"]
        return told

    @property
    def workspace(self) -> Path:
        return self.runs_dir / "run" / "a0" / "workspace"

    @property
    def summary(self) -> Path:
        return self.workspace.parent / "summary.json"

    def tree(self) -> set[str]:
        return {str(path.relative_to(self.workspace)) for path in self.workspace.rglob("*")}


@pytest.fixture
def output(simulator: Simulator, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    """Runs agents in real containers."""
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)
    return Output(simulator, tmp_path / "runs")


def test_a_tree_is_kept_and_what_is_no_file_is_listed(output: Output) -> None:
    told = output.one(
        """
write("answer.txt", "42"); write("sub/deep/x"); os.mkdir("empty"); write("su"); os.chmod("su", 0o6755)
write("secret"); os.chmod("secret", 0); os.chown("secret", 1234, 1234)
os.symlink("/etc/passwd", "link"); os.link("answer.txt", "hard"); os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
write("new\\nline"); write("escape\\x1b[2J"); open(b"lat\\xe9in", "w").close()
"""
    )
    names = {*("answer.txt", "sub", "sub/deep", "sub/deep/x", "empty", "su", "secret"), os.fsdecode(b"lat\xe9in")}
    assert output.tree() == names
    assert (output.workspace / "answer.txt").read_text() == "42"
    assert stat.S_IMODE((output.workspace / "su").stat().st_mode) == 0o700
    assert {path.lstat().st_uid for path in output.workspace.rglob("*")} == {os.getuid()}
    assert (told["path"], told["files"], told["limits"]) == (str(output.workspace), 5, [])
    skipped = {each["path"]: each["why"] for each in told["skipped"]}
    assert skipped == {
        "link": "link",
        "hard": "hard link",
        "pipe": "pipe",
        "new\nline": "name",
        "escape\x1b[2J": "name",
    }
    assert f"Answers: {output.workspace} (1 of 1 trials)" in output.said
    assert "\x1b" not in "".join(output.said)


def test_a_sparse_file_of_ten_gibibytes_fills_no_disk_and_costs_no_other_file(output: Output) -> None:
    told = output.one(
        """
write("before", "1")
with open("zz-sparse", "w") as file: file.truncate(10 * 2**30)
with open("small", "w") as file: file.truncate(50 * 2**20)
""",
        output_timeout_s=20,
    )
    assert output.tree() == {"before", "small"}
    assert (output.workspace / "small").stat().st_blocks * 512 < 2**20
    assert {"path": "zz-sparse", "why": "bytes"} in told["skipped"]
    assert told["limits"][0] == "bytes"


def test_of_thirty_thousand_files_as_many_are_kept_as_are_allowed(output: Output) -> None:
    told = output.one("for number in range(30_000): write(f'd{number // 1000}/{number}')")
    assert told["files"] + len(list(output.workspace.iterdir())) == 20_000
    assert told["limits"] == ["files"]
    assert any("20000 files and folders (output_max_files)" in line for line in output.said)


def test_a_deep_tree_is_kept_as_deep_as_is_allowed(output: Output) -> None:
    told = output.one(
        """
for depth in range(300):
    write("answer")
    os.mkdir("d"); os.chdir("d")
"""
    )
    assert max(len(Path(name).parts) for name in output.tree()) == 32
    assert (told["files"], told["limits"]) == (32, ["depth"])


def test_the_limit_of_time_ends_a_copy_and_keeps_what_came(output: Output) -> None:
    told = output.one(
        "write('a')\nwith open('b', 'w') as file: file.truncate(50 * 2**30)\nwrite('c')", output_timeout_s=2
    )
    assert (output.tree(), told["limits"]) == ({"a"}, ["bytes", "time"])


ENDED: dict[str, tuple[str, dict[str, Any]]] = {
    "ejected": ("time.sleep(600)", {"timeout_s": 3.0}),
    "ignores TERM": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(60)", {"timeout_s": 3.0}),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", {}),
    "out of memory": ("x = bytearray(2**30)", {"memory": "64m"}),
    "failed": ("sys.exit(3)", {}),
}


@pytest.mark.parametrize("ended", ENDED)
def test_an_output_is_kept_whatever_ended_the_agent(output: Output, ended: str) -> None:
    text, options = ENDED[ended]
    output.one(f"write('answer', 'so far')\nsay('ready')\n{text}", **options)
    assert (output.workspace / "answer").read_text() == "so far"


def test_an_agent_whose_callback_breaks_loses_no_output(output: Output) -> None:
    def broken(event: dict[str, Any]) -> None:
        raise RuntimeError("the user's own")

    output.one("write('answer')\nsay('ready')\ntime.sleep(600)", on_event=broken)
    assert output.tree() == {"answer"}


def test_two_presses_of_ctrl_c_lose_no_output(output: Output) -> None:
    stop = StopSignal()

    def pressed(event: dict[str, Any]) -> None:
        stop.press()
        stop.press()

    request = request_of(output.options("write('answer')\nsay('ready')\ntime.sleep(600)", on_event=pressed))
    finished = run_blocking(lambda stop: run_field(request, stop), stop)
    assert [result.error for result in finished.results] == ["interrupted"]
    assert (output.tree(), containers_of(finished.run_dir)) == ({"answer"}, [])


@pytest.mark.parametrize("mount", ["/workspace/output", "/workspace"])
def test_nothing_is_copied_of_the_users_own_mount(output: Output, tmp_path: Path, mount: str) -> None:
    (tmp_path / "mine" / "output").mkdir(parents=True)
    told = output.one("write('answer')", mounts=[(str(tmp_path / "mine"), mount)])
    assert (told["path"], told["why"]) == (None, "it is a mount of your own")
    assert not output.workspace.exists()
    assert list((tmp_path / "mine").rglob("answer"))


def test_a_mount_below_is_left_out(output: Output, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "huge").touch()
    told = output.one("write('answer')", mounts=[(str(tmp_path / "data"), "/workspace/output/data", "ro")])
    assert (output.tree(), told["skipped"]) == ({"answer"}, [{"path": "data", "why": "mount"}])


def test_each_trial_has_a_mount_of_its_own_by_its_alias(output: Output, tmp_path: Path) -> None:
    for alias in ("a0", "a1"):
        (tmp_path / "out" / alias).mkdir(parents=True)
    results = output.run("write('x')", "write('y')", mounts=[f"{tmp_path}/out/{{alias}}:/workspace/output"])
    assert [result.error for result in results] == [None, None]
    assert [(tmp_path / "out" / path).exists() for path in ("a0/x", "a1/y", "a0/y", "a1/x")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_tmpfs_is_warned_of_before_the_run_and_nothing_is_kept(output: Output) -> None:
    told = output.one("write('answer')", docker_args=["--tmpfs=/workspace/output"])
    assert (told["path"], "tmpfs" in told["why"]) == (None, True)
    warned = [at for at, line in enumerate(output.said) if "/workspace/output is a tmpfs" in line]
    assert warned
    assert warned[0] < next(at for at, line in enumerate(output.said) if line.startswith("[a0]"))


def test_an_anonymous_volume_is_copied_before_it_goes(output: Output) -> None:
    output.one("write('answer')", docker_args=["-v", "/workspace/output"])
    assert output.tree() == {"answer"}


def test_another_folder_may_be_kept(output: Output) -> None:
    output.one("write('/elsewhere/x')", output_path="/elsewhere")
    assert output.tree() == {"x"}


def test_a_folder_that_is_missing_or_no_folder_is_no_failure(output: Output) -> None:
    told = output.one("import shutil; os.chdir('/'); shutil.rmtree('/workspace'); write('/workspace', 'a file')")
    assert (told["path"], told["files"]) == (None, 0)
    assert told["why"] in ("the engine cannot read it", "there is no such folder")


def test_a_folder_behind_a_link_is_kept_and_a_link_out_of_the_container_leads_into_it(output: Output) -> None:
    output.one(
        "import shutil; write('/data/x'); os.chdir('/'); shutil.rmtree('/workspace/output'); "
        "os.symlink('../../../../../data', '/workspace/output')"
    )
    assert output.tree() == {"x"}


def test_with_keep_output_off_nothing_is_kept(output: Output) -> None:
    told = output.one("write('answer')", keep_output=False)
    assert (told["path"], told["why"], output.workspace.exists()) == (None, "keep_output is off", False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A disk of 200 MiB in the place of the runs' folder, and what gives it another size."""
    place = tmp_path / "runs"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)

    yield resize
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_on_a_full_disk_the_output_waits_in_its_stopped_container_for_a_sweep(
    output: Output, small_disk: Callable[[str], None], tmp_path: Path
) -> None:
    text = "write('answer', '42')\nfor name in 'bc': write(name, 'x' * 50 * 2**20)"
    results = output.run(text)
    (result,) = results
    cleanup = result.preflight["cleanup"]
    assert (cleanup["output"], cleanup["agent"], cleanup["gate"]) == ("unverified", "unverified", "ok")
    assert exit_code(results) == 5
    assert any("Make room, then `agent-preflight sweep`" in line for line in output.said)
    assert any("Answers not copied yet: a0" in line for line in output.said)
    (name,) = containers_of(output.runs_dir / "run")
    assert not output.workspace.exists()
    assert not list(output.workspace.parent.glob("workspace*"))
    left = await sweep(_scope(output))
    assert "No space left on device" in left.trouble[0]
    assert [item.kind for item in left.left] == ["agent"]
    assert containers_of(output.runs_dir / "run") == [name]
    small_disk("1g")
    swept = await sweep(_scope(output))
    assert swept.verified, swept
    assert output.tree() == {"answer", "b", "c"}
    assert containers_of(output.runs_dir / "run") == []
    extra = json.loads(output.summary.read_text())["preflight"]
    assert (set(extra["cleanup"].values()), extra["output"]["files"]) == ({"ok"}, 3)


def _scope(output: Output) -> SweepScope:
    return SweepScope(output.runs_dir, None, output.simulator.base_url)


async def test_of_a_killed_runner_a_sweep_keeps_the_output_before_it_removes_the_container(
    trials: Field, base_image: str, gate_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)
    source = "os.makedirs('/workspace/output', exist_ok=True); open('/workspace/output/x', 'w').write('42')\n" + BUSY
    commands = {alias: ["python3", *agent(source)[1:]] for alias in "ab"}
    shared: dict[str, Any] = {"sandbox": "docker", "image_name": base_image, "network": "sealed", "command": None}
    run_dir = crash(trials, dict.fromkeys(commands, ""), container_args=commands, **shared)
    assert not (run_dir / "a" / "workspace").exists()
    swept = await sweep(scope(trials, containers=True))
    assert swept.verified, swept
    for alias in commands:
        assert (run_dir / alias / "workspace" / "x").read_text() == "42"
        extra = json.loads((run_dir / alias / "summary.json").read_text())["preflight"]
        assert (extra["output"]["files"], set(extra["cleanup"].values())) == (1, {"ok"})
    assert containers_of(run_dir) == []
