"""The host's node with its libraries, so that it runs in a container of another system."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_program import ENGINE

LIBRARIES = "/node-libraries"
START_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Node:
    """The command of node in a container, and the mounts that it needs."""

    command: tuple[str, ...]
    mounts: tuple[tuple[str, str, str], ...]


def node_in_container(image: str, folder: Path) -> Node:
    """Return node as containers of an image can run it; skips the test where that is not possible.

    A build by Debian is a small program on libnode and its friends, which an image of Python lacks: they are copied to
    `folder` and loaded from there, by the host's own loader. Node's libraries in JavaScript, which Debian keeps apart,
    come along too.
    """
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not there")
    program = Path(found).resolve()
    node = _linked(program, folder) or Node(("/node",), ())
    scripts = program.parent.parent / "share" / "nodejs"
    mounts = [*node.mounts, (str(program), "/node", "ro")]
    mounts += [(str(scripts), "/usr/share/nodejs", "ro")] if scripts.is_dir() else []
    node = Node(node.command, tuple(mounts))
    if problem := _problem(node, image):
        pytest.skip(f"this machine's node does not run in {image}: {problem}")
    return node


def _linked(program: Path, folder: Path) -> Node | None:
    """Copy the libraries of the program; None if it needs none, or `ldd` cannot say."""
    ldd = shutil.which("ldd")
    if ldd is None:
        return None
    told = subprocess.run([ldd, str(program)], capture_output=True, text=True, check=False).stdout
    libraries = re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", told, re.MULTILINE)
    loader = next((Path(path).name for path in libraries if Path(path).name.startswith("ld-")), None)
    if loader is None:
        return None
    folder.mkdir(exist_ok=True)
    for path in libraries:
        shutil.copy(path, folder / Path(path).name)
    command = (f"{LIBRARIES}/{loader}", "--library-path", LIBRARIES, "/node")
    return Node(command, ((str(folder), LIBRARIES, "ro"),))


def _problem(node: Node, image: str) -> str:
    """Return why node cannot run these tests in a container; empty if it can."""
    volumes = [part for mount in node.mounts for part in ("--volume", ":".join(mount))]
    asked = (ENGINE, "run", "--rm", "--network", "none", "--entrypoint", node.command[0], *volumes, image)
    tried = subprocess.run(
        [*asked, *node.command[1:], "-e", "fetch.name; new Headers()"],
        capture_output=True,
        text=True,
        timeout=START_S_MAX,
        check=False,
    )
    return tried.stderr.strip()[-300:] or f"exit code {tried.returncode}" if tried.returncode else ""
