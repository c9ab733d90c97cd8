"""What Podman wants otherwise than Docker, so that a trial on it is as closed as on Docker. Pure.

Arguments that only restate a default are there because a file (`containers.conf`) can change it, and no file shall open a trial.

Source: podman-create(1) of Podman 4.3, and what our container tests showed on 4.3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

BRIDGE = "podman"
"""The network that Docker calls `bridge`."""
HOSTS, RESOLVER = "/etc/hosts", "/etc/resolv.conf"
DROPPED = (
    "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE DAC_READ_SEARCH IPC_LOCK IPC_OWNER LEASE "
    "LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETPCAP "
    "SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG WAKE_ALARM"
)
"""All but our seven (C6). Those that are added by name an agent that is not root would have in force; those that are left, not."""
CLOSED = (
    *("--stop-timeout", "0"),  # `rm -f` would ask politely first, for ten seconds
    "--http-proxy=false",  # the caller's proxy variables may hold passwords
    "--env-host=false",
    "--systemd=false",  # an image whose program is called init would get control groups to write to
    *("--sdnotify", "ignore"),  # it would get the socket on which the caller's own service reports
    "--privileged=false",
    *("--pid", "private", "--ipc", "private", "--userns", "host"),
    "--read-only-tmpfs=false",
)
"""For every container."""


class Mount(msgspec.Struct, rename="pascal"):
    """A mount as `inspect` tells it."""

    destination: str
    rw: bool = msgspec.field(name="RW")


def capabilities() -> list[str]:
    """Return the arguments that leave an agent our seven capabilities."""
    return [part for name in DROPPED.split() for part in ("--cap-drop", name)]


def network_name(network: str) -> str:
    """Return Podman's name of a network."""
    return BRIDGE if network == "bridge" else network


def names_files(directory: Path) -> tuple[tuple[Path, str], ...]:
    """Return the files of this directory that are mounted into a sealed agent, and where."""
    return (directory / "hosts", HOSTS), (directory / "resolv.conf", RESOLVER)


def write_names(directory: Path, names: Sequence[str]) -> None:
    """Write the `names_files`, readable for every user (C17): they hold no secret.

    Podman gives a container that joins a gate without a network a hosts file with this machine's names, and takes none for it.
    """
    hosts = "".join(f"127.0.0.1\t{name}\n" for name in ("localhost", *names)) + "::1\tlocalhost\n"
    for (path, _), text in zip(names_files(directory), (hosts, "nameserver 127.0.0.1\n"), strict=True):
        path.write_text(text)
        path.chmod(0o644)


def link_may_stray(mounts: Sequence[Mount], workspace: str, own: Sequence[str]) -> bool:
    """Tell whether a link put into the workspace may end up in a read-only mount, for Podman's `cp` writes through one.

    A workspace may be a link of the image's to anywhere, so any read-only mount is one too many, unless the workspace is a
    mount itself.

    Args:
        mounts: The container's.
        workspace: The directory in it.
        own: Where our own read-only mounts are.
    """
    if all(mount.rw or mount.destination in own for mount in mounts):
        return False
    return not any(mount.rw and PurePosixPath(mount.destination) == PurePosixPath(workspace) for mount in mounts)
