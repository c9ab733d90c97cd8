"""Readers of options' values: each makes the value of what a script, a file or the command line gives. Pure.

What a reader cannot read is a ValueError: without a text, where the kind's form says what is wrong, else with a sentence that
names the wrong part. No sentence shows a key or a variable's value.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.base.usd import FORM as FORM_OF_DOLLARS
from agent_preflight.base.usd import read_usd
from agent_preflight.options import container_values
from preflight_proxy.core.egress import read_target
from preflight_proxy.core.secret import Secret

PATH_BYTES_MAX, NAME_BYTES_MAX = 4095, 255
"""Of a path, and of each name in it. Source: limits.h of Linux."""
SECONDS_MAX = 10**9
COUNT_MAX = 10**12
VARIABLE_BYTES_MAX = 128 * 1024 - 1
"""Linux starts no program with a longer `NAME=VALUE`. Source: execve(2), MAX_ARG_STRLEN."""

_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15}", re.ASCII)
_ENV_NAME_BAD = re.compile(r"[\r\n=\0]")
_ENV_VALUE_BAD = re.compile(r"[\r\n\0]")


def read_text(given: object) -> str:
    """Return a text that a file and a program can take."""
    if not isinstance(given, str) or "\0" in given or not _is_encodable(given):
        raise ValueError
    return given


def _is_encodable(text: str) -> bool:
    """Whether a text has bytes; what the system could not decode in an argument has none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def read_path(given: object) -> str:
    """Return a path as a text."""
    if not isinstance(given, str | Path) or not str(given) or "\0" in str(given):
        raise ValueError
    path = str(given)  # it may be of bytes that are no text
    if len(os.fsencode(path)) > PATH_BYTES_MAX or any(
        len(os.fsencode(part)) > NAME_BYTES_MAX for part in path.split("/")
    ):
        raise ValueError(f"the path {container_values.shown(path)} is longer than a path can be")
    return path


def read_inside(given: object) -> str:
    """Return an absolute path in a container."""
    text = read_path(given)
    if not text.startswith("/") or ":" in text:
        raise ValueError
    return text


def matching(pattern: str) -> Callable[[object], str]:
    """Return the reader of texts of a pattern; an empty one stands for none."""

    def read(given: object) -> str:
        text = read_text(given)
        if text and not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError
        return text

    return read


def read_switch(given: object) -> bool:
    """Return true or false; no other word or number stands for them."""
    if not isinstance(given, bool):
        raise ValueError
    return given


def _number(given: object) -> float:
    """A number that is not negative."""
    if isinstance(given, str):
        if not _NUMBER.fullmatch(given.strip()):
            raise ValueError
        return float(given)
    if isinstance(given, bool) or not isinstance(given, int | float | Decimal) or math.isnan(given) or given < 0:
        raise ValueError
    return float(given)


def read_seconds(given: object) -> float:
    """A time; an infinite one, which scripts may give, never comes."""
    seconds = _number(given)
    if not 0 < seconds <= SECONDS_MAX and not math.isinf(seconds):
        raise ValueError
    return seconds


def read_count(given: object) -> int:
    """Return a whole number above 0."""
    if isinstance(given, str):
        if not _WHOLE.fullmatch(given.strip()):
            raise ValueError
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= COUNT_MAX:
        raise ValueError
    return given


def docker_text(kind: container_values.ValueForm, given: object) -> str:
    """A value that the engine takes as a text."""
    if isinstance(given, bool) or not isinstance(given, str | int | float | Decimal):
        raise ValueError
    text = str(given)
    _of_docker(kind, text)
    return text


def _of_docker(kind: container_values.ValueForm, text: str) -> Any:  # noqa: ANN401 - what the kind makes
    found = re.fullmatch(kind.pattern, text, re.ASCII | re.DOTALL)
    if not found:
        raise ValueError
    return kind.make(*(found.groups("") or [text]))


def read_bytes(given: object) -> int:
    """Return a size in bytes."""
    size = (
        given
        if isinstance(given, int) and not isinstance(given, bool)
        else _of_docker(container_values.SIZE, read_text(given))
    )
    if not isinstance(size, int) or not 1 <= size < 2**63:
        raise ValueError
    return size


def read_texts(given: object) -> tuple[str, ...]:
    """A list of texts; of one text alone it cannot be told whether it was meant as one."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ValueError
    return tuple(read_text(each) for each in given)


def read_paths(given: object) -> tuple[str, ...]:
    """Return one path or several."""
    if isinstance(given, str | Path):
        return (read_path(given),)
    return tuple(read_path(each) for each in given) if isinstance(given, Iterable) else read_texts(given)


def read_arguments(given: object) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    """What a program is given: for all, or by alias. Numbers are welcome, as they were before."""
    if isinstance(given, Mapping):
        return {str(alias): _words(arguments) for alias, arguments in given.items()}
    return _words(given)


def _words(given: object) -> tuple[str, ...]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ValueError
    return tuple(read_text(str(each)) for each in given)


def read_dollars(given: object) -> Decimal | dict[str, Decimal]:
    """Return dollars, for all or by alias."""
    if not isinstance(given, Mapping):
        return _amount(given)
    found = {}
    for alias, amount in given.items():
        try:
            found[str(alias)] = _amount(amount)
        except ValueError:
            wrong = container_values.shown(str(amount))
            raise ValueError(f"of {str(alias)[:80]!a} it is {FORM_OF_DOLLARS}, not {wrong}") from None
    return found


def _amount(given: object) -> Decimal:
    try:
        return read_usd(given)
    except ValueError:
        raise ValueError from None


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
        text = read_text(mount)
    elif not isinstance(mount, str) and isinstance(mount, Sequence) and len(mount) in (2, 3):
        text = read_text(":".join(str(part) for part in mount))
    else:
        raise ValueError(
            f"a mount is (host, container, mode) or 'host:container:mode', not {container_values.shown(str(mount))}"
        )
    try:
        _of_docker(container_values.VOLUME, text)
    except ValueError:
        raise ValueError(f"the mount {container_values.shown(text)} is not {container_values.VOLUME.form}") from None
    return text


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
            raise ValueError(f"{name[:80]!a} cannot be handed to an agent: newlines are not allowed in env")
        try:
            size = len(f"{name}={value}".encode())
        except UnicodeEncodeError:
            raise ValueError(f"{name[:80]!a} is no text: put its value into a file and mount that") from None
        if size > VARIABLE_BYTES_MAX:
            raise ValueError(f"{name[:80]!r} is longer than {VARIABLE_BYTES_MAX} bytes: use a file")
    return checked


def read_services(given: object) -> dict[str, str]:
    """Return places by the name of a service."""
    if not isinstance(given, Mapping):
        raise ValueError
    found = {read_text(str(name)): read_text(str(place)) for name, place in given.items()}
    for place in found.values():
        read_target(place)
    return found


def read_places(given: object) -> tuple[str, ...]:
    """Return places, `HOST:PORT` each."""
    places = read_texts(given)
    for place in places:
        read_target(place)
    return places


def read_key(given: object) -> Secret:
    """Return a key in the type that cannot be printed."""
    return given if isinstance(given, Secret) else Secret(read_text(given))


def read_anything(given: Any) -> Any:  # noqa: ANN401 - a script's own objects
    """Return an object of a script's as it is."""
    return given
