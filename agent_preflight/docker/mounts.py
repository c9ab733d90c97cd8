"""Which host paths a trial may see: the engine's socket is refused, places that tell too much are warned about.

Whoever can write to the engine's socket is root on the host, a read-only mount of it included, so that one mount would make
every other rule void.
"""

from __future__ import annotations

import os.path
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from agent_preflight.kept_output import OutputWish
from preflight_proxy.errors import ConfigError

OWN_MOUNT = "it is a mount of your own"
ON_TMPFS = "it is on a tmpfs, whose content is gone once the container is stopped"
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


def beside_mounts(wish: OutputWish, fields: Mapping[str, Any]) -> OutputWish:
    """Return what of an output folder is to be copied, given what the user mounts.

    Nothing is copied of a folder that is the user's own mount, or on a tmpfs. Mounts below it are left out.

    Args:
        wish: What the user wants to be kept.
        fields: The body of the call that creates the container, or a part of it.
    """
    targets = dict(_targets(fields.get("HostConfig", {})))
    above = [target for target in targets if _within(wish.path, target)]
    if above and not wish.unkept:
        return replace(wish, unkept=OWN_MOUNT if targets[max(above, key=len)] != "tmpfs" else ON_TMPFS)
    below = sorted(os.path.relpath(target, wish.path) for target in targets if _within(target, wish.path))
    return replace(wish, mounts=tuple(below))


def tmpfs_warning(wish: OutputWish, fields: Mapping[str, Any]) -> str | None:
    """Return a warning if what agents write to their output folder, or below it, is lost with a tmpfs."""
    if wish.unkept:
        return None
    lost = wish.path if beside_mounts(wish, fields).unkept == ON_TMPFS else None
    targets = _targets(fields.get("HostConfig", {}))
    lost = lost or next((path for path, kind in targets if kind == "tmpfs" and _within(path, wish.path)), None)
    if lost is None:
        return None
    return f"{lost} is a tmpfs: what agents write there is gone once they end, and is not kept; leave the tmpfs off to keep it"


def _targets(host_config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where the user's mounts stand in the container, each with its kind; a volume without a name is nobody's."""
    for bind in host_config.get("Binds", ()):
        if ":" in bind:
            yield posixpath.normpath(bind.split(":")[1]), "bind"
    for mount in host_config.get("Mounts", ()):
        if mount.get("Type") != "volume" or mount.get("Source"):
            yield posixpath.normpath(str(mount.get("Target"))), str(mount.get("Type"))
    for target in host_config.get("Tmpfs", ()):
        yield posixpath.normpath(target), "tmpfs"
