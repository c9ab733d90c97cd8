"""What dead runs left is removed, and nothing else."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from agent_preflight.docker.cli import Docker
from agent_preflight.docker.sweep import Found, RunState, Sweep, describe, find, hold, sweep
from tests.agent_preflight.docker.conftest import MakeSandbox, Scripted, containers_of
from tests.agent_preflight.docker.test_engines import podman
from tests.engine import ENGINE


def lock(run_dir: Path) -> int:
    fd = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_run_lives_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    fd = lock(tmp_path)
    with hold(tmp_path) as state:
        assert state is RunState.LIVE
    os.close(fd)
    with hold(tmp_path) as state:
        assert state is RunState.DEAD


def test_what_has_no_lock_or_no_directory_is_not_known_to_be_dead(tmp_path: Path) -> None:
    with hold(tmp_path) as state:
        assert state is RunState.UNREADABLE
    with hold(tmp_path / "none") as state:
        assert state is RunState.UNREADABLE


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/etc/passwd")
    with hold(tmp_path) as state:
        assert state is RunState.UNREADABLE


def test_a_dead_run_cannot_come_alive_while_it_is_swept(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with hold(tmp_path) as state:
        assert state is RunState.DEAD
        fd = os.open(tmp_path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)


def row(identity: str, run_dir: Path, role: str) -> str:
    return f'["{identity}","{run_dir}","run-1","alias","{role}"]'


def engine(*rows: str) -> str:
    gone = "echo 'Error response from daemon: No such container: c' >&2; exit 1"
    lines = "; ".join(f"echo '{text}'" for text in rows) or ":"
    return f"ps*) {lines};;\nnetwork*|volume*) :;;\nkill*|'container inspect'*) {gone};;\nrm*) :;;"


@pytest.mark.wire
async def test_agents_go_before_gates(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    script = scripted(engine(row("g", tmp_path, "gate"), row("a", tmp_path, "agent")))
    done = await sweep(executable=str(script.path))
    assert [thing.id for thing in done.removed] == ["a", "g"]
    assert [call for call in script.calls() if call.startswith("rm")] == ["rm -f -v a", "rm -f -v g"]


@pytest.mark.wire
async def test_live_and_unreadable_runs_are_reported_and_not_touched(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    fd = lock(tmp_path / "live")
    script = scripted(engine(row("l", tmp_path / "live", "agent"), row("u", tmp_path / "deleted", "agent")))
    done = await sweep(executable=str(script.path))
    os.close(fd)
    assert [thing.id for thing in done.live] == ["l"]
    assert [thing.id for thing in done.unreadable] == ["u"]
    assert not any(call.startswith(("rm", "kill")) for call in script.calls())


@pytest.mark.wire
async def test_a_rehearsal_removes_nothing(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    script = scripted(engine(row("a", tmp_path, "agent")))
    assert [thing.id for thing in (await sweep(executable=str(script.path), dry_run=True)).removed] == ["a"]
    assert not any(call.startswith(("rm", "kill")) for call in script.calls())


@pytest.mark.wire
async def test_a_sweep_may_be_kept_to_one_directory(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    script = scripted(engine(row("a", tmp_path, "agent")))
    assert await sweep(executable=str(script.path), below=tmp_path / "runs") == Sweep()


@pytest.mark.wire
async def test_labels_that_are_not_ours_are_left_alone(scripted: Scripted, tmp_path: Path) -> None:
    script = scripted(engine(row("x", tmp_path, "database"), row("y", Path("relative"), "agent")))
    assert await sweep(executable=str(script.path)) == Sweep()


def test_a_line_for_a_person_names_run_and_trial() -> None:
    thing = Found(Path("/r/run-1"), "run-1", "claude", "gate", "0123456789abcdef")
    assert describe([thing]) == ["gate 0123456789ab of run-1/claude (/r/run-1)"]


PODMAN_LISTS = """
ps*) echo '[{"Id":"c1","Labels":{"agent-preflight.dir":"/r/a,b","agent-preflight.run":"r","agent-preflight.trial":"a",
"agent-preflight.role":"gate"}}, {"Id":"c2","Labels":{"agent-preflight.run":"r"}}]';;
network*) echo '[{"id":"n1","labels":{"agent-preflight.dir":"/r/a,b","agent-preflight.run":"r","agent-preflight.trial":"",
"agent-preflight.role":"network"}}]';;
volume*) echo '[]';;"""


@pytest.mark.wire
async def test_podman_s_lists_are_read_by_their_keys(scripted: Scripted) -> None:
    found = await find(Docker(str(scripted(PODMAN_LISTS, **podman()).path)))
    assert [(thing.id, thing.role, thing.run_dir) for thing in found] == [
        ("c1", "gate", Path("/r/a,b")),
        ("n1", "network", Path("/r/a,b")),
    ]


@pytest.mark.docker
async def test_what_a_killed_runner_left_is_gone_and_a_live_runs_trial_goes_on(
    make_sandbox: MakeSandbox, tmp_path: Path
) -> None:
    for name in ("dead", "live"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    fd = lock(tmp_path / "live")
    dead = make_sandbox("sleep", "60", alias="dead", run_dir=tmp_path / "dead")
    live = make_sandbox("sleep", "60", alias="live", run_dir=tmp_path / "live")
    for sandbox in (dead, live):
        await sandbox.create()
        await sandbox.start()
    network = [
        ENGINE,
        "network",
        "create",
        "--label",
        "agent-preflight.run=r",
        "--label",
        "agent-preflight.role=network",
    ]
    label = f"agent-preflight.dir={tmp_path}/dead"
    await asyncio.to_thread(
        subprocess.run, [*network, "--label", label, f"ap-{tmp_path.name}"], check=True, capture_output=True
    )
    done = await sweep(below=tmp_path)
    assert [thing.role for thing in done.removed] == ["agent", "gate", "network"]
    assert containers_of(tmp_path / "dead") == []
    assert len(containers_of(tmp_path / "live")) == 2
    os.close(fd)
