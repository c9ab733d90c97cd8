"""Every docker command line that makes something: names, labels, arguments, archives. Pure, so that all of it can be read in tests.

Nothing secret is ever part of an argument: the environment goes through a file (`env_file_text`), the rest is names and limits.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from agent_preflight.sandbox import AgentSpec
from preflight_proxy.errors import ConfigError

BUDGET_MOUNT = "/run/preflight"
"""Where the agent finds `budget.txt`, read-only; not below its workspace (C16)."""
BUDGET_FILE = f"{BUDGET_MOUNT}/budget.txt"
GATE_MOUNT = "/run/preflight-gate"
"""Where the gate finds the proxy's unix socket. The directory is mounted, not the file: a new proxy makes a new socket."""
FORWARDER_SOCKET = f"{GATE_MOUNT}/gate.sock"
"""Where a portable gate finds its forwarder, in a volume of theirs."""
GATE_PORTS = (8788,)
"""The ports that the gate listens on, in the order in which it hands them over."""
SEALED = "sealed"
LABEL = "agent-preflight"
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL")
"""What apt, tar, su and foreign-owned mounts need, and no more (C6)."""
PIDS_MAX = 4096
"""Ends a fork bomb, and lets a build with many jobs pass."""
GATE_PIDS_MAX = 16
"""A gate is one process, and so is a forwarder."""
ENV_VALUE_BYTES_MAX = 60_000
"""docker reads its environment file by lines of at most 64 KiB."""

Role = Literal["agent", "gate", "forwarder", "network", "volume"]


@dataclass(frozen=True, slots=True)
class Tag:
    """What marks everything of one trial, so that a sweep finds what a crash left (C15).

    Attributes:
        run_id: The run's id, in full.
        run_dir: Absolute directory of the run; which run it is, however many runs share an id.
        alias: The trial.
        owner: Who made it: boot id, process id and the process's start time.
        expires: ISO time after which nobody can still want it.
        suffix: Random hexadecimal digits, one value per sandbox.
    """

    run_id: str
    run_dir: Path
    alias: str
    owner: str
    expires: str
    suffix: str

    def name(self, role: Role) -> str:
        """Return the container's name: run and trial in full, in the characters that the engine allows."""
        kind = "" if role == "agent" else f"{role}-"
        return re.sub(r"[^a-zA-Z0-9_.-]", "-", f"ap-{self.alias}-{self.run_id}-{kind}{self.suffix}")

    def labels(self, role: Role) -> list[str]:
        """Return the `--label` arguments."""
        values = {
            "run": self.run_id,
            "dir": str(self.run_dir),
            "trial": self.alias,
            "role": role,
            "owner": self.owner,
            "expires": self.expires,
            "sandbox": self.suffix,
        }
        return [part for key, value in values.items() for part in ("--label", f"{LABEL}.{key}={value}")]

    def filters(self, role: Role) -> list[str]:
        """Return the `--filter` arguments that find just what this sandbox made for this role."""
        wanted = {"sandbox": self.suffix, "run": self.run_id, "role": role}
        return [part for key, value in wanted.items() for part in ("--filter", f"label={LABEL}.{key}={value}")]


def check_network(network: str) -> None:
    """Accept `"sealed"`, `"bridge"` or a network's name.

    Raises:
        ConfigError: A mode in which the agent would share the network of the host or of another container, or have none.
    """
    if network in ("host", "none", "default") or ":" in network or not network:
        raise ConfigError(
            f"network {network!r} cannot be used: choose 'sealed', 'bridge' or the name of a Docker network"
        )


def gate_create(
    tag: Tag,
    network: str,
    socket_path: Path | None,
    image: str,
    extra: Sequence[str] = (),
    ports: Sequence[int] = GATE_PORTS,
    services: Iterable[str] = (),
) -> list[str]:
    """Return the arguments after `docker` that create a trial's gate (C1).

    Args:
        tag: Names and labels.
        network: `"sealed"`, or the network that gate and agent shall have.
        socket_path: The proxy's unix socket, alone in its directory; None for a portable gate, which hands over to its forwarder.
        image: The gate image's id.
        extra: The user's arguments that concern the network (C9).
        ports: What the gate listens on.
        services: Names that lead to the gate as `openrouter.ai` does.
    """
    reach = (
        ["--network", "none", "--dns", "127.0.0.1"]
        if network == SEALED
        else ["--network", network, "--add-host", "host.docker.internal:host-gateway"]
    )
    return [
        *("create", "--pull", "never", "--name", tag.name("gate"), *tag.labels("gate")),
        *(*reach, *(part for name in ("openrouter.ai", *services) for part in ("--add-host", f"{name}:127.0.0.1"))),
        *("--sysctl", "net.ipv4.ip_unprivileged_port_start=0"),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--pids-limit", str(GATE_PIDS_MAX), "--log-driver", "none", "--restart", "no"),
        *(_gate_volume(tag) if socket_path is None else bind_mount(socket_path.parent, GATE_MOUNT)),
        *extra,
        *(image, FORWARDER_SOCKET if socket_path is None else f"{GATE_MOUNT}/{socket_path.name}", *map(str, ports)),
    ]


def volume_create(tag: Tag) -> list[str]:
    """Return the arguments after `docker` that make the volume in which a portable gate finds its forwarder."""
    return ["volume", "create", *tag.labels("volume"), tag.name("volume")]


def _gate_volume(tag: Tag) -> list[str]:
    return ["--mount", f"type=volume,source={tag.name('volume')},target={GATE_MOUNT}"]


def forwarder_create(
    tag: Tag, host: str, port: int, env_file: Path, image: str, ports: Sequence[int] = GATE_PORTS
) -> list[str]:
    """Return the arguments after `docker` that create a portable gate's forwarder.

    Args:
        tag: Names and labels.
        host: Where the proxy's portal is, seen from a container on the bridge network.
        port: The portal's port.
        env_file: File with the trial's pass, which no argument holds.
        image: The gate image's id.
        ports: What the gate hands over.
    """
    reach = ["--add-host", f"{host}:host-gateway"] if host.endswith(".internal") else []
    return [
        *("create", "--pull", "never", "--name", tag.name("forwarder"), *tag.labels("forwarder")),
        *("--network", "bridge", *reach, "--env-file", str(env_file)),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--pids-limit", str(GATE_PIDS_MAX), "--log-driver", "none", "--restart", "no"),
        *_gate_volume(tag),
        *("--entrypoint", "python3", image, "-I", "-S", "/forward.py", FORWARDER_SOCKET),
        *(host, str(port), *map(str, ports)),
    ]


def agent_create(
    spec: AgentSpec, tag: Tag, gate_id: str, env_file: Path, seccomp: Path, extra: Sequence[str] = ()
) -> list[str]:
    """Return the arguments after `docker` that create the agent in its gate's network namespace (C1, C6-C8).

    Args:
        spec: The agent.
        tag: Names and labels.
        gate_id: The gate's container id.
        env_file: File with the environment (`env_file_text`).
        seccomp: File with the system calls that are allowed.
        extra: The user's arguments that concern the agent alone (C9).
    """
    return [
        *("create", "--pull", "never", "-i", "--init", "--name", tag.name("agent"), *tag.labels("agent")),
        *("--network", f"container:{gate_id}", "--env-file", str(env_file)),
        *("--log-driver", "none", "--restart", "no", "--security-opt", f"seccomp={seccomp}", *limits(spec)),
        *bind_mount(spec.budget_dir, BUDGET_MOUNT, read_only=True),
        *(part for mount in spec.mounts for part in ("-v", mount)),
        *extra,
        *(spec.image, *spec.command),
    ]


def limits(spec: AgentSpec) -> list[str]:
    """Return the arguments for privileges and resources (C6).

    Outside a sealed trial `no-new-privileges` is left off, so that images which call sudo still work.
    """
    found = ["--cap-drop", "ALL", *(part for name in CAPABILITIES for part in ("--cap-add", name))]
    found += ["--pids-limit", str(PIDS_MAX)]
    if spec.network == SEALED:
        found += ["--security-opt", "no-new-privileges"]
    if spec.memory is not None:
        found += ["--memory", spec.memory]
    if spec.cpus is not None:
        found += ["--cpus", spec.cpus]
    return found


def in_force(spec: AgentSpec) -> str:
    """Return one line for a person: the network, privileges and limits that this agent will have (C6, C7)."""
    parts = [
        f"network {spec.network}",
        "own system call profile",
        f"capabilities {' '.join(CAPABILITIES).lower()}",
        *(["no new privileges"] if spec.network == SEALED else []),
        f"pids {PIDS_MAX}",
        f"memory {spec.memory or 'unlimited'}",
        f"cpus {spec.cpus or 'unlimited'}",
    ]
    return ", ".join(parts)


def bind_mount(source: Path, target: str, *, read_only: bool = False) -> list[str]:
    """Return a `--mount` argument pair; any character may stand in the path, and a missing source is an error."""
    row = io.StringIO()
    fields = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    csv.writer(row, lineterminator="").writerow(fields)
    return ["--mount", row.getvalue()]


def env_file_text(env: Mapping[str, str]) -> str:
    """Return the content of an environment file for docker, which knows no quoting.

    Raises:
        ValueError: A name or value cannot be written: it is empty, has a newline or NUL, or is too long. No value is shown.
    """
    return "".join(f"{_checked_name(name)}={_checked_value(name, value)}\n" for name, value in env.items())


def _checked_name(name: str) -> str:
    if not name or name.startswith("#") or re.search(r"[\s=\0]", name):
        raise ValueError(f"environment variable name {name[:80]!r} cannot be passed to a container")
    return name


def _checked_value(name: str, value: str) -> str:
    if re.search(r"[\r\n\0]", value):
        raise ValueError(f"the value of environment variable {name} has a newline: put it into a file and mount that")
    if len(value.encode("utf-8", "surrogateescape")) > ENV_VALUE_BYTES_MAX:
        raise ValueError(f"the value of environment variable {name} is longer than {ENV_VALUE_BYTES_MAX} bytes")
    return value


@dataclass(frozen=True, slots=True)
class LinkCopy:
    """One way to place the budget link: an archive, and the directory of the container to unpack it in."""

    directory: str
    archive: bytes


def link_copies(workspace_path: str) -> list[LinkCopy]:
    """Return the ways to place `budget.txt` in a workspace, from "it exists" up to "nothing of it exists" (C16).

    The engine unpacks only into a directory that exists. So the first that succeeds is the right one: it makes just the parents
    that are missing, with mode 0777 because the agent's user need not be root, and touches no directory that was there.

    Raises:
        ConfigError: The path is not absolute, or not a plain one.
    """
    path = PurePosixPath(workspace_path)
    if not path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"workspace_path must be an absolute path inside the container; it is {workspace_path!r}")
    return [LinkCopy(str(base), _link_archive(path.relative_to(base))) for base in (path, *path.parents)]


def _link_archive(below: PurePosixPath) -> bytes:
    missing = [parent for parent in (below, *below.parents) if parent.parts][::-1]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for directory in missing:
            entry = tarfile.TarInfo(str(directory))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
        link = tarfile.TarInfo(str(below / "budget.txt"))
        link.type, link.mode, link.linkname = tarfile.SYMTYPE, 0o777, BUDGET_FILE
        archive.addfile(link)
    return out.getvalue()


def remove(ids: Iterable[str]) -> list[str]:
    """Return the arguments after `docker` that remove containers, running or not, with their anonymous volumes."""
    return ["rm", "-f", "-v", *ids]
