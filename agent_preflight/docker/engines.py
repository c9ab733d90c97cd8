"""Which engine the docker command leads to: Docker, or Podman, whose command is docker's but for some differences.

The name of a command proves nothing: Podman comes with a `docker` of its own. So the command is asked, once. What nobody has
run our container tests on is refused in words.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from enum import Enum

import msgspec

from agent_preflight.docker.failure import DockerError, Failure

ASK_S_MAX = 10.0
"""The version is told without an engine; what Podman tells of itself takes 0.1 s."""
TRIED = "4.3"
"""The version of Podman on which our container tests pass."""
RUNTIME = "runc"
"""What makes the containers below it there."""


class Kind(Enum):
    """Whose command line it is."""

    DOCKER = "Docker"
    PODMAN = "Podman"


@dataclass(frozen=True, slots=True)
class Command:
    """What a command said that it is.

    Attributes:
        kind: Whose command line it has.
        runtime: The program below Podman that makes its containers.
    """

    kind: Kind
    runtime: str = ""


DOCKER = Command(Kind.DOCKER)


class _Runtime(msgspec.Struct):
    name: str
    path: str


class _Security(msgspec.Struct):
    rootless: bool


class _Host(msgspec.Struct, rename="camel"):
    service_is_remote: bool
    security: _Security
    oci_runtime: _Runtime


_KNOWN: dict[str, Command] = {}


def identify(command: str) -> Command:
    """Return what a command is; it is asked once, and Docker is assumed of one that cannot be executed.

    Raises:
        DockerError: It is a Podman on which our container tests have not passed, or does not answer.
    """
    if command not in _KNOWN:
        told = _ask(command, "--version")
        if told is None:
            return DOCKER
        version = podman_version(told)
        _KNOWN[command] = DOCKER if version is None else _podman(command, version)
    return _KNOWN[command]


def podman_version(text: str) -> str | None:
    """Read what `--version` prints; None if it is not Podman's."""
    found = re.match(r"podman(?:-remote)? version (\S+)", text)
    return None if found is None else found[1]


def _podman(command: str, version: str) -> Command:
    return read_podman(command, version, _ask(command, "info", "--format", "{{json .Host}}") or "")


def read_podman(command: str, version: str, info: str) -> Command:
    """Read what a Podman says of itself.

    Raises:
        DockerError: Our container tests have not passed on one like this.
    """
    try:
        host = msgspec.json.decode(info, type=_Host)
    except msgspec.MsgspecError as exc:
        raise DockerError(f"{command} does not answer: `podman info` must work", Failure.UNREACHABLE) from exc
    if (reason := _untried(version, host)) is not None:
        raise DockerError(f"{command} is not used: {reason}. Use docker.", Failure.NO_COMMAND)
    return Command(Kind.PODMAN, host.oci_runtime.path)


def _untried(version: str, host: _Host) -> str | None:
    if host.service_is_remote:
        return "our container tests have not passed on a remote Podman"
    if host.security.rootless:
        return (
            "our container tests have not passed on a Podman without root, where limits need a delegated control group"
        )
    if version.split(".")[:2] != TRIED.split("."):
        return f"our container tests have passed on Podman {TRIED}, and not on {version}"
    if host.oci_runtime.name != RUNTIME:
        return (
            f"our container tests have passed on Podman with {RUNTIME}, and not with {host.oci_runtime.name} below it"
        )
    return None


def _ask(command: str, *args: str) -> str | None:
    """Return what a command prints; None if it cannot be executed."""
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
            [command, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_S_MAX, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise DockerError(f"{command} {args[0]} did not answer in {ASK_S_MAX:.0f} s", Failure.TIMEOUT) from exc
    except OSError:
        return None
    return done.stdout.decode(errors="replace")
