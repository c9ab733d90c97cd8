"""What our containers are: names, labels, and the bodies of the calls that create them. Pure.

Source: docs.docker.com/reference/api/engine/version/v1.41, ContainerCreate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from agent_preflight.docker.mounts import refuse_missing
from agent_preflight.options.container_options import SEALED, merge
from agent_preflight.sandboxes.interface import AgentSpec, ForwarderTarget
from preflight_proxy.core.errors import ConfigError

BUDGET_MOUNT = "/run/preflight"
"""Where the agent finds `budget.txt`, read-only; not below its workspace (C16)."""
BUDGET_FILE = f"{BUDGET_MOUNT}/budget.txt"
GATE_MOUNT = "/run/preflight-gate"
"""Where the gate finds the proxy's unix socket. The directory is mounted, not the file: a new proxy makes a new socket."""
FORWARDER_SOCKET = f"{GATE_MOUNT}/gate.sock"
"""Where a portable gate finds its forwarder, in a volume of theirs."""
GATE_PORTS = (8788,)
"""The ports that the gate listens on, in the order in which it hands them over."""
LABEL = "agent-preflight"
OUTPUT_LABEL = f"{LABEL}.output"
"""What a sweep is to keep of an agent's files before it removes its container; empty if nothing."""
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL")
"""What apt, tar, su and foreign-owned mounts need, and no more (C6)."""
NO_NEW_PRIVILEGES = "no-new-privileges"
PIDS_MAX = 4096
"""Ends a fork bomb, and lets a build with many jobs pass."""
GATE_PIDS_MAX = 16
"""A gate is one process, and so is a forwarder."""

Role = Literal["agent", "gate", "forwarder", "network", "volume"]


@dataclass(frozen=True, slots=True)
class TrialLabels:
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
        """Return the container's or volume's name: run and trial in full, in the characters that the engine allows."""
        kind = "" if role == "agent" else f"{role}-"
        return re.sub(r"[^a-zA-Z0-9_.-]", "-", f"ap-{self.alias}-{self.run_id}-{kind}{self.suffix}")

    def labels(self, role: Role) -> dict[str, str]:
        """Return the labels by which a sweep knows what it is."""
        values = {"run": self.run_id, "dir": str(self.run_dir), "trial": self.alias, "role": role}
        values |= {"owner": self.owner, "expires": self.expires}
        return {f"{LABEL}.{key}": value for key, value in values.items()}


class _MountConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    type: str
    source: str
    target: str
    read_only: bool = False


class _HostConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    network_mode: str
    cap_drop: list[str]
    security_opt: list[str]
    pids_limit: int
    mounts: list[_MountConfig]
    log_config: dict[str, str]
    cap_add: Sequence[str] = ()
    init: bool = False
    readonly_rootfs: bool = False
    dns: Sequence[str] = ()
    extra_hosts: Sequence[str] = ()
    sysctls: Mapping[str, str] = {}


class _ContainerConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    image: str
    labels: dict[str, str]
    host_config: _HostConfig
    cmd: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    env: Sequence[str] = ()
    open_stdin: bool = False
    stdin_once: bool = False


def check_network(network: str) -> None:
    """Accept `"sealed"`, `"bridge"` or a network's name.

    Raises:
        ConfigError: A mode in which the agent would share the network of the host or of another container, or have none.
    """
    if network in ("host", "none", "default") or ":" in network or not network:
        raise ConfigError(
            f"network {network!r} cannot be used: choose 'sealed', 'bridge' or the name of a Docker network"
        )


def gate_config(
    tag: TrialLabels,
    network: str,
    socket_path: Path | None,
    image: str,
    ports: Sequence[int] = GATE_PORTS,
    services: Iterable[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what creates a trial's gate (C1).

    Args:
        tag: Names and labels.
        network: `"sealed"`, or the network that gate and agent shall have.
        socket_path: The proxy's unix socket, alone in its directory; None for a portable gate, which hands over to its forwarder.
        image: The gate image's id.
        ports: What the gate listens on.
        services: Names that lead to the gate as `openrouter.ai` does.
        extra: The user's own fields that concern the network (C9).
    """
    sealed = network == SEALED
    names = [f"{name}:127.0.0.1" for name in ("openrouter.ai", *services)]
    shared = _volume(tag) if socket_path is None else _MountConfig("bind", str(socket_path.parent), GATE_MOUNT)
    host = _weak("none" if sealed else network, shared)
    host.dns = ["127.0.0.1"] if sealed else []
    host.extra_hosts = names if sealed else [*names, "host.docker.internal:host-gateway"]
    host.sysctls = {"net.ipv4.ip_unprivileged_port_start": "0"}
    socket_inside = FORWARDER_SOCKET if socket_path is None else f"{GATE_MOUNT}/{socket_path.name}"
    return _filled(
        _ContainerConfig(image, tag.labels("gate"), host, cmd=[socket_inside, *map(str, ports)]), extra or {}
    )


def forwarder_config(
    tag: TrialLabels, portal: ForwarderTarget, image: str, ports: Sequence[int] = GATE_PORTS
) -> dict[str, Any]:
    """Return what creates a portable gate's forwarder; its environment holds the trial's pass."""
    host = _weak("bridge", _volume(tag))
    host.extra_hosts = [f"{portal.host}:host-gateway"] if portal.host.endswith(".internal") else []
    entrypoint = ["python3", "-I", "-S", "/forward.py", FORWARDER_SOCKET]
    entrypoint += [portal.host, str(portal.port), *map(str, ports)]
    env = environment({"PREFLIGHT_PASS": portal.trial_pass.reveal()})
    return _filled(_ContainerConfig(image, tag.labels("forwarder"), host, entrypoint=entrypoint, env=env))


def agent_config(spec: AgentSpec, tag: TrialLabels, gate_id: str, seccomp: str) -> dict[str, Any]:
    """Return what creates the agent in its gate's network namespace (C1, C6-C8).

    Outside a sealed trial `no-new-privileges` is left off, so that images which call sudo still work.
    """
    host = _HostConfig(
        network_mode=f"container:{gate_id}",
        cap_drop=["ALL"],
        cap_add=CAPABILITIES,
        security_opt=[f"seccomp={seccomp}", *([NO_NEW_PRIVILEGES] if spec.network == SEALED else [])],
        pids_limit=PIDS_MAX,
        log_config={"Type": "none"},
        mounts=[_MountConfig("bind", str(spec.budget_dir), BUDGET_MOUNT, read_only=True)],
        init=True,
    )
    labels = {**tag.labels("agent"), OUTPUT_LABEL: spec.output.text()}
    body = _ContainerConfig(spec.image, labels, host, cmd=spec.command, env=environment(spec.env))
    body.open_stdin = body.stdin_once = True
    fields = _filled(body, spec.docker_args.agent)
    refuse_missing(fields["HostConfig"])
    return fields


def in_force(memory: str | None, cpus: str | None) -> str:
    """Return the privileges and limits that agents have, unless the user's own options say otherwise, for a person (C6, C7)."""
    limits = f"pids {PIDS_MAX}, memory {memory or 'unlimited'}, cpus {cpus or 'unlimited'}"
    return f"own system call profile; no capabilities but {' '.join(CAPABILITIES).lower()}; {limits}"


def _weak(network: str, mount: _MountConfig) -> _HostConfig:
    """A container of our own image: it can do nothing but what its one program does."""
    return _HostConfig(
        network_mode=network,
        cap_drop=["ALL"],
        security_opt=[NO_NEW_PRIVILEGES],
        pids_limit=GATE_PIDS_MAX,
        log_config={"Type": "none"},
        mounts=[mount],
        readonly_rootfs=True,
    )


def _volume(tag: TrialLabels) -> _MountConfig:
    return _MountConfig("volume", tag.name("volume"), GATE_MOUNT)


def _filled(body: _ContainerConfig, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(body)
    merge(fields, dict(extra or {}))
    return fields


def environment(env: Mapping[str, str]) -> list[str]:
    """Return variables as the engine takes them."""
    return [f"{name}={value}" for name, value in env.items()]
