"""A command that makes a container for a dead run is waited for, and no other."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.podman_clients import creating, is_watched, until_created

pytestmark = pytest.mark.wire


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command with the labels of this run, which ends when its input does."""
    words = ["--label", f"agent-preflight.dir={tmp_path}", "--filter", "label=agent-preflight.dir=/not/this"]
    with subprocess.Popen(["sh", "-c", "read line", "create", *words], stdin=subprocess.PIPE) as process:
        while tmp_path not in creating():  # its words are seen a moment after it has begun
            time.sleep(0.01)
        yield process


def test_it_is_known_by_its_label(command: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert command.poll() is None
    assert tmp_path in creating()
    assert Path("/not/this") not in creating()


def test_who_watches_a_container_is_known_by_its_name_and_the_containers(tmp_path: Path) -> None:
    watcher = tmp_path / "conmon"
    watcher.symlink_to("/bin/sh")
    with subprocess.Popen([watcher, "-c", "read line", "-c", "c" * 64], stdin=subprocess.PIPE):
        while not is_watched("c" * 64):
            time.sleep(0.01)
        assert not is_watched("d" * 64)
    assert not is_watched("c" * 64)


async def test_a_dead_runs_is_waited_for(command: subprocess.Popen[bytes], tmp_path: Path) -> None:
    waiting = asyncio.ensure_future(until_created(lambda run_dir: run_dir == tmp_path))
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()
    assert command.stdin is not None
    command.stdin.close()
    await asyncio.to_thread(command.wait)
    await waiting


async def test_a_live_runs_is_not(command: subprocess.Popen[bytes]) -> None:
    await until_created(lambda _: False)
    assert command.poll() is None


async def test_one_that_hangs_is_said_to(command: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(DockerError, match="look for `podman create`"):
        await until_created(lambda run_dir: run_dir == tmp_path, limit_s=0.1)
    assert command.poll() is None
