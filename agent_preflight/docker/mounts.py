"""Checks which host paths a trial mounts: refuses the engine's socket, warns of places that may hold secrets.

Whoever can write to the engine's socket is root on the host, a read-only mount of it included, so that one mount would make
every other rule void.

The engine makes a missing path in `Binds`, as an empty folder of root's. It refuses a missing path in `Mounts`.
Source: docs.docker.com/reference/api/engine/version/v1.41, ContainerCreate, HostConfig.
"""

from __future__ import annotations

import os.path
import posixpath
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec
from msgspec.structs import replace

from agent_preflight.sandboxes.kept_output import OutputPolicy
from preflight_proxy.core.errors import ConfigError

OWN_MOUNT = "it is a mount of your own"
ON_TMPFS = "it is on a tmpfs, whose content is gone once the container is stopped"
ENGINE_SOCKETS = (
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
)
"""Where engines listen; `/var/run` is a link to `/run`."""
_LABELS = frozenset({"z", "Z"})
"""Modes by which the engine relabels a source for SELinux; `Mounts` has no such field."""
_CONSISTENCY = frozenset({"default", "consistent", "cached", "delegated"})
_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_MAY_HOLD_SECRETS = (
    "/",
    "/etc",
    "/root",
    "/home",
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/var/lib/docker",
    "/var/lib/containers",
)


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
        run_dir: The run's directory; a warning says that other trials' folders in it can be seen.
        own_dir: This trial's folder in it.
        resolve: Follows links on the host.

    Raises:
        ConfigError: A mount is, or contains, the engine's socket.
    """
    refuse_sockets(host_config, resolve)
    sources = (resolve(bind.path) for bind in binds(host_config))
    return [text for source in sources if (text := _warning(source, run_dir, own_dir))]


class Bind(msgspec.Struct, frozen=True):
    """A path of the host, or a volume, in a container.

    Attributes:
        path: Where from; a volume's name.
        target: Where to.
        writable: Whether the agent may write there.
        is_made: A missing path is made. The engine does that for mounts in `Binds`.
    """

    path: str
    target: str
    writable: bool
    is_made: bool = True


def binds(host_config: Mapping[str, Any]) -> list[Bind]:
    """Return the host's paths that a container mounts, in their order; volumes have none."""
    return [mount for _, mount in _mounts(host_config) if mount.path.startswith("/")]


def volumes(host_config: Mapping[str, Any]) -> list[Bind]:
    """Return the named volumes that a container mounts, with the name as the path."""
    return [mount for kind, mount in _mounts(host_config) if kind == "volume" and mount.path]


def targets(fields: Mapping[str, Any]) -> list[str]:
    """Return the container's paths at which something is mounted, in plain form."""
    paths = [mount.target for _, mount in _mounts(fields.get("HostConfig") or {})]
    return [posixpath.normpath(path) for path in (*paths, *(fields.get("Volumes") or ()))]


def _mounts(host_config: Mapping[str, Any]) -> Iterator[tuple[str, Bind]]:
    """Yield everything that a container mounts with its kind: `bind`, `volume` or `tmpfs`."""
    for text in host_config.get("Binds") or ():
        source, target, modes = _parts(text)
        yield "bind" if source.startswith("/") else "volume", Bind(source, target, "ro" not in modes)
    for mount in host_config.get("Mounts") or ():
        source, target = str(mount.get("Source") or ""), str(mount.get("Target"))
        yield str(mount.get("Type")), Bind(source, target, not mount.get("ReadOnly"), is_made=False)
    for target in host_config.get("Tmpfs") or ():
        yield "tmpfs", Bind("", target, writable=True, is_made=False)


def refuse_missing(host_config: dict[str, Any]) -> None:
    """Turn a body's `Binds` of paths into `Mounts`, in place, so that the engine makes no path that is missing.

    Those with `z` or `Z` stay: only `Binds` can relabel. Volumes stay too.
    """
    kept = []
    for text in host_config.get("Binds") or ():
        source, target, modes = _parts(text)
        if not source.startswith("/") or modes & _LABELS:
            kept.append(text)
            continue
        mount: dict[str, Any] = {"Type": "bind", "Source": source, "Target": target}
        mount |= {"ReadOnly": True} if "ro" in modes else {}
        for mode in modes & _CONSISTENCY:
            mount["Consistency"] = mode
        for mode in modes & _PROPAGATION:
            mount["BindOptions"] = {"Propagation": mode}
        host_config.setdefault("Mounts", []).append(mount)
    host_config.pop("Binds", None)
    if kept:
        host_config["Binds"] = kept


def _parts(bind: str) -> tuple[str, str, set[str]]:
    source, _, rest = bind.partition(":")
    target, _, modes = rest.partition(":")
    return source, target, set(modes.split(",")) - {""}


def refuse_sockets(host_config: Mapping[str, Any], resolve: Callable[[str], str] = os.path.realpath) -> None:
    """Accept mounts of which none is, or contains, the engine's socket.

    Raises:
        ConfigError: One is.
    """
    for source in (resolve(bind.path) for bind in binds(host_config)):
        if any(_within(socket, source) for socket in ENGINE_SOCKETS):
            raise ConfigError(
                f"the mount of {source} hands the container engine's socket to the agent, which makes it root on this "
                "machine: leave it off"
            )


def _warning(source: str, run_dir: str, own_dir: str) -> str | None:
    if source in _MAY_HOLD_SECRETS:
        return f"the agent sees {source} of this machine, which may hold secrets or ways out"
    if _within(run_dir, source) or (_within(source, run_dir) and not _within(source, own_dir)):
        return f"the agent sees {source}, which holds other trials of its run or the run's own ledger"
    return None


def _within(path: str, directory: str) -> bool:
    return PurePosixPath(path).is_relative_to(directory)


def beside_mounts(policy: OutputPolicy, fields: Mapping[str, Any]) -> OutputPolicy:
    """Return what of an output folder is to be copied, without what the user mounts there.

    Nothing is copied of a folder that is the user's own mount, or on a tmpfs. Mounts below it are left out.

    Args:
        policy: What the user wants to be kept.
        fields: The body of the call that creates the container, or a part of it.
    """
    targets = dict(_named_targets(fields.get("HostConfig") or {}))
    above = [target for target in targets if _within(policy.path, target)]
    if above and not policy.unkept:
        return replace(policy, unkept=OWN_MOUNT if targets[max(above, key=len)] != "tmpfs" else ON_TMPFS)
    below = sorted(posixpath.relpath(target, policy.path) for target in targets if _within(target, policy.path))
    return replace(policy, mounts=tuple(below))


def mount_of_output(policy: OutputPolicy, fields: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the mount on which an output folder lies: its kind, its source, and the folder's path below that; None if on none.

    Args:
        policy: Which folder.
        fields: The body of the call that creates the container, or a part of it.
    """
    mounts = [
        (posixpath.normpath(mount.target), kind, mount) for kind, mount in _mounts(fields.get("HostConfig") or {})
    ]
    above = [each for each in mounts if _within(policy.path, each[0]) and (each[2].path or each[1] != "volume")]
    if not above:
        return None
    target, kind, mount = max(above, key=lambda each: len(each[0]))
    return kind, mount.path, posixpath.relpath(policy.path, target)


def tmpfs_warning(policy: OutputPolicy, fields: Mapping[str, Any]) -> str | None:
    """Return a warning if what agents write to their output folder, or below it, is lost with a tmpfs."""
    if policy.unkept:
        return None
    targets = _named_targets(fields.get("HostConfig") or {})
    lost = [path for path, kind in targets if kind == "tmpfs" and _within(path, policy.path)]
    if beside_mounts(policy, fields).unkept == ON_TMPFS:
        lost = [policy.path]
    if not lost:
        return None
    return f"{lost[0]} is a tmpfs: what agents write there is gone once they end, and is not kept; leave the tmpfs off to keep it"


def _named_targets(host_config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where the user's mounts are in the container, each with its kind. A volume without a name is left out."""
    return [
        (posixpath.normpath(mount.target), kind)
        for kind, mount in _mounts(host_config)
        if mount.target and (mount.path or kind != "volume")
    ]
