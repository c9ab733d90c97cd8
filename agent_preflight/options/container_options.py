"""Reads the user's own `docker run` options as Docker's command line reads them: C9 (engine options).

Only the options of the table below are allowed, because new versions of the engine add options, and some of them open the sandbox
without a warning (`--pid container:`, `--uts host` beside a joined network). Numbers are plain decimals: `010`, which is eight for
Docker, is an error.

Source: docker/cli 28.2, cli/command/container/opts.go and opts/; docker/go-units; docker/go-connections, nat/nat.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from agent_preflight.options import container_values as v
from agent_preflight.options.container_values import SHOWN_MAX, Fields, ValueForm, merge, put, read, shown
from preflight_proxy.core.errors import ConfigError

SEALED = "sealed"
AGENT, GATE, OURS = "agent", "gate", "ours"
"""Whose option it is: the agent's; its gate's, which owns the network; or ours, which every trial has, so it is dropped."""


__all__ = ["DockerArgs", "Fields", "merge", "read_docker_args"]


class DockerArgs(msgspec.Struct, frozen=True):
    """Fields for the agent's container and for its gate's, and the value of `--platform`, which is not part of the body."""

    agent: Fields = {}
    gate: Fields = {}
    platform: str | None = None


def read_docker_args(args: Sequence[str], network: str) -> DockerArgs:
    """Return the options as fields.

    Args:
        args: Words of a command line.
        network: `sealed`, `bridge` or the name of a network.

    Raises:
        ConfigError: An option is not allowed, or not in a sealed network, or its value is wrong. The text says which.
    """
    fields: dict[str, Fields] = {AGENT: {}, GATE: {}, OURS: {}}
    for name, text in _parse(args):
        owner, paths, form = _option(name)
        if owner == GATE and network == SEALED:
            raise ConfigError(
                f"docker_args: --{name} needs a network, and this trial is sealed: leave it off, or use network='bridge'"
            )
        value = read(name, form, text)
        for path in paths.split():
            put(fields[owner], [network if key == "*" else key for key in path.split(".")], value)
    return DockerArgs(platform=fields[AGENT].pop("platform", None), agent=fields[AGENT], gate=fields[GATE])


def _parse(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = iter(args)
    for name, attached, value in (word.partition("=") for arg in rest for word in _long(arg)):
        text = value if attached else "true" if _is_flag(name) else next(rest, None)
        if text is None:
            raise ConfigError(f"docker_args: --{name} needs a value")
        yield name, text


def _long(arg: str) -> Iterator[str]:
    """Yield `-it`, `-p80:80`, `-p=80:80`, `-ip80:80` as long options. Several flags may stand before one option with a value."""
    if arg in ("-", "--") or not arg.startswith("-"):
        raise ConfigError(
            f"docker_args: {shown(arg)} is no option; the image and its arguments are options of the run itself"
        )
    if arg.startswith("--"):
        yield arg[2:]
        return
    for at, letter in enumerate(arg[1:], 2):
        if letter not in _SHORT:
            raise ConfigError(f"docker_args: -{letter} is not allowed")
        name, attached = _SHORT[letter], arg[at:]
        if not _is_flag(name) or attached.startswith("="):
            yield f"{name}={attached.removeprefix('=')}" if attached else name
            return
        yield name


def _option(name: str) -> tuple[str, str, ValueForm]:
    if name not in OPTIONS:
        raise ConfigError(f"docker_args: --{name[:SHOWN_MAX]} is not allowed: {_REASONS.get(name, _WHY)}")
    return OPTIONS[name]


def _is_flag(name: str) -> bool:
    return _option(name)[2].pattern == v.FLAG.pattern


_END = "NetworkingConfig.EndpointsConfig.*"

OPTIONS: Mapping[str, tuple[str, str, ValueForm]] = {
    "blkio-weight": (AGENT, "HostConfig.BlkioWeight", v.WEIGHT),
    "cap-drop": (AGENT, "HostConfig.CapDrop[]", v.CAP),
    "cpu-period": (AGENT, "HostConfig.CpuPeriod", v.NUMBER),
    "cpu-quota": (AGENT, "HostConfig.CpuQuota", v.NUMBER),
    "cpu-shares": (AGENT, "HostConfig.CpuShares", v.NUMBER),
    "cpus": (AGENT, "HostConfig.NanoCpus", v.CPUS),
    "cpuset-cpus": (AGENT, "HostConfig.CpusetCpus", v.TEXT),
    "cpuset-mems": (AGENT, "HostConfig.CpusetMems", v.TEXT),
    "device-read-bps": (AGENT, "HostConfig.BlkioDeviceReadBps[]", v.BYTES),
    "device-read-iops": (AGENT, "HostConfig.BlkioDeviceReadIOps[]", v.CALLS),
    "device-write-bps": (AGENT, "HostConfig.BlkioDeviceWriteBps[]", v.BYTES),
    "device-write-iops": (AGENT, "HostConfig.BlkioDeviceWriteIOps[]", v.CALLS),
    "entrypoint": (AGENT, "Entrypoint", ValueForm(v.TEXT.form, v.TEXT.pattern, lambda text: [text])),
    "gpus": (AGENT, "HostConfig.DeviceRequests[]", v.GPUS),
    "group-add": (AGENT, "HostConfig.GroupAdd[]", v.WORD),
    "memory": (AGENT, "HostConfig.Memory", v.SIZE),
    "memory-reservation": (AGENT, "HostConfig.MemoryReservation", v.SIZE),
    "memory-swap": (AGENT, "HostConfig.MemorySwap", v.SWAP),
    "memory-swappiness": (AGENT, "HostConfig.MemorySwappiness", v.PERCENT),
    "mount": (AGENT, "HostConfig.Mounts[]", v.MOUNT),
    "no-healthcheck": (AGENT, "Healthcheck", v.HEALTH),
    "oom-score-adj": (AGENT, "HostConfig.OomScoreAdj", v.NUMBER),
    "pids-limit": (AGENT, "HostConfig.PidsLimit", v.NUMBER),
    "platform": (AGENT, "platform", v.WORD),
    "read-only": (AGENT, "HostConfig.ReadonlyRootfs", v.FLAG),
    "shm-size": (AGENT, "HostConfig.ShmSize", v.SIZE),
    "storage-opt": (AGENT, "HostConfig.StorageOpt{}", v.PAIR),
    "tmpfs": (AGENT, "HostConfig.Tmpfs{}", v.TMPFS),
    "ulimit": (AGENT, "HostConfig.Ulimits[Name]", v.ULIMIT),
    "user": (AGENT, "User", v.TEXT),
    "volume": (AGENT, "{}", v.VOLUME),
    "workdir": (AGENT, "WorkingDir", v.PATH),
    "add-host": (GATE, "HostConfig.ExtraHosts[]", v.HOST),
    "dns": (GATE, "HostConfig.Dns[]", v.ADDRESS),
    "dns-opt": (GATE, "HostConfig.DnsOptions[]", v.WORD),
    "dns-option": (GATE, "HostConfig.DnsOptions[]", v.WORD),
    "dns-search": (GATE, "HostConfig.DnsSearch[]", v.DOMAIN),
    "domainname": (GATE, "Domainname", v.TEXT),
    "expose": (GATE, "ExposedPorts{}", v.EXPOSE),
    "hostname": (GATE, "Hostname", v.TEXT),
    "ip": (GATE, f"{_END}.IPAMConfig.IPv4Address", v.IPV4),
    "ip6": (GATE, f"{_END}.IPAMConfig.IPv6Address", v.IPV6),
    "link-local-ip": (GATE, f"{_END}.IPAMConfig.LinkLocalIPs[]", v.ADDRESS),
    "mac-address": (GATE, f"MacAddress {_END}.MacAddress", v.MAC),
    "net-alias": (GATE, f"{_END}.Aliases[]", v.WORD),
    "network-alias": (GATE, f"{_END}.Aliases[]", v.WORD),
    "publish": (GATE, "{}", v.PUBLISH),
    "publish-all": (GATE, "HostConfig.PublishAllPorts", v.FLAG),
    "sysctl": (GATE, "HostConfig.Sysctls{}", v.SYSCTL),
    "init": (OURS, "HostConfig.Init", v.FLAG),
    "interactive": (OURS, "OpenStdin", v.FLAG),
}
"""The options that are allowed: whose option it is, its fields of the API, and how its value is written.

The last value of an option counts. A field with `[]` is a list of all values, with `[Name]` a list with one value for each name,
with `{}` a mapping of all values. A `*` is the network. If the field has no name, the value has fields, which go into the body.
"""
_LETTERS = (
    "c=cpu-shares h=hostname i=interactive m=memory p=publish P=publish-all u=user v=volume w=workdir "
    "d=detach e=env l=label t=tty"
)
_SHORT = {word[0]: word[2:] for word in _LETTERS.split()}
_REASONS = {
    "env": "give variables by env=, which keeps them off the command line",
    "env-file": "give variables by env=",
    "network": "choose the network by network=",
    "net": "choose the network by network=",
    "tty": "a terminal would mix the agent's two output streams",
    "detach": "the runner stays attached to the agent",
    "rm": "the runner removes the container after it has read the exit code",
    "name": "the runner names containers so that a sweep finds them",
    "label": "the runner labels containers so that a sweep finds them",
    "pull": "no image is pulled; use docker pull",
}
_WHY = "it could open the sandbox, or the runner could lose control of the trial"
