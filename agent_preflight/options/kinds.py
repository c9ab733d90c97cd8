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
class Kind:
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


def choice(names: Any) -> Kind:  # noqa: ANN401 - a Literal type
    """Return the kind of the values of a `Literal`."""
    values = get_args(names)

    def read(given: object) -> str:
        if given not in values:
            raise ValueError
        return str(given)

    *first, last = map(repr, values)
    return Kind(f"{', '.join(first)} or {last}", read, names, choices=values)


TEXT = Kind("a text", r.read_text, metavar="TEXT")
IMAGE = Kind(
    "the name of an image, such as my-agent or registry/agent:1",
    r.matching(r"[A-Za-z0-9][\w./:@-]{0,511}"),
    metavar="IMAGE",
)
PATH = Kind("a path", r.read_path, metavar="PATH")
FOLDER = Kind("a folder", r.read_path, metavar="FOLDER")
FILE = Kind("a file", r.read_path, metavar="FILE")
FILES = Kind("a file, or a list of them", r.read_paths, str | list[str], "FILE", repeats=True)
INSIDE = Kind("an absolute path in the container", r.read_inside, metavar="PATH")
RUN_ID = Kind("a run's id", lambda given: check_run_id(r.read_text(given)), metavar="RUN_ID")
URL = Kind("a URL such as https://openrouter.ai/api/v1", r.matching(r"https?://[!-~]{1,2000}"), metavar="URL")
NETWORK = Kind(
    "'sealed', 'bridge' or the name of a Docker network", r.matching(r"[A-Za-z0-9][\w.-]{0,254}"), metavar="NETWORK"
)
LISTEN = Kind("HOST:PORT, such as 127.0.0.1:8788", r.matching(r"[\w.:%\[\]-]{1,300}"), metavar="HOST:PORT")
SWITCH = Kind("true or false", r.read_switch, bool)
SECONDS = Kind("a number of seconds above 0", r.read_seconds, float, "SECONDS")
COUNT = Kind("a whole number above 0", r.read_count, int, "N")
BYTES = Kind("a number of bytes above 0, or a size such as 1g", r.read_bytes, str | int, "SIZE")
MEMORY = Kind(container_values.SIZE.form, lambda given: r.docker_text(container_values.SIZE, given), metavar="SIZE")
CPUS = Kind(container_values.CPUS.form, lambda given: r.docker_text(container_values.CPUS, given), str | float, "N")
DOLLARS = Kind(FORM_OF_DOLLARS, r.read_dollars, Any, "USD")
MODELS = Kind(FORM_OF_MODELS, read_models, list[str], "ID[=ALIAS]", repeats=True)
TEXTS = Kind("a list of texts", r.read_texts, list[str], "TEXT", repeats=True)
PLACES = Kind("a list of HOST:PORT", r.read_places, list[str], "HOST:PORT", repeats=True)
ARGUMENTS = Kind(
    "a list of texts, not one text, or such lists by alias", r.read_arguments, list[str], "ARGUMENT", repeats=True
)
MOUNTS = Kind(
    *("a list of (host, container, mode) or 'host:container:mode'", r.mount_args, list[str]),
    metavar="HOST:CONTAINER[:MODE]",
    repeats=True,
)
ENV = Kind("variables by name", r.check_env, dict[str, str], "NAME[=VALUE]", repeats=True)
SERVICES = Kind("places by name", r.read_services, dict[str, str], "NAME=HOST:PORT", repeats=True)
KEY = Kind("a key", r.read_key)
OBJECT = Kind("an object of yours", r.read_anything, None)
