"""The documents by which the engine creates a trial's containers. Pure.

Source: docs.docker.com/reference/api/engine/version/v1.41, ContainerCreate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_preflight.docker.labels import OUTPUT_LABEL, TrialLabels
from agent_preflight.docker.mounts import refuse_missing
from agent_preflight.environment.variables import BUDGET_MOUNT
from agent_preflight.options.container_options import SEALED, merge
from agent_preflight.sandboxes.interface import AgentSpec, ForwarderTarget
from preflight_proxy.core.errors import ConfigError

GATE_MOUNT = "/run/preflight-gate"
"""Where the gate finds the proxy's unix socket. The directory is mounted, not the file: a new proxy makes a new socket."""
FORWARDER_SOCKET = f"{GATE_MOUNT}/gate.sock"
"""Where a portable gate finds its forwarder, in the volume that both mount."""
GATE_PORTS = (8788,)
"""The ports that the gate listens on, in the order in which it hands them over."""
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL")
"""C6 (the agent's privileges): what apt, tar, su and foreign-owned mounts need, and no more."""
NO_NEW_PRIVILEGES = "no-new-privileges"
PIDS_MAX = 4096
"""Ends a fork bomb, and is enough for a build with many jobs."""
GATE_PIDS_MAX = 16
"""A gate is one process, and so is a forwarder."""


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
    labels: TrialLabels,
    network: str,
    socket_path: Path | None,
    image: str,
    ports: Sequence[int] = GATE_PORTS,
    services: Iterable[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what creates a trial's gate, as C1 (the gate container) says.

    Args:
        labels: Names and labels.
        network: `"sealed"`, or the network of gate and agent.
        socket_path: The proxy's unix socket, alone in its directory; None for a portable gate, which hands over to its forwarder.
        image: The gate image's id.
        ports: What the gate listens on.
        services: Names that lead to the gate as `openrouter.ai` does.
        extra: The user's own fields that concern the network, of C9 (allowed options).
    """
    sealed = network == SEALED
    mount = _volume(labels) if socket_path is None else _bind(socket_path.parent, GATE_MOUNT)
    config = _own_image(image, labels.labels("gate"), "none" if sealed else network, mount)
    config["Cmd"] = [FORWARDER_SOCKET if socket_path is None else f"{GATE_MOUNT}/{socket_path.name}", *map(str, ports)]
    hosts = [f"{name}:127.0.0.1" for name in ("openrouter.ai", *services)]
    config["HostConfig"] |= {
        "ExtraHosts": hosts if sealed else [*hosts, "host.docker.internal:host-gateway"],
        "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
        **({"Dns": ["127.0.0.1"]} if sealed else {}),
    }
    merge(config, dict(extra or {}))
    return config


def forwarder_config(
    labels: TrialLabels, target: ForwarderTarget, image: str, ports: Sequence[int] = GATE_PORTS
) -> dict[str, Any]:
    """Return what creates a portable gate's forwarder; its environment holds the trial's pass."""
    config = _own_image(image, labels.labels("forwarder"), "bridge", _volume(labels))
    if target.host.endswith(".internal"):
        config["HostConfig"]["ExtraHosts"] = [f"{target.host}:host-gateway"]
    config["Entrypoint"] = ["python3", "-I", "-S", "/forward.py", FORWARDER_SOCKET]
    config["Entrypoint"] += [target.host, str(target.port), *map(str, ports)]
    config["Env"] = [f"PREFLIGHT_PASS={target.trial_pass.reveal()}"]
    return config


def agent_config(spec: AgentSpec, labels: TrialLabels, gate_id: str, seccomp: str) -> dict[str, Any]:
    """Return what creates the agent in its gate's network namespace, by C6 (privileges), C7 (system calls) and C8 (no log).

    Outside a sealed trial `no-new-privileges` is left off, so that images which call sudo still work.
    """
    host = {
        "NetworkMode": f"container:{gate_id}",
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": [f"seccomp={seccomp}", *([NO_NEW_PRIVILEGES] if spec.network == SEALED else [])],
        "PidsLimit": PIDS_MAX,
        "LogConfig": {"Type": "none"},
        "Mounts": [_bind(spec.budget_dir, BUDGET_MOUNT) | {"ReadOnly": True}],
        "Init": True,
    }
    config: dict[str, Any] = {
        "Image": spec.image,
        "Labels": {**labels.labels("agent"), OUTPUT_LABEL: spec.output.text()},
        "HostConfig": host,
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "OpenStdin": True,
        "StdinOnce": True,
        **({"Cmd": list(spec.command)} if spec.command else {}),
    }
    merge(config, dict(spec.docker_args.agent))
    refuse_missing(config["HostConfig"])
    return config


def privileges_text(memory: str | None, cpus: str | None) -> str:
    """Return the privileges and limits that agents have, unless the user's own options say otherwise, for a person."""
    limits = f"pids {PIDS_MAX}, memory {memory or 'unlimited'}, cpus {cpus or 'unlimited'}"
    return f"own system call profile; no capabilities but {' '.join(CAPABILITIES).lower()}; {limits}"


def _own_image(image: str, labels: Mapping[str, str], network: str, mount: Mapping[str, Any]) -> dict[str, Any]:
    """A container of our own image: it has no privilege, and can write nowhere but to its mount."""
    host = {
        "NetworkMode": network,
        "CapDrop": ["ALL"],
        "SecurityOpt": [NO_NEW_PRIVILEGES],
        "PidsLimit": GATE_PIDS_MAX,
        "LogConfig": {"Type": "none"},
        "Mounts": [mount],
        "ReadonlyRootfs": True,
    }
    return {"Image": image, "Labels": labels, "HostConfig": host}


def _bind(source: Path, target: str) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": target}


def _volume(labels: TrialLabels) -> dict[str, Any]:
    return {"Type": "volume", "Source": labels.name("volume"), "Target": GATE_MOUNT}
