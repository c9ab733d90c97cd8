"""Agents that outlived their runner are found by the budget file that they were told, and nobody else is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_preflight.sandboxes.strays import end_orphans, orphans

pytestmark = [
    pytest.mark.wire,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc"),
]

PARENT = "import subprocess, sys; subprocess.Popen(['sleep', '60'], env={}); print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Two agents as a runner starts them, each with a child that has lost its environment."""
    started = {}
    for name in ("a", "ab"):
        started[name] = subprocess.Popen(
            [sys.executable, "-c", PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PREFLIGHT_BUDGET_FILE": str(tmp_path / name), "PATH": "/usr/bin:/bin"},
            start_new_session=True,
        )
        assert started[name].stdout is not None
        started[name].stdout.readline()  # type: ignore[union-attr]  # a pipe
    yield started
    for process in started.values():
        for pid in orphans(tmp_path / "a") | orphans(tmp_path / "ab"):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        process.communicate()


async def test_an_agent_and_its_children_are_ended_and_its_neighbour_is_not(
    agents: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    assert await end_orphans(tmp_path / "a") == (2, "ok")
    assert agents["a"].wait() == -9
    assert agents["ab"].poll() is None
    assert len(orphans(tmp_path / "ab")) == 2


async def test_nothing_is_ended_where_nothing_is_left(tmp_path: Path) -> None:
    assert await end_orphans(tmp_path / "a") == (0, "ok")
