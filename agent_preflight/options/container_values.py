"""How the values of `docker run` options are written, and the values of the engine's API that they become.

Source: docker/cli 28.2, cli/command/container/opts.go and opts/; docker/go-units; docker/go-connections, nat/nat.go.
"""

from __future__ import annotations

import contextlib
import csv
import os.path
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from preflight_proxy.core.errors import ConfigError

Fields = dict[str, Any]
"""A part of the body of `POST /containers/create`, nested as the API nests it."""
SHOWN_MAX = 80
"""Characters of a wrong value that an error shows."""


class ValueForm(NamedTuple):
    """How a value is written: in words, as a pattern, and the function that makes the API's value of the pattern's groups.

    A pattern without groups is one group.
    """

    form: str
    pattern: str
    make: Callable[..., Any] = str

    def parse(self, text: str) -> Any:  # noqa: ANN401 - JSON
        """Return the API's value of a text.

        Raises:
            ValueError: The text has another form.
            ConfigError: A part of the text is wrong; the error says which.
        """
        with contextlib.suppress(ValueError, csv.Error):  # the pattern allows more than `make`
            match = re.fullmatch(self.pattern, text, re.ASCII | re.DOTALL)
            if match and b"\0" not in text.encode():
                return self.make(*(match.groups("") or [text]))
        raise ValueError(f"{shown(text)} is not {self.form}")


def merge(body: Fields, more: Fields) -> None:
    """Add copies of fields to a body, in place: mappings are merged deeply, lists appended, anything else replaced."""
    for key, value in more.items():
        match body.get(key), value:
            case dict(old), dict():
                merge(old, value)
            case list(old), list():
                old.extend(deepcopy(value))
            case _:
                body[key] = deepcopy(value)


def read(name: str, kind: ValueForm, text: str) -> Any:  # noqa: ANN401 - JSON
    """Return the API's value of an option's text. Raises ConfigError, which says what is expected."""
    try:
        return kind.parse(text)
    except ValueError as exc:
        raise ConfigError(f"docker_args: --{name[:SHOWN_MAX]} {exc}") from None


def shown(text: str) -> str:
    """Return a value as an error shows it: quoted, and cut if it is long."""
    quoted = repr(text[: SHOWN_MAX + 1])
    return quoted if len(quoted) <= SHOWN_MAX else f"{quoted[: SHOWN_MAX - 3]}..."


def put(fields: Fields, path: Sequence[str], value: Any) -> None:  # noqa: ANN401 - JSON
    """Set a field, append to a list (`[]`; with `[Name]` the new value replaces one of that name) or merge a mapping (`{}`)."""
    for key in path[:-1]:
        fields = fields.setdefault(key, {})
    name, how, unique = re.findall(r"(\w*)([\[{]?)(\w*)", path[-1])[0]
    if how == "[":
        fields[name] = [old for old in fields.get(name, []) if not unique or old[unique] != value[unique]] + [value]
    elif how == "{":
        merge(fields.setdefault(name, {}) if name else fields, value)
    else:
        fields[name] = value


def _size(number: str, unit: str) -> int:
    factor = 1024 ** " kmgtp".index(unit.lower() or " ")
    size = int(float(number) * factor)  # a float, as in Docker, so that 1.1g is the same number of bytes
    if size >= 2**63:
        raise ValueError(number)
    return size


def _nano(whole: str, part: str) -> int:
    return int(whole + part.ljust(9, "0"))


def _rate(path: str, number: str, *unit: str) -> Fields:
    return {"Path": path, "Rate": _size(number, *unit) if unit else int(number)}


def _capability(text: str) -> str:
    name = text.upper().removeprefix("CAP_")
    return name if name == "ALL" else f"CAP_{name}"


def _ulimit(name: str, soft: str, hard: str) -> Fields:
    low, high = int(soft), int(hard or soft)
    if high != -1 and not 0 <= low <= high:
        raise ValueError(name)
    return {"Name": name, "Soft": low, "Hard": high}


def _host(name: str, bracketed: str, bare: str) -> str:
    address = bracketed or bare
    if address != "host-gateway":
        ip_address(address)
    return f"{name}:{address}"


def _ports(first: str, last: str) -> list[str]:
    ports = range(int(first), int(last or first) + 1)
    if not ports or ports[-1] > 65535:
        raise ValueError(first)
    return [str(port) for port in ports]


def _expose(first: str, last: str, protocol: str) -> Fields:
    return {f"{port}/{protocol.lower() or 'tcp'}": {} for port in _ports(first, last)}


def _publish(bracketed: str, bare: str, low: str, high: str, *inner: str) -> Fields:
    address, exposed = bracketed or bare, _expose(*inner)
    if address:
        ip_address(address)
    hosts = _ports(low, high) if low else [""] * len(exposed)
    if len(exposed) == 1 < len(hosts):
        hosts = [f"{hosts[0]}-{hosts[-1]}"]  # the engine takes a free port of the range
    bound = {port: [{"HostIp": address, "HostPort": host}] for port, host in zip(exposed, hosts, strict=True)}
    return {"HostConfig": {"PortBindings": bound}, "ExposedPorts": exposed}


def absolute_mount(mount: str, folder: Path | None = None) -> str:
    """Return a mount, or its source alone, with an absolute source. The name of a volume stays as it is.

    Args:
        mount: In docker's form.
        folder: Where a source that begins with a dot is; the working directory if None.
    """
    source, colon, rest = mount.partition(":")
    if source.startswith("~"):
        with contextlib.suppress(RuntimeError):  # there is no user of that name
            source = str(Path(source).expanduser())
    elif source.startswith("."):
        source = os.path.normpath((folder or Path.cwd()) / source)
    return source + colon + rest


def _volume(source: str, rest: str, anonymous: str) -> Fields:
    if anonymous:
        return {"Volumes": {anonymous: {}}}
    source = absolute_mount(source)
    _check_volume(source, rest.partition(":")[2])
    return {"HostConfig": {"Binds": [f"{source}:{rest}"]}}


def _check_volume(source: str, modes: str) -> None:
    """Refuse here what the engine would refuse only after a trial's key was made."""
    if not source.startswith("/") and not re.fullmatch(_VOLUME_NAME, source):
        raise ConfigError(
            f"the mount's source {shown(source)} is neither a path nor the name of a volume: "
            f"write {shown(f'./{source}')} for what is in this folder, or an absolute path"
        )
    names = modes.split(",") if modes else []
    if any(name not in _MODES for name in names) or len({_MODES.get(name) for name in names}) < len(names):
        raise ConfigError(
            f"the mount's mode {shown(modes)} is not one that Docker has: use ro or rw, with z or Z for SELinux (such as ro,Z)"
        )


def _gpus(text: str) -> Fields:
    words = next(csv.reader([text], strict=True))
    keys = dict(word.split("=", 1) if "=" in word else ["count", word] for word in words)
    if not words or len(keys) < len(words) or keys.keys() - {"driver", "count", "device", "capabilities", "options"}:
        raise ValueError(text)
    count = keys.get("count", "0" if "device" in keys else "1")
    options = next(csv.reader([keys.get("options", "")], strict=True))
    return {
        "Driver": keys.get("driver", ""),
        "Count": -1 if count == "all" else read("gpus count", NUMBER, count),
        "DeviceIDs": keys["device"].split(",") if "device" in keys else None,
        "Capabilities": [[*(keys["capabilities"].split(",") if "capabilities" in keys else ()), "gpu"]],
        "Options": {word.partition("=")[0]: word.partition("=")[2] for word in options},
    }


def _mount(text: str) -> Fields:
    mount: Fields = {"Type": "volume"}
    for word in next(csv.reader([text], strict=True)):
        key, has_value, value = word.partition("=")
        path, kind = _MOUNT.get(key, ("", ValueForm("known as a part of a mount", "(?!)")))
        put(mount, path.split("."), read(f"mount {key}", kind, value if has_value or kind != FLAG else "true"))
    foreign = mount.keys() & {"BindOptions", "VolumeOptions", "TmpfsOptions"} - {f"{mount['Type'].title()}Options"}
    if "Target" not in mount or foreign:
        raise ValueError(text)
    if mount["Type"] == "bind" and not str(mount.get("Source", "")).startswith("/"):
        raise ConfigError(f"the mount's source {shown(mount.get('Source', ''))} is no path: a bind mount needs one")
    return mount


_VOLUME_NAME = r"[a-zA-Z0-9{][a-zA-Z0-9_.{}-]*"
"""A name that the engine takes, or one with placeholders such as `{alias}`, which each trial fills in."""
_MODES = {
    **dict.fromkeys(("ro", "rw"), "access"),
    **dict.fromkeys(("z", "Z"), "label"),
    **dict.fromkeys(("private", "rprivate", "shared", "rshared", "slave", "rslave"), "propagation"),
    **dict.fromkeys(("default", "consistent", "cached", "delegated"), "consistency"),
    "nocopy": "copy",
}
"""The modes of a mount, and the kind of each. One mode of a kind is allowed. Source: moby 28.2, volume/mounts/linux_parser.go."""
_BYTES = r"([\d.]{1,40}) ?(?:([kmgtpKMGTP])(?:[iI]?[bB])?|[bB])?"
_PORTS = r"(\d{1,5})(?:-(\d{1,5}))?"
_PORT = rf"{_PORTS}(?:/((?i:tcp|udp|sctp)?))?"
_PUBLISH = rf"(?:(?:(?:\[([^%\]]+)\]|([^%\[\]]*)):)?(?:{_PORTS})?:)?{_PORT}"
_LIMIT = (
    "(core|cpu|data|fsize|locks|memlock|msgqueue|nice|nofile|nproc|rss|rtprio|rttime|sigpending|stack)"
    r"=(-1|\d{1,18})(?::(-1|\d{1,18}))?"
)
_DOMAIN = r"\.|(?=.*[a-zA-Z])(?:(?!-)[a-zA-Z\d-]+(?<!-)(?:\.|\Z))+"

TEXT = ValueForm("text without NUL", ".*")
WORD = ValueForm("text without NUL, and not empty", ".+")
SOURCE = ValueForm(WORD.form, ".+", absolute_mount)
PATH = ValueForm("an absolute path, such as /data", "/.*")
FLAG = ValueForm("true or false", "(1|t|T|true|TRUE|True)|0|f|F|false|FALSE|False", bool)
HEALTH = ValueForm(FLAG.form, FLAG.pattern, lambda off: {"Test": ["NONE"]} if off else None)
NUMBER = ValueForm("a whole number in decimals", r"-?(?:0|[1-9]\d{0,17})", int)
WEIGHT = ValueForm("a whole number from 10 to 1000, or 0", r"0|[1-9]\d{1,2}|1000", int)
PERCENT = ValueForm("a whole number from 0 to 100, or -1", r"-1|[1-9]?\d|100", int)
CPUS = ValueForm("a number such as 0.5, of at most 9 decimals", r"(?=\.?\d)(\d{0,9})(?:\.(\d{0,9}))?", _nano)
SIZE = ValueForm("a size such as 512m, 1.5g or a number of bytes", _BYTES, _size)
SWAP = ValueForm(
    "a size such as 2g, or -1 for no limit", f"(-1)|{_BYTES}", lambda all_, *size: -1 if all_ else _size(*size)
)
BYTES = ValueForm("of the form /dev/NAME:SIZE", f"(/dev/[^:]+):{_BYTES}", _rate)
CALLS = ValueForm("of the form /dev/NAME:NUMBER", r"(/dev/[^:]+):(\d{1,18})", _rate)
PAIR = ValueForm("of the form NAME=VALUE", "([^=]+)=(.*)", lambda name, value: {name: value})
SYSCTL = ValueForm(
    "NAME=VALUE of net.*: only net.* belongs to the trial's own network", r"(net\.[^=]+)=(.*)", PAIR.make
)
CAP = ValueForm("a capability such as CHOWN", "[A-Za-z_]+", _capability)
TMPFS = ValueForm("of the form PATH[:OPTIONS], such as /tmp:size=64m", "(/[^:]*)(?::(.*))?", PAIR.make)
ULIMIT = ValueForm("of the form NAME=SOFT[:HARD], such as nofile=64:128", _LIMIT, _ulimit)
ADDRESS = ValueForm("an IP address, such as 10.0.0.1 or fd00::1", "[^%]+", lambda text: str(ip_address(text)))
IPV4 = ValueForm("an address such as 10.0.0.1", r"[\d.]+", ADDRESS.make)
IPV6 = ValueForm("an address such as fd00::1", "[^%]*:[^%]*", ADDRESS.make)
HOST = ValueForm("of the form NAME:ADDRESS, such as db:10.0.0.1", r"([^:=]+)[:=](?:\[([^%]+)\]|([^%]+))", _host)
MAC = ValueForm("an address such as 92:d0:c6:0a:29:33", r"[\da-fA-F]{2}(?:[:-][\da-fA-F]{2}){5}")
DOMAIN = ValueForm("a domain such as example.org", _DOMAIN, lambda text: text.rstrip(".") or ".")
EXPOSE = ValueForm("a port or a range such as 80, 80/udp or 8000-8010", _PORT, _expose)
PUBLISH = ValueForm("a port or a range such as 80, 8080:80/udp or 127.0.0.1:8080-8081:80-81", _PUBLISH, _publish)
VOLUME = ValueForm("a volume such as /host:/data:ro or name:/data", r"([^:]+):(/[^:]*(?::[^:]+)?)|(/[^:]*)", _volume)
MOUNT = ValueForm("a mount with a target and keys of its type, such as type=bind,source=/a,target=/b,ro", ".+", _mount)
GPUS = ValueForm("a request such as all, 2, device=0 or count=2,capabilities=utility", ".+", _gpus)
OPTIONS_OF_A_VOLUME = ValueForm("allowed: make the volume with `docker volume create` and name it", "(?!)")
"""The driver options of a volume can mount any path of the host."""

_MOUNT: Mapping[str, tuple[str, ValueForm]] = {
    "type": ("Type", ValueForm("bind, volume or tmpfs", "bind|volume|tmpfs")),
    **dict.fromkeys(("source", "src"), ("Source", SOURCE)),
    **dict.fromkeys(("target", "dst", "destination"), ("Target", PATH)),
    **dict.fromkeys(("readonly", "ro"), ("ReadOnly", FLAG)),
    "consistency": (
        "Consistency",
        ValueForm("default, consistent, cached or delegated", "default|consistent|cached|delegated"),
    ),
    "bind-propagation": (
        "BindOptions.Propagation",
        ValueForm("such as rprivate or rslave", "r?(?:private|shared|slave)"),
    ),
    "bind-nonrecursive": ("BindOptions.NonRecursive", FLAG),
    "volume-nocopy": ("VolumeOptions.NoCopy", FLAG),
    **dict.fromkeys(("volume-driver", "volume-opt", "volume-label"), ("", OPTIONS_OF_A_VOLUME)),
    "tmpfs-size": ("TmpfsOptions.SizeBytes", SIZE),
    "tmpfs-mode": (
        "TmpfsOptions.Mode",
        ValueForm("an octal mode such as 1770", "[0-7]{1,6}", lambda text: int(text, 8)),
    ),
}
