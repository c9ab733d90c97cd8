"""The kinds of values that options of a run have: how each is written, and what reads it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from agent_preflight.base.usd import FORM as FORM_OF_DOLLARS
from agent_preflight.options import container_values
from agent_preflight.options import readers as r
from agent_preflight.options.naming import FORM as FORM_OF_MODELS
from agent_preflight.options.naming import check_run_id, read_models


@dataclass(frozen=True, slots=True)
class OptionKind:
    """A kind of value.

    Attributes:
        form: What the value must be, for errors.
        read: Makes the value of what a source gives; raises ValueError, or ConfigError with a sentence.
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


def choice(names: Any) -> OptionKind:  # noqa: ANN401 - a Literal type
    """Return the kind of the values of a `Literal`."""
    values = get_args(names)

    def read(given: object) -> str:
        if given not in values:
            raise ValueError
        return str(given)

    *first, last = map(repr, values)
    return OptionKind(f"{', '.join(first)} or {last}", read, names, choices=values)


TEXT = OptionKind("a text", r.read_text, metavar="TEXT")
IMAGE = OptionKind(
    "the name of an image, such as my-agent or registry/agent:1",
    r.matching(r"[A-Za-z0-9][\w./:@-]{0,511}"),
    metavar="IMAGE",
)
PATH = OptionKind("a path", r.read_path, metavar="PATH")
FOLDER = OptionKind("a folder", r.read_path, metavar="FOLDER")
FILE = OptionKind("a file", r.read_path, metavar="FILE")
FILES = OptionKind("a file, or a list of them", r.read_paths, str | list[str], "FILE", repeats=True)
INSIDE = OptionKind("an absolute path in the container", r.read_inside, metavar="PATH")
RUN_ID = OptionKind("a run's id", lambda given: check_run_id(r.read_text(given)), metavar="RUN_ID")
URL = OptionKind("a URL such as https://openrouter.ai/api/v1", r.matching(r"https?://[!-~]{1,2000}"), metavar="URL")
NETWORK = OptionKind(
    "'sealed', 'bridge' or the name of a Docker network", r.matching(r"[A-Za-z0-9][\w.-]{0,254}"), metavar="NETWORK"
)
LISTEN = OptionKind("HOST:PORT, such as 127.0.0.1:8788", r.matching(r"[\w.:%\[\]-]{1,300}"), metavar="HOST:PORT")
SWITCH = OptionKind("true or false", r.read_switch, bool)
SECONDS = OptionKind("a number of seconds above 0", r.read_seconds, float, "SECONDS")
COUNT = OptionKind("a whole number above 0", r.read_count, int, "N")
BYTES = OptionKind("a number of bytes above 0, or a size such as 1g", r.read_bytes, str | int, "SIZE")
MEMORY = OptionKind(
    container_values.SIZE.form, lambda given: r.docker_text(container_values.SIZE, given), metavar="SIZE"
)
CPUS = OptionKind(
    container_values.CPUS.form, lambda given: r.docker_text(container_values.CPUS, given), str | float, "N"
)
DOLLARS = OptionKind(FORM_OF_DOLLARS, r.read_dollars, Any, "USD")
MODELS = OptionKind(FORM_OF_MODELS, read_models, list[str], "ID[=ALIAS]", repeats=True)
TEXTS = OptionKind("a list of texts", r.read_texts, list[str], "TEXT", repeats=True)
PLACES = OptionKind("a list of HOST:PORT", r.read_places, list[str], "HOST:PORT", repeats=True)
ARGUMENTS = OptionKind(
    "a list of texts, not one text, or such lists by alias", r.read_arguments, list[str], "ARGUMENT", repeats=True
)
MOUNTS = OptionKind(
    *("a list of (host, container, mode) or 'host:container:mode'", r.mount_args, list[str]),
    metavar="HOST:CONTAINER[:MODE]",
    repeats=True,
)
ENV = OptionKind("variables by name", r.check_env, dict[str, str], "NAME[=VALUE]", repeats=True)
SERVICES = OptionKind("places by name", r.read_services, dict[str, str], "NAME=HOST:PORT", repeats=True)
KEY = OptionKind("a key", r.read_key)
OBJECT = OptionKind("an object of yours", r.read_anything, None)
