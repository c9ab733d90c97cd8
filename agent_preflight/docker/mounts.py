"""Which host paths a trial may see: the engine's socket is refused, places that tell too much are warned about.

Whoever can write to the engine's socket is root on the host, a read-only mount of it included, so that one mount would make
every other rule void.
"""

from __future__ import annotations

import csv
import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from preflight_proxy.errors import ConfigError

ENGINE_SOCKETS = (
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
)
"""Where engines listen; `/var/run` is a link to `/run`."""
_TELLING = ("/", "/etc", "/root", "/home", "/proc", "/sys", "/dev", "/boot", "/var/lib/docker", "/var/lib/containers")


@dataclass(frozen=True, slots=True)
class Mounts:
    """The host side of what a trial mounts.

    Attributes:
        sources: Absolute host paths, links followed.
        warnings: Sentences for a person.
    """

    sources: tuple[str, ...]
    warnings: tuple[str, ...]


def check_mounts(
    volumes: Sequence[str],
    options: Sequence[str] = (),
    *,
    run_dir: str,
    own_dir: str,
    allow_engine_socket: bool = False,
    resolve: Callable[[str], str] = os.path.realpath,
) -> Mounts:
    """Judge a trial's mounts.

    Args:
        volumes: In docker's `host:container[:mode]` form.
        options: Further options in `--name=value` form; `--volume` and `--mount` among them are judged too.
        run_dir: The run's directory; other trials' folders in it are none of this trial's business.
        own_dir: This trial's folder in it.
        allow_engine_socket: The user's explicit word for handing the engine to the agent.
        resolve: Follows links on the host.

    Raises:
        ConfigError: One is, or contains, the engine's socket.
    """
    sources = tuple(resolve(source) for source in _sources(volumes, options))
    for source in sources:
        if not allow_engine_socket and any(_within(socket, source) for socket in ENGINE_SOCKETS):
            raise ConfigError(
                f"the mount of {source} hands the container engine's socket to the agent, which makes it root on this machine: "
                "leave it off, or say allow_docker_socket=True"
            )
    return Mounts(sources, tuple(filter(None, (_warning(source, run_dir, own_dir) for source in sources))))


def _sources(volumes: Sequence[str], options: Sequence[str]) -> list[str]:
    """The host paths; named and anonymous volumes have none."""
    given = [*volumes, *(option.removeprefix("--volume=") for option in options if option.startswith("--volume="))]
    found = [volume.partition(":")[0] for volume in given if ":" in volume]
    for option in options:
        if option.startswith("--mount="):
            row = next(csv.reader([option.removeprefix("--mount=")]))
            fields = dict(field.partition("=")[::2] for field in row)
            found.append(fields.get("source") or fields.get("src") or "")
    return [source for source in found if source.startswith("/")]


def _warning(source: str, run_dir: str, own_dir: str) -> str | None:
    if source in _TELLING:
        return f"the agent sees {source} of this machine, which may hold secrets or ways out"
    if _within(run_dir, source) or (_within(source, run_dir) and not _within(source, own_dir)):
        return f"the agent sees {source}, which holds other trials of its run or the run's own books"
    return None


def _within(path: str, directory: str) -> bool:
    return PurePosixPath(path).is_relative_to(directory)
