"""Every docker command line that makes something: names, labels, arguments, archives. Pure, so that all of it can be read in tests.

Nothing secret is ever part of an argument: the environment goes through a file (`env_file_text`), the rest is names and limits.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent_preflight.docker import podman
from agent_preflight.docker.engines import Kind
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
    kind: Kind = Kind.DOCKER,
    host: str | None = None,
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
        kind: Whose command line it is.
        host: This machine's address in the network, which only Podman has to be told.
    """
    return [
        *("create", "--pull", "never", "--name", tag.name("gate"), *tag.labels("gate")),
        *_gate_reach(network, services, kind, host),
        *("--sysctl", "net.ipv4.ip_unprivileged_port_start=0"),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--pids-limit", str(GATE_PIDS_MAX), "--log-driver", "none", "--restart", "no"),
        *(_gate_volume(tag) if socket_path is None else bind_mount(socket_path.parent, GATE_MOUNT)),
        *extra,
        *(image, FORWARDER_SOCKET if socket_path is None else f"{GATE_MOUNT}/{socket_path.name}", *map(str, ports)),
    ]


def _gate_reach(network: str, services: Iterable[str], kind: Kind, host: str | None) -> list[str]:
    names = [part for name in ("openrouter.ai", *services) for part in ("--add-host", f"{name}:127.0.0.1")]
    match kind, network == SEALED:
        case Kind.DOCKER, True:
            return ["--network", "none", "--dns", "127.0.0.1", *names]
        case Kind.DOCKER, False:
            return ["--network", network, "--add-host", "host.docker.internal:host-gateway", *names]
        case Kind.PODMAN, True:
            return ["--network", "none", "--no-hosts", *podman.CLOSED]
    way = ["--add-host", f"host.docker.internal:{host}"] if host else []
    return ["--network", podman.network_name(network), *way, *names, *podman.CLOSED]


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
    spec: AgentSpec,
    tag: Tag,
    gate_id: str,
    env_file: Path,
    seccomp: Path,
    extra: Sequence[str] = (),
    kind: Kind = Kind.DOCKER,
) -> list[str]:
    """Return the arguments after `docker` that create the agent in its gate's network namespace (C1, C6-C8).

    Args:
        spec: The agent.
        tag: Names and labels.
        gate_id: The gate's container id.
        env_file: File with the environment (`env_file_text`).
        seccomp: File with the system calls that are allowed.
        extra: The user's arguments that concern the agent alone (C9).
        kind: Whose command line it is.
    """
    return [
        *("create", "--pull", "never", "-i", "--init", "--name", tag.name("agent"), *tag.labels("agent")),
        *("--network", f"container:{gate_id}", "--env-file", str(env_file)),
        *(_podman_agent(spec, gate_id) if kind is Kind.PODMAN else []),
        *("--log-driver", "none", "--restart", "no", "--security-opt", f"seccomp={seccomp}", *limits(spec, kind)),
        *bind_mount(spec.budget_dir, BUDGET_MOUNT, read_only=True),
        *(part for mount in spec.mounts for part in ("-v", mount)),
        *extra,
        *(spec.image, *spec.command),
    ]


def _podman_agent(spec: AgentSpec, gate_id: str) -> list[str]:
    found = [*podman.CLOSED, "--uts", f"container:{gate_id}"]
    if spec.network != SEALED:
        return found
    names = podman.names_files(spec.budget_dir)
    return [*found, "--no-hosts", *(part for path, at in names for part in bind_mount(path, at, read_only=True))]


def limits(spec: AgentSpec, kind: Kind = Kind.DOCKER) -> list[str]:
    """Return the arguments for privileges and resources (C6).

    Outside a sealed trial `no-new-privileges` is left off, so that images which call sudo still work.
    """
    named = ["--cap-drop", "ALL", *(part for name in CAPABILITIES for part in ("--cap-add", name))]
    found = podman.capabilities() if kind is Kind.PODMAN else named
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


def remove(ids: Iterable[str]) -> list[str]:
    """Return the arguments after `docker` that remove containers, running or not, with their anonymous volumes."""
    return ["rm", "-f", "-v", *ids]
