"""Which engine options a user may pass on, and whose they are: the agent's or its gate's (C9).

An allow-list, because the engine takes more and more options, some of which open the sandbox without a word
(`--pid container:`, `--uts host` beside a joined network). Options are parsed as the engine's own command line does
(`--opt value`, `--opt=value`, `-pX`, `-p=X`, bundled letters) and passed on in one spelling, `--opt=value`, so that nothing
is read here in one way and there in another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from agent_preflight.docker.argv import SEALED
from preflight_proxy.errors import ConfigError


class Home(Enum):
    """Whose option it is."""

    AGENT = auto()
    GATE = auto()
    """Concerns the network, which the gate owns."""
    OURS = auto()
    """Set in every trial already; accepted and dropped."""


_VALUES = {
    Home.AGENT: (
        "blkio-weight cap-drop cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems device-read-bps device-read-iops "
        "device-write-bps device-write-iops entrypoint gpus group-add memory memory-reservation memory-swap memory-swappiness "
        "mount oom-score-adj pids-limit platform shm-size storage-opt tmpfs ulimit user volume workdir"
    ),
    Home.GATE: (
        "add-host dns dns-option dns-opt dns-search domainname expose hostname ip ip6 link-local-ip mac-address "
        "network-alias net-alias publish sysctl"
    ),
}
_FLAGS = {
    Home.AGENT: "no-healthcheck read-only",
    Home.GATE: "publish-all",
    Home.OURS: "init interactive",
}
_SHORT = {
    "c": "cpu-shares",
    "h": "hostname",
    "i": "interactive",
    "m": "memory",
    "p": "publish",
    "P": "publish-all",
    "u": "user",
    "v": "volume",
    "w": "workdir",
    "d": "detach",
    "e": "env",
    "l": "label",
    "t": "tty",
}
_TAKES_VALUE = {name: home for home, names in _VALUES.items() for name in names.split()}
_IS_FLAG = {name: home for home, names in _FLAGS.items() for name in names.split()}
_REASONS = {
    "env": "give variables by env=, which keeps them off the command line",
    "env-file": "give variables by env=",
    "network": "choose the network by network=",
    "net": "choose the network by network=",
    "tty": "a terminal would mix the agent's two output streams",
    "detach": "the runner stays attached to the agent",
    "rm": "removal is part of a trial's end, after its exit code is read",
    "name": "names are made so that a sweep finds them",
    "label": "labels are made so that a sweep finds them",
    "pull": "nothing is pulled unasked; use docker pull",
}
_WHY = "it could open the sandbox or take the trial out of the runner's hands"


@dataclass(frozen=True, slots=True)
class Split:
    """The user's options, each as one `--name=value`, by whom they concern."""

    agent: tuple[str, ...] = ()
    gate: tuple[str, ...] = ()


def split(args: Sequence[str], network: str) -> Split:
    """Return the options by whom they concern.

    Raises:
        ConfigError: One is not allowed, at all or in a sealed network; the text names it and says what does the job instead.
    """
    found: dict[Home, list[str]] = {home: [] for home in Home}
    for name, value in _parse(args):
        home = _home(name)
        if home is Home.GATE:
            _check_gate_option(name, value, network)
        found[home].append(f"--{name}" if value is None else f"--{name}={value}")
    return Split(agent=tuple(found[Home.AGENT]), gate=tuple(found[Home.GATE]))


def _parse(args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    rest = iter(args)
    for arg in rest:
        if arg.startswith("--") and len(arg) > 2:
            name, has_value, value = arg[2:].partition("=")
            yield name, _value(name, value if has_value else None, rest)
        elif arg.startswith("-") and len(arg) > 1 and arg != "--":
            yield from _parse_letters(arg[1:], rest)
        else:
            raise ConfigError(
                f"docker_args: {arg!r} is no option; the image and its arguments have parameters of their own"
            )


def _parse_letters(letters: str, rest: Iterator[str]) -> Iterator[tuple[str, str | None]]:
    """Read `-it`, `-p80:80`, `-p=80:80`, `-ip 80:80`: flags may be bundled before one option with a value."""
    for at, letter in enumerate(letters):
        name = _SHORT.get(letter)
        if name is None:
            raise ConfigError(f"docker_args: -{letter} is not allowed")
        attached = letters[at + 1 :]
        if name in _IS_FLAG and not attached.startswith("="):
            yield name, None
            continue
        yield name, _value(name, attached.removeprefix("=") if attached else None, rest)
        return


def _value(name: str, attached: str | None, rest: Iterator[str]) -> str | None:
    _home(name)
    if name in _IS_FLAG or attached is not None:
        return attached
    value = next(rest, None)
    if value is None:
        raise ConfigError(f"docker_args: --{name} needs a value")
    return value


def _home(name: str) -> Home:
    home = _TAKES_VALUE.get(name) or _IS_FLAG.get(name)
    if home is None:
        raise ConfigError(f"docker_args: --{name} is not allowed: {_REASONS.get(name, _WHY)}")
    return home


def _check_gate_option(name: str, value: str | None, network: str) -> None:
    if network == SEALED:
        raise ConfigError(
            f"docker_args: --{name} needs a network, and this trial is sealed: leave it off, or use network='bridge'"
        )
    if name == "sysctl" and not (value or "").startswith("net."):
        raise ConfigError(
            f"docker_args: --sysctl={value} is not allowed: only net.* belongs to the trial's own network"
        )
