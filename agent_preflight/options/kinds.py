"""The kinds of values that options of a run have: how a value is written, and the function that reads it.

A value comes from a script, a file or the command line. A reader raises ValueError for a wrong one: without a text if the kind's
form says enough, else with a text that names the wrong part. No text shows a key or a variable's value.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec

from agent_preflight.base.usd import FORM as FORM_OF_DOLLARS
from agent_preflight.base.usd import read_usd
from agent_preflight.options import container_values as v
from agent_preflight.options.container_values import ValueForm, shown
from agent_preflight.options.naming import FORM as FORM_OF_MODELS
from agent_preflight.options.naming import check_run_id, read_models
from preflight_proxy.core.egress import read_target
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

PATH_BYTES_MAX, NAME_BYTES_MAX = 4095, 255
"""Of a path, and of each name in it. Source: limits.h of Linux."""
TAGS_MAX, TAG_CHARS_MAX = 16, 200
VARIABLE_BYTES_MAX = 128 * 1024 - 1
"""Linux starts no program with a longer `NAME=VALUE`. Source: execve(2), MAX_ARG_STRLEN."""

Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\0\ud800-\udfff]*\Z")]
"""A text that has bytes, and that a file and a program can take."""
SECONDS_MAX, COUNT_MAX = 10**9, 10**12
Seconds = Annotated[float, msgspec.Meta(gt=0, le=SECONDS_MAX)]


class SettingError(ConfigError, ValueError):
    """The value of an option is wrong. It is a ValueError too, as the old library raised for variables with newlines."""


@dataclass(frozen=True, slots=True)
class OptionKind:
    """A kind of value.

    Attributes:
        form: What the value must be, for errors.
        read: Returns the value of what a source gives. Raises ValueError, or ConfigError with a sentence.
        metavar: What stands for the value in a command's help.
        choices: All values, if there are few.
        repeats: The option may be given more than once on the command line, and has a list of values.
    """

    form: str
    read: Callable[[Any], Any]
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """How an option is given.

    Attributes:
        kind: How its values are written and read.
        help: What it is, in a sentence, for `--help`.
        flags: Its names on the command line; empty if it has none.
        key: Its key in a file; None for the field's name, empty if it has none.
    """

    kind: OptionKind
    help: str
    flags: tuple[str, ...] = ()
    key: str | None = None


def option(  # noqa: D417 - the others are the attributes of Option
    default: object, kind: OptionKind, help_text: str, *flags: str, key: str | None = None, shown: bool = True
) -> Any:  # noqa: ANN401 - as `dataclasses.field`
    """Return a dataclass field that is an option of a run.

    Args:
        default: Its value if no source gives one.
        shown: False for a value that the text of the object must not show.
    """
    return field(default=default, repr=shown, metadata={"option": Option(kind, help_text, flags, key)})


def typed(kind: Any, *, strict: bool = False) -> Callable[[object], Any]:  # noqa: ANN401 - a type
    """Return the reader of a type that msgspec knows. Unless it is strict, the text of a number is a number."""

    def read(value: object) -> Any:  # noqa: ANN401 - of that type
        try:
            return msgspec.convert(value, kind, strict=strict)
        except msgspec.ValidationError:
            raise ValueError from None

    return read


def matching(pattern: str) -> Callable[[object], str]:
    """Return the reader of texts of a pattern. An empty text is allowed: it means that nothing is given."""
    return typed(Annotated[str, msgspec.Meta(pattern=rf"\A(?a:{pattern})?\Z")])


def choice(names: Any) -> OptionKind:  # noqa: ANN401 - a Literal type
    """Return the kind of the values of a `Literal`."""
    values = get_args(names)
    *first, last = map(repr, values)
    return OptionKind(f"{', '.join(first)} or {last}", typed(names), choices=values)


read_text = typed(Text)


def _items(value: object) -> Iterable[Any]:
    """Return a list's items. One text is not a list: nobody can tell whether one item was meant, or each letter."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ValueError
    return value


def read_texts(value: object) -> tuple[str, ...]:
    """Return several texts."""
    return tuple(map(read_text, _items(value)))


def read_path(value: object) -> str:
    """Return a path as a text. Its bytes need not be UTF-8."""
    path = str(value)
    if not isinstance(value, str | Path) or not path or "\0" in path:
        raise ValueError
    if len(os.fsencode(path)) > PATH_BYTES_MAX or max(len(os.fsencode(n)) for n in path.split("/")) > NAME_BYTES_MAX:
        raise ValueError(f"the path {shown(path)} is longer than a path can be")
    return path


def read_paths(value: object) -> tuple[str, ...]:
    """Return one path or several."""
    return tuple(map(read_path, (value,) if isinstance(value, str | Path) else _items(value)))


def read_inside(value: object) -> str:
    """Return an absolute path in a container."""
    path = read_path(value)
    if not path.startswith("/") or ":" in path:
        raise ValueError
    return path


def read_seconds(value: object) -> float:
    """Return a time. Scripts may give an infinite one, which sets no limit."""
    if isinstance(value, str) and not re.fullmatch(r"\s*(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})\s*", value, re.ASCII):
        raise ValueError
    seconds = float(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | Decimal):
        raise ValueError
    if not (0 < seconds <= SECONDS_MAX or seconds == math.inf):
        raise ValueError
    return float(seconds)


def read_number(value: object) -> float:
    """Return a number that is not infinite."""
    with suppress(ValueError, OverflowError):
        if isinstance(value, str | int | float | Decimal) and type(value) is not bool and math.isfinite(float(value)):
            return float(value)
    raise ValueError


def read_count(value: object) -> int:
    """Return a whole number above 0."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,15}\s*", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= COUNT_MAX:
        raise ValueError
    return value


def read_bytes(value: object) -> int:
    """Return a size in bytes."""
    size = typed(int | Text, strict=True)(value)
    if isinstance(size, str):
        size = _docker_value(v.SIZE, size)
    if not isinstance(size, int) or not 1 <= size < 2**63:
        raise ValueError
    return size


def docker_text(form: ValueForm) -> Callable[[object], str]:
    """Return the reader of a number or text that the engine takes as a text."""

    def read(value: object) -> str:
        text = str(value)
        _docker_value(form, text)
        return text

    return read


def _docker_value(form: ValueForm, text: str) -> object:
    try:
        return form.parse(text)
    except ValueError:
        raise ValueError from None  # the form of the option says what is expected


def read_arguments(value: object) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    """Return a program's arguments, for all trials or by alias. Numbers become texts."""
    if isinstance(value, Mapping):
        return {str(alias): _words(arguments) for alias, arguments in value.items()}
    return _words(value)


def _words(value: object) -> tuple[str, ...]:
    return tuple(read_text(str(item)) for item in _items(value))


def read_dollars(value: object) -> Decimal | dict[str, Decimal]:
    """Return dollars, for all trials or by alias."""
    if not isinstance(value, Mapping):
        return read_usd(value)
    amounts = {}
    for alias, amount in value.items():
        try:
            amounts[str(alias)] = read_usd(amount)
        except ValueError as exc:
            raise ValueError(f"of {str(alias)[:80]!a} it is {exc}, not {shown(str(amount))}") from None
    return amounts


def read_mounts(value: object) -> tuple[str, ...]:
    """Return mounts in docker's form, with absolute sources."""
    return tuple(map(_mount, _items(value)))


def _mount(mount: object) -> str:
    if isinstance(mount, str) and (":" in mount or mount.startswith("/")):  # "/data" alone is a volume without a name
        text = mount
    elif not isinstance(mount, str) and isinstance(mount, Sequence) and len(mount) in (2, 3):
        text = ":".join(map(str, mount))
    else:
        raise ValueError(f"a mount is (host, container, mode) or 'host:container:mode', not {shown(str(mount))}")
    try:
        v.VOLUME.parse(text)
    except ValueError as exc:
        raise ValueError(f"the mount {exc}") from None
    return v.absolute_mount(text)


def read_env(value: object) -> dict[str, str]:
    """Return variables by name."""
    if not isinstance(value, Mapping):
        raise ValueError
    variables = {str(name): str(text) for name, text in value.items()}
    for name, text in variables.items():
        if not re.fullmatch(r"[^\r\n=\0]+", name) or re.search(r"[\r\n\0]", text):
            raise ValueError(f"{name[:80]!a} cannot be handed to an agent: newlines are not allowed in env")
        try:
            size = len(f"{name}={text}".encode())
        except UnicodeEncodeError:
            raise ValueError(f"{name[:80]!a} is not UTF-8 text: put its value into a file, and mount that") from None
        if size > VARIABLE_BYTES_MAX:
            raise ValueError(f"{name[:80]!r} is longer than {VARIABLE_BYTES_MAX} bytes: use a file")
    return variables


def read_tags(value: object) -> dict[str, str]:
    """Return short texts by name. Each line of costs has them, so there are few."""
    if not isinstance(value, Mapping):
        raise ValueError
    tags: dict[str, str] = {str(name): read_text(str(text)) for name, text in value.items()}
    if len(tags) > TAGS_MAX:
        raise ValueError(f"there are {len(tags)} tags, and a run has {TAGS_MAX} at most")
    for name, text in tags.items():
        if not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII) or not text.isprintable() or len(text) > TAG_CHARS_MAX:
            form = f"letters, digits, '_', '-' and '.', at most 64, with one line of at most {TAG_CHARS_MAX} characters"
            raise ValueError(f"{name[:80]!a} cannot be a tag, which is {form}")
    return tags


def read_command(value: object) -> str:
    """Return a command line for `/bin/sh -c`."""
    command: str = read_text(value)
    if not command.strip():
        raise ValueError
    return command


def read_score(value: object) -> Any:  # noqa: ANN401 - a text or a function
    """Return a command line for `/bin/sh -c`, or a function."""
    return value if callable(value) else read_command(value)


def read_services(value: object) -> dict[str, str]:
    """Return the address of each service, `HOST:PORT`, by the service's name."""
    if not isinstance(value, Mapping):
        raise ValueError
    return dict(zip(map(read_text, map(str, value)), read_places(list(map(str, value.values()))), strict=True))


def read_places(value: object) -> tuple[str, ...]:
    """Return addresses, `HOST:PORT` each."""
    places: tuple[str, ...] = read_texts(value)
    for place in places:
        read_target(place)
    return places


TEXT = OptionKind("a text", read_text, "TEXT")
IMAGE = OptionKind(
    "the name of an image, such as my-agent or registry/agent:1", matching(r"[A-Za-z0-9][\w./:@-]{0,511}"), "IMAGE"
)
FOLDER = OptionKind("a folder", read_path, "FOLDER")
FILE = OptionKind("a file", read_path, "FILE")
FILES = OptionKind("a file, or a list of them", read_paths, "FILE", repeats=True)
INSIDE = OptionKind("an absolute path in the container", read_inside, "PATH")
RUN_ID = OptionKind("a run's id", lambda value: check_run_id(read_text(value)), "RUN_ID")
URL = OptionKind("a URL such as https://openrouter.ai/api/v1", matching(r"https?://[!-~]{1,2000}"), "URL")
NETWORK = OptionKind(
    "'sealed', 'bridge' or the name of a Docker network", matching(r"[A-Za-z0-9][\w.-]{0,254}"), "NETWORK"
)
LISTEN = OptionKind("HOST:PORT, such as 127.0.0.1:8788", matching(r"[\w.:%\[\]-]{1,300}"), "HOST:PORT")
SWITCH = OptionKind("true or false", typed(bool, strict=True))
SECONDS = OptionKind("a number of seconds above 0", read_seconds, "SECONDS")
COUNT = OptionKind("a whole number above 0", read_count, "N")
BYTES = OptionKind("a number of bytes above 0, or a size such as 1g", read_bytes, "SIZE")
MEMORY = OptionKind(v.SIZE.form, docker_text(v.SIZE), "SIZE")
CPUS = OptionKind(v.CPUS.form, docker_text(v.CPUS), "N")
DOLLARS = OptionKind(FORM_OF_DOLLARS, read_dollars, "USD")
MODELS = OptionKind(FORM_OF_MODELS, read_models, "ID[=ALIAS]", repeats=True)
TEXTS = OptionKind("a list of texts", read_texts, "TEXT", repeats=True)
PLACES = OptionKind("a list of HOST:PORT", read_places, "HOST:PORT", repeats=True)
ARGUMENTS = OptionKind(
    "a list of texts, not one text, or such lists by alias", read_arguments, "ARGUMENT", repeats=True
)
MOUNTS = OptionKind(
    "a list of (host, container, mode) or 'host:container:mode'", read_mounts, "HOST:CONTAINER[:MODE]", repeats=True
)
ENV = OptionKind("variables by name", read_env, "NAME[=VALUE]", repeats=True)
TAGS = OptionKind("texts by name, such as task = refactor", read_tags, "KEY=VALUE", repeats=True)
COMMAND = OptionKind("a command line", read_command, "CMD")
SCORE = OptionKind("a command line, or from Python a function", read_score, "CMD")
NUMBER = OptionKind("a number", read_number, "N")
SERVICES = OptionKind("HOST:PORT by name", read_services, "NAME=HOST:PORT", repeats=True)
KEY = OptionKind("a key", lambda value: value if isinstance(value, Secret) else Secret(read_text(value)))
OBJECT = OptionKind("an object of yours", lambda value: value)


def read_value(kind: OptionKind, value: object, label: str) -> Any:  # noqa: ANN401 - whatever its kind makes
    """Return the value of a kind that a source gives. The label names the option in errors.

    Raises:
        SettingError: The value is wrong. The text says what it must be.
    """
    try:
        return kind.read(value)
    except (ValueError, ArithmeticError, ConfigError) as exc:
        reason = str(exc).removesuffix(".")
    if reason not in ("", kind.form):
        raise SettingError(f"{label}: {reason}.")
    is_hidden = kind in (KEY, ENV) or isinstance(value, Mapping | list | tuple)
    raise SettingError(f"{label} is {kind.form}." if is_hidden else f"{label} is {kind.form}, not {shown(str(value))}.")
