"""Strikes: processes get `kill -9`, containers are killed by the engine, and a relay cuts the engine's connections."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import Random

from tests.support.docker_program import ENGINE, output
from tests.support.engine_relay import EngineRelay

PROC = Path("/proc")


class Target(Enum):
    """What a strike hits."""

    RUNNER = "runner"
    PROXY = "proxy"
    ENGINE = "engine's connections"
    GATE = "gate"
    AGENT = "agent"
    PAUSE = "agent paused"
    BOTH = "runner and proxy"
    FORWARDER = "forwarder"


@dataclass(frozen=True, slots=True)
class Strike:
    """One strike.

    Attributes:
        at_s: When it happens, in seconds after the start of the runner.
    """

    target: Target
    at_s: float


def draw(random: Random, last_s: float, *, portable: bool) -> list[Strike]:
    """Return one to four strikes in order. Only portable gates have forwarders."""
    there = [target for target in Target if portable or target is not Target.FORWARDER]
    targets = random.sample(there, random.randint(1, 4))
    return sorted((Strike(target, random.uniform(1.5, last_s)) for target in targets), key=lambda strike: strike.at_s)


def fall(strike: Strike, runner: int, relay: EngineRelay, runs_dir: Path, random: Random) -> bool:
    """Strike; return False if there was nothing to hit. The runner uses the engine through the relay."""
    match strike.target:
        case Target.RUNNER:
            return _kill([runner], random)
        case Target.PROXY:
            return _kill(_proxies(runner), random)
        case Target.BOTH:
            struck = [_kill([pid], random) for pid in (*_proxies(runner), runner)]  # both, also if the first fails
            return all(struck)
        case Target.ENGINE:
            return relay.cut() > 0
        case Target.GATE:
            return _docker("kill", containers(runs_dir, "gate", running=True), random)
        case Target.FORWARDER:
            return _docker("kill", containers(runs_dir, "forwarder", running=True), random)
        case Target.AGENT:
            return _docker("kill", containers(runs_dir, "agent", running=True), random)
        case Target.PAUSE:
            return _docker("pause", containers(runs_dir, "agent", running=True), random)


def containers(runs_dir: Path, role: str | None = None, *, running: bool = False) -> list[str]:
    """Return the ids of the containers of runs in a folder."""
    command = ["ps", "-q", *([] if running else ["-a"])]
    command += ["--filter", f"label=agent-preflight.role={role}"] if role else []
    return _labelled(command, runs_dir)


def networks_and_volumes(runs_dir: Path) -> list[str]:
    """Return the ids of the networks and the names of the volumes of runs in a folder."""
    return [*_labelled(["network", "ls", "-q"], runs_dir), *_labelled(["volume", "ls", "-q"], runs_dir)]


def _labelled(command: list[str], runs_dir: Path) -> list[str]:
    filters = [["--filter", f"label=agent-preflight.dir={run_dir}"] for run_dir in runs_dir.glob("*")]
    return [found for each in filters for found in output(*command, *each).split()]


def processes(mark: str) -> list[str]:
    """Return the command lines of the processes whose environment has this mark."""
    found = []
    for path in PROC.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def _children(parent: int, wanted: Callable[[list[bytes]], bool]) -> list[int]:
    found = []
    for path in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
            if int(fields[1]) == parent and wanted(words):
                found.append(int(path.parent.name))
    return found


def _proxies(runner: int) -> list[int]:
    return _children(runner, lambda words: b"preflight_proxy" in words)


def _kill(pids: list[int], random: Random) -> bool:
    if not pids:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(random.choice(pids), signal.SIGKILL)
        return True
    return False


def _docker(verb: str, ids: list[str], random: Random) -> bool:
    if not ids:
        return False
    return subprocess.run([ENGINE, verb, random.choice(ids)], capture_output=True, check=False).returncode == 0
