"""The `docker` program, by which container tests look at the engine from outside; the product itself does not need it."""

from __future__ import annotations

import subprocess

ENGINE = "docker"


def output(*args: str) -> str:
    """Return what the program prints, stripped; it succeeds."""
    return subprocess.run([ENGINE, *args], capture_output=True, text=True, check=True).stdout.strip()
