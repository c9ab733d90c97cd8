"""The machine: which core runs what, and how it is named in a report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

NOTED_PACKAGES = ("aiohttp", "httptools", "msgspec", "uvloop", "litellm")


@cache
def cores() -> tuple[int, int] | None:
    """Return the core of load and upstream, and that of the subject; None where there is one core, or none can be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[-1]) if len(allowed) > 1 else None


@contextmanager
def load_core() -> Iterator[None]:
    """Let this thread, and what it starts meanwhile, run on the load's core."""
    with _on({chosen[0]} if (chosen := cores()) else None):
        yield


@contextmanager
def subject_core() -> Iterator[None]:
    """Let this thread, and what it starts meanwhile, run on the subject's core."""
    with _on({chosen[1]} if (chosen := cores()) else None):
        yield


@contextmanager
def all_cores() -> Iterator[None]:
    """Let this thread, and what it starts meanwhile, run on both cores."""
    with _on(set(chosen) if (chosen := cores()) else None):
        yield


@contextmanager
def _on(allowed: set[int] | None) -> Iterator[None]:
    if allowed is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> dict[str, str]:
    """Return what a reader must know of the machine, by name."""
    chosen = cores()
    pinned = "not pinned: there is one core, or none can be chosen"
    if chosen:
        pinned = f"load and upstream on core {chosen[0]}, the subject on core {chosen[1]}"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in NOTED_PACKAGES if _is_installed(name)]
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "cores": pinned,
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": sys.version.split()[0],
        "packages": ", ".join(versions),
        "revision": _revision(),
    }


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
