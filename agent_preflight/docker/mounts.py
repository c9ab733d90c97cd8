"""Which host paths a trial may see: the engine's socket is refused, places that tell too much are warned about.

Whoever can write to the engine's socket is root on the host, a read-only mount of it included, so that one mount would make
every other rule void.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from preflight_proxy.errors import ConfigError

ENGINE_SOCKETS = (
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
)
"""Where engines listen; `/var/run` is a link to `/run`."""
_TELLING = ("/", "/etc", "/root", "/home", "/proc", "/sys", "/dev", "/boot", "/var/lib/docker", "/var/lib/containers")


def check_mounts(
    host_config: Mapping[str, Any],
    *,
    run_dir: str,
    own_dir: str,
    resolve: Callable[[str], str] = os.path.realpath,
) -> list[str]:
    """Judge what a trial's container mounts, and return warnings for a person.

    Args:
        host_config: The container's `HostConfig`; its `Binds` and `Mounts` are looked at.
        run_dir: The run's directory; other trials' folders in it are none of this trial's business.
        own_dir: This trial's folder in it.
        resolve: Follows links on the host.

    Raises:
        ConfigError: A mount is, or contains, the engine's socket.
    """
    given = [bind.partition(":")[0] for bind in host_config.get("Binds", ()) if ":" in bind]
    given += [str(mount.get("Source")) for mount in host_config.get("Mounts", ())]
    sources = [resolve(source) for source in given if source.startswith("/")]
    for source in sources:
        if any(_within(socket, source) for socket in ENGINE_SOCKETS):
            raise ConfigError(
                f"the mount of {source} hands the container engine's socket to the agent, which makes it root on this "
                "machine: leave it off"
            )
    return list(filter(None, (_warning(source, run_dir, own_dir) for source in sources)))


def _warning(source: str, run_dir: str, own_dir: str) -> str | None:
    if source in _TELLING:
        return f"the agent sees {source} of this machine, which may hold secrets or ways out"
    if _within(run_dir, source) or (_within(source, run_dir) and not _within(source, own_dir)):
        return f"the agent sees {source}, which holds other trials of its run or the run's own ledger"
    return None


def _within(path: str, directory: str) -> bool:
    return PurePosixPath(path).is_relative_to(directory)
