"""Agents that come from npm: fixed versions, installed once into a directory of the user's own below the temporary one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = os.environ.get("PREFLIGHT_REQUIRE_CLIENTS") == "1"
INSTALL_S_MAX = 480.0
"""A guard: together they are 200 MB to fetch."""
QUIETLY = ("--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
_INSTALLED = "installed"


@dataclass(frozen=True, slots=True)
class Agent:
    """A program in a package.

    Attributes:
        package: Its name on npm.
        version: The one that these tests were written with.
        script: What node runs, relative to the package; needs no script of the package to have run at its installation.
    """

    package: str
    version: str
    script: str


CODEX = Agent("@openai/codex", "0.169.0", "bin/codex.js")
PI = Agent("@mariozechner/pi-coding-agent", "0.73.1", "dist/cli.js")
CLAUDE_CODE = Agent("@anthropic-ai/claude-code", "2.1.197", "cli-wrapper.cjs")


def command(agent: Agent) -> list[str]:
    """Return the command that starts an agent, which is installed if it is not there.

    Skips the test where that cannot be done; fails it with `PREFLIGHT_REQUIRE_CLIENTS=1`.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _lacks(f"{agent.package} needs node and npm")
    root = _own_directory(f"{agent.package.rpartition('/')[2]}-{agent.version}")
    start = [node, str(root / "node_modules" / agent.package / agent.script)]
    if not (root / _INSTALLED).exists():
        _install(npm, agent, root)
        _run([*start, "--version"], root, f"{agent.package} does not start")
        (root / _INSTALLED).touch()
    return start


def _own_directory(name: str) -> Path:
    """Return a directory that nobody else can have put anything into."""
    root = Path(tempfile.gettempdir()) / f"agent-preflight-clients-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    at = root.lstat()
    assert at.st_uid == os.getuid(), f"{root} belongs to another user"
    assert at.st_mode & 0o7777 == 0o700, f"{root} is open to others"
    (root / name).mkdir(exist_ok=True)
    return root / name


def _install(npm: str, agent: Agent, root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ap-npm-") as cache:
        into = ["--prefix", str(root), "--cache", cache, f"{agent.package}@{agent.version}"]
        _run([npm, "install", *QUIETLY, *into], root, f"npm does not install {agent.package}")


def _run(argv: list[str], root: Path, otherwise: str) -> None:
    try:
        subprocess.run(
            argv,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=INSTALL_S_MAX,
            check=True,
        )
    except subprocess.CalledProcessError as exc:
        _lacks(f"{otherwise}: {exc.stderr.strip()[-500:]}")
    except subprocess.TimeoutExpired:
        _lacks(f"{otherwise} within {INSTALL_S_MAX:.0f} s")


def _lacks(reason: str) -> NoReturn:
    if REQUIRED:
        pytest.fail(f"{reason} (PREFLIGHT_REQUIRE_CLIENTS=1)")
    pytest.skip(f"{reason} (PREFLIGHT_REQUIRE_CLIENTS=1 makes that an error)")
