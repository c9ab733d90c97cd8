"""The kinds of values that options of a run have: how each is written, and how it is read from any source. Pure.

A reader takes what a script, a file or the command line gives, so that `"8"`, `8` and `8.0` mean what a person would expect. It
raises a ValueError whose text says what the value must be; the value itself is not in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from agent_preflight import docker_values
from agent_preflight.runs.naming import FORM as FORM_OF_MODELS
from agent_preflight.runs.naming import NamedModel, read_models
from agent_preflight.usd import FORM as FORM_OF_DOLLARS
from agent_preflight.usd import read_usd
from preflight_proxy.core.secret import Secret

VARIABLE_BYTES_MAX = 128 * 1024 - 1
"""Linux starts no program with a longer `NAME=VALUE`. Source: execve(2), MAX_ARG_STRLEN."""

_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15}", re.ASCII)
_ENV_NAME_BAD = re.compile(r"[\r\n=\0]")
_ENV_VALUE_BAD = re.compile(r"[\r\n\0]")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        form: What the value must be, for errors.
        read: Makes the value of what a source gives; raises ValueError.
        in_file: What TOML may hold; tables have types of their own there.
        metavar: What stands for the value in a command's help.
        choices: All values, where there are few.
        repeats: The option may be given more than once on the command line, and has a list of values.
    """

    form: str
    read: Callable[[Any], Any]
    in_file: Any = str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    repeats: bool = False


def _text(given: object) -> str:
    if not isinstance(given, str) or "\0" in given:
        raise ValueError
    return given


def _path_text(given: object) -> str:
    if not isinstance(given, str | Path) or not str(given) or "\0" in str(given):
        raise ValueError
    return str(given)


def _inside(given: object) -> str:
    text = _path_text(given)
    if not text.startswith("/") or ":" in text:
        raise ValueError
    return text


def _switch(given: object) -> bool:
    if not isinstance(given, bool):
        raise ValueError
    return given


def _number(given: object) -> float:
    """A number that is not negative."""
    if isinstance(given, str):
        if not _NUMBER.fullmatch(given.strip()):
            raise ValueError
        return float(given)
    if isinstance(given, bool) or not isinstance(given, int | float | Decimal) or not math.isfinite(given) or given < 0:
        raise ValueError
    return float(given)


def _seconds(given: object) -> float:
    if not (seconds := _number(given)):
        raise ValueError
    return seconds


def _count(given: object) -> int:
    if isinstance(given, str):
        if not _WHOLE.fullmatch(given.strip()):
            raise ValueError
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= 10**15:
        raise ValueError
    return given


def _docker_text(kind: docker_values.Kind, given: object) -> str:
    """A value that the engine takes as a text."""
    if isinstance(given, bool) or not isinstance(given, str | int | float | Decimal):
        raise ValueError
    text = str(given)
    _of_docker(kind, text)
    return text


def _of_docker(kind: docker_values.Kind, text: str) -> Any:  # noqa: ANN401 - what the kind makes
    found = re.fullmatch(kind.pattern, text, re.ASCII | re.DOTALL)
    if not found:
        raise ValueError
    return kind.make(*(found.groups("") or [text]))


def _bytes(given: object) -> int:
    size = (
        given
        if isinstance(given, int) and not isinstance(given, bool)
        else _of_docker(docker_values.SIZE, _text(given))
    )
    if not isinstance(size, int) or not 1 <= size < 2**63:
        raise ValueError
    return size


def _texts(given: object) -> tuple[str, ...]:
    """A list of texts; of one text alone it cannot be told whether it was meant as one."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ValueError
    return tuple(_text(each) for each in given)


def _paths(given: object) -> tuple[str, ...]:
    if isinstance(given, str | Path):
        return (_path_text(given),)
    return tuple(_path_text(each) for each in given) if isinstance(given, Iterable) else _texts(given)


def _arguments(given: object) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    """What a program is given: for all, or by alias. Numbers are welcome, as they were before."""
    if isinstance(given, Mapping):
        return {str(alias): _words(arguments) for alias, arguments in given.items()}
    return _words(given)


def _words(given: object) -> tuple[str, ...]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ValueError
    return tuple(_text(str(each)) for each in given)


def _dollars(given: object) -> Decimal | dict[str, Decimal]:
    if isinstance(given, Mapping):
        return {str(alias): read_usd(amount) for alias, amount in given.items()}
    return read_usd(given)


def _models(given: object) -> tuple[NamedModel, ...]:
    return read_models(given)


def mount_args(mounts: object) -> tuple[str, ...]:
    """Return mounts in docker's form; `(host, container)` and `(host, container, mode)` are joined, texts pass.

    Raises:
        ValueError: A mount is neither.
    """
    if isinstance(mounts, str | bytes | Mapping) or not isinstance(mounts, Iterable):
        raise ValueError
    return tuple(_mount(mount) for mount in mounts)


def _mount(mount: object) -> str:
    if isinstance(mount, str) and (":" in mount or mount.startswith("/")):  # "/data" alone is a volume without a name
        return _text(mount)
    if not isinstance(mount, str) and isinstance(mount, Sequence) and len(mount) in (2, 3):
        return _text(":".join(str(part) for part in mount))
    raise ValueError(f"{MOUNTS.form}; one is {docker_values.shown(str(mount))}")


def check_env(env: object) -> dict[str, str]:
    """Return the user's variables as texts.

    Raises:
        ValueError: A name or value holds a newline or what else cannot be handed over; the value is not shown.
    """
    if not isinstance(env, Mapping):
        raise ValueError
    checked = {str(name): str(value) for name, value in env.items()}
    for name, value in checked.items():
        if not name or _ENV_NAME_BAD.search(name) or _ENV_VALUE_BAD.search(value):
            raise ValueError(f"{ENV.form}; {name[:80]!a} cannot be handed to an agent: newlines are not allowed in env")
        try:
            size = len(f"{name}={value}".encode())
        except UnicodeEncodeError:
            why = f"{name[:80]!a} is no text: put its value into a file and mount that"
            raise ValueError(f"{ENV.form}; {why}") from None
        if size > VARIABLE_BYTES_MAX:
            raise ValueError(f"{ENV.form}; {name[:80]!r} is longer than {VARIABLE_BYTES_MAX} bytes: use a file")
    return checked


def _pairs(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ValueError
    return {_text(str(name)): _text(str(value)) for name, value in given.items()}


def _key(given: object) -> Secret:
    return given if isinstance(given, Secret) else Secret(_text(given))


def _anything(given: Any) -> Any:  # noqa: ANN401 - a script's own objects
    return given


def choice(names: Any) -> Kind:  # noqa: ANN401 - a Literal type
    """Return the kind of the values of a `Literal`."""
    values = get_args(names)

    def read(given: object) -> str:
        if given not in values:
            raise ValueError
        return str(given)

    *first, last = map(repr, values)
    return Kind(f"{', '.join(first)} or {last}", read, names, choices=values)


TEXT = Kind("a text", _text, metavar="TEXT")
IMAGE = Kind("the name of an image", _text, metavar="IMAGE")
PATH = Kind("a path", _path_text, metavar="PATH")
FOLDER = Kind("a folder", _path_text, metavar="FOLDER")
FILE = Kind("a file", _path_text, metavar="FILE")
FILES = Kind("a file, or a list of them", _paths, str | list[str], "FILE", repeats=True)
INSIDE = Kind("an absolute path in the container", _inside, metavar="PATH")
RUN_ID = Kind("a run's id", _text, metavar="RUN_ID")
URL = Kind("a URL", _text, metavar="URL")
NETWORK = Kind("'sealed', 'bridge' or the name of a Docker network", _text, metavar="NETWORK")
SWITCH = Kind("true or false", _switch, bool)
SECONDS = Kind("a number of seconds above 0", _seconds, float, "SECONDS")
COUNT = Kind("a whole number above 0", _count, int, "N")
BYTES = Kind("a number of bytes above 0, or a size such as 1g", _bytes, str | int, "SIZE")
MEMORY = Kind(docker_values.SIZE.form, lambda given: _docker_text(docker_values.SIZE, given), metavar="SIZE")
CPUS = Kind(docker_values.CPUS.form, lambda given: _docker_text(docker_values.CPUS, given), str | float, "N")
DOLLARS = Kind(FORM_OF_DOLLARS, _dollars, Any, "USD")
MODELS = Kind(FORM_OF_MODELS, _models, list[str], "ID[=ALIAS]", repeats=True)
TEXTS = Kind("a list of texts", _texts, list[str], "TEXT", repeats=True)
PLACES = Kind("a list of HOST:PORT", _texts, list[str], "HOST:PORT", repeats=True)
ARGUMENTS = Kind(
    "a list of texts, not one text, or such lists by alias", _arguments, list[str], "ARGUMENT", repeats=True
)
MOUNTS = Kind(
    *("a list of (host, container, mode) or 'host:container:mode'", mount_args, list[str]),
    metavar="HOST:CONTAINER[:MODE]",
    repeats=True,
)
ENV = Kind("variables by name", check_env, dict[str, str], "NAME[=VALUE]", repeats=True)
SERVICES = Kind("places by name", _pairs, dict[str, str], "NAME=HOST:PORT", repeats=True)
KEY = Kind("a key", _key)
OBJECT = Kind("an object of yours", _anything, None)
