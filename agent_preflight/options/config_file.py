"""The configuration file of a run: `preflight.toml`, else `[tool.agent-preflight]` of `pyproject.toml`.

No default is decided here, because an option of the command line or a variable may still give a value.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agent_preflight.options.container_values import absolute_mount
from agent_preflight.options.kinds import Seconds
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.settings import KEYS, OPTIONS, read_option
from agent_preflight.options.text_files import read_text
from preflight_proxy.core.errors import ConfigError

CONFIG_NAME, PYPROJECT_NAME = "preflight.toml", "pyproject.toml"
PYPROJECT_TABLE = "agent-preflight"
"""Below `[tool]` of a `pyproject.toml`."""

ACCOUNT_KEYS = frozenset({"admin_key", "or_key", "api_key", "openrouter_api_key", "or_admin_key"})
"""Names of API keys that people may write into the file, which often ends up in a repository."""
OTHER_NAMES = {"timeout": "timeout_s", "idle_timeout": "idle_timeout_s"}
"""Names that people may try, and the keys that they mean. Keywords of `run_multi` are known besides."""
TOML_WORDS = {
    "str": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a fraction",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
"""What the types in msgspec's messages are called in TOML."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Model(_Table, frozen=True):
    """One agent: a model, and options of its own.

    Attributes:
        id: The model's id.
        alias: The trial's name; made from the id if None.
        budget: Dollars for this agent.
        arguments: Arguments of this agent.
    """

    id: str
    alias: str | None = None
    budget: Any = None
    arguments: list[str] | None = None


class Mount(_Table, frozen=True):
    """A folder or file of this machine in the container."""

    source: str
    target: str
    mode: str = "rw"


class BudgetExceeded(_Table, frozen=True, tag_field="policy", tag="budget_exceeded"):
    """Ends a trial whose budget is used up."""


class BudgetFraction(_Table, frozen=True, tag_field="policy", tag="budget_fraction"):
    """Ends a trial without progress at a share of its budget."""

    check_after_pct: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.20
    progress: str = "tool_calls"


class IdleTimeout(_Table, frozen=True, tag_field="policy", tag="idle_timeout"):
    """Ends a trial without an event or a call."""

    timeout_s: Seconds = 300.0


class Progress(_Table, frozen=True, tag_field="policy", tag="progress"):
    """Ends a trial that has spent an amount since it last made progress."""

    window_usd: Any
    progress: str = "tool_calls"


class Stall(_Table, frozen=True, tag_field="policy", tag="stall"):
    """Ends a trial that repeats one request."""

    threshold: Annotated[int, msgspec.Meta(ge=2)] = 5


Policy = BudgetExceeded | BudgetFraction | IdleTimeout | Progress | Stall


class HttpHealth(_Table, frozen=True, tag_field="check", tag="http_health"):
    """A service answers."""

    url: str
    name: str | None = None
    require: dict[str, Any] | None = None
    min_version: str | None = None
    timeout_s: Seconds = 5.0
    hint: str = ""


class EnvVars(_Table, frozen=True, tag_field="check", tag="env_vars"):
    """Variables are set on this machine."""

    names: list[str]
    name: str = "Env vars"
    hint: str = ""


class DockerHealth(_Table, frozen=True, tag_field="check", tag="docker_health"):
    """A container runs."""

    container: str
    name: str | None = None
    hint: str = ""


class GitVersion(_Table, frozen=True, tag_field="check", tag="git_version"):
    """A folder is in a git repository, at a tag or later."""

    path: str
    min_tag: str | None = None
    name: str | None = None
    hint: str = ""


Infra = HttpHealth | EnvVars | DockerHealth | GitVersion


class Checks(_Table, frozen=True):
    """`[preflight]`: the checks before the run, as the function `preflight` takes them."""

    checks: list[str] | None = None
    models: list[str] | None = None
    required_params: dict[str, list[str]] | None = None
    common_required_params: list[str] | None = None
    site_name: str | None = None
    infra: list[Infra] | None = None


FILE_TYPES: Mapping[str, Any] = {
    "models": list[str | Model],
    "mounts": list[str | Mount],
    "env": dict[str, str],
    "tags": dict[str, str],
    "score": str,
    "container_args": list[str],
    "command": list[str],
    "eject_policy": list[Policy],
    "preflight_kwargs": Checks,
}
"""Types of the options that a file writes as tables, or for which it takes less than a script may give."""


@functools.cache
def tables() -> Mapping[str, tuple[type[msgspec.Struct], ...]]:
    """Return the types of the tables at each place of the file. A place is a path of keys, with `[]` for each list."""
    fields = [(key, FILE_TYPES.get(name, Any) | None, None) for key, name in KEYS.items()]
    file = msgspec.defstruct("RunConfig", fields, kw_only=True, frozen=True, forbid_unknown_fields=True)
    return {
        "": (file,),
        "models[]": (Model,),
        "mounts[]": (Mount,),
        "policies[]": (BudgetExceeded, BudgetFraction, IdleTimeout, Progress, Stall),
        "preflight": (Checks,),
        "preflight.infra[]": (HttpHealth, EnvVars, DockerHealth, GitVersion),
    }


def known_keys(place: str) -> list[str]:
    """Return the keys that the tables at a place may have."""
    structs = tables().get(place, ())
    tags = [struct.__struct_config__.tag_field for struct in structs[:1] if struct.__struct_config__.tag_field]
    return list(dict.fromkeys([*tags, *(field for struct in structs for field in struct.__struct_fields__)]))


def load_config(path: Path | None, directory: Path) -> tuple[dict[str, Any], Path | None]:
    """Return the options that a file gives, by the keywords of `run_multi`, and the file.

    Paths in the file are relative to its folder: `prompt_file`, `env_file`, and mounts that begin with a dot or a tilde.

    Args:
        path: The file that the user names; a `pyproject.toml` is read as one.
        directory: Where a file is looked for if the user names none.

    Returns:
        No options and None if there is no file.

    Raises:
        ConfigError: The file cannot be read, or is wrong, or the `pyproject.toml` that was named has no options.
    """
    if path is not None:
        options = _load(path)
        if options is None:
            raise ConfigError(f"{path} has no table [tool.{PYPROJECT_TABLE}].")
        return options, path
    for path in (directory / CONFIG_NAME, directory / PYPROJECT_NAME):
        if path.is_file() and (options := _load(path)) is not None:
            return options, path
    return {}, None


def _load(path: Path) -> dict[str, Any] | None:
    parse = parse_pyproject if path.name == PYPROJECT_NAME else parse_config
    return parse(read_text(path), str(path))


def parse_config(text: str, name: str = CONFIG_NAME) -> dict[str, Any]:
    """Return the options that the text of a `preflight.toml` gives, by the keywords of `run_multi`.

    Args:
        text: The file's text.
        name: The file. Errors begin with it, and relative paths are in its folder.

    Raises:
        ConfigError: The text is not TOML, a key is unknown, or a value is wrong. The error says where.
    """
    return _read(_toml(text, name), name, name)


def parse_pyproject(text: str, name: str = PYPROJECT_NAME) -> dict[str, Any] | None:
    """Return the options in `[tool.agent-preflight]`, None if there is no such table. Arguments and errors as `parse_config`."""
    tools = _toml(text, name).get("tool", {})
    table = tools.get(PYPROJECT_TABLE) if isinstance(tools, dict) else None
    return None if table is None else _read(table, name, f"{name} [tool.{PYPROJECT_TABLE}]")


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{name}: {exc}") from exc


def _read(document: object, path: str, name: str) -> dict[str, Any]:
    try:
        (file,) = tables()[""]
        table = msgspec.convert(document, file)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{name}: {explained(str(exc))}") from exc
    values = {key: value for key in KEYS if (value := getattr(table, key)) is not None}
    if "prompt" in values and "prompt_file" in values:
        raise ConfigError(f"{name}: prompt and prompt_file contradict each other; keep one.")
    for number, policy in enumerate(values.get("policies", ())):
        if isinstance(policy, Progress):
            read_option("budget_usd", policy.window_usd, f"{name}: policies[{number}].window_usd")
    folder = Path(path).parent.absolute()
    return {KEYS[key]: _value(key, value, folder, f"{name}: {key}") for key, value in values.items()}


def _value(key: str, value: Any, folder: Path, label: str) -> Any:  # noqa: ANN401 - whatever the option is
    if key == "models":
        value = [_model(model, f"{label}[{number}].budget") for number, model in enumerate(value)]
    if key == "mounts":
        mounts = [f"{m.source}:{m.target}:{m.mode}" if isinstance(m, Mount) else m for m in value]
        value = [absolute_mount(mount, folder.resolve()) for mount in mounts]
    value = read_option(KEYS[key], value, label)
    if key == "prompt_file":
        return _path(value, folder)
    if key == "env_file":
        return tuple(_path(file, folder) for file in value)
    return value


def _path(path: str, folder: Path) -> str:
    with contextlib.suppress(RuntimeError):  # there is no user of that name
        path = str(Path(path).expanduser())
    return str(folder / path)


def _model(model: str | Model, label: str) -> str | NamedModel:
    if isinstance(model, str):
        return model
    budget = None if model.budget is None else read_option("budget_usd", model.budget, label)
    return NamedModel(model.id, model.alias, budget, model.arguments)


def explained(message: str) -> str:
    """Return a message of `msgspec.convert` as a sentence for a person who reads the file."""
    what, _, path = message.partition(" - at `$")
    path = path.strip("`.")
    place = re.sub(r"\[\d+\]", "[]", path)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        what = _unknown(unknown[1], known_keys(place))
    elif what.startswith("Invalid value"):  # of the key that says which kind of table it is
        tags = [str(struct.__struct_config__.tag) for struct in tables().get(place.rpartition(".")[0], ())]
        what += f"; known are {', '.join(tags)}."
    else:
        what = re.sub(r"Object missing required field `(.*)`", r"the key '\1' is missing", what)
        what = re.sub(r"`([^`]*)`", lambda types: _in_toml(types[1]), what) + "."
    return f"{path}: {what[0].lower()}{what[1:]}" if path else what


def _in_toml(types: str) -> str:
    return " or ".join(TOML_WORDS.get(name, name) for name in types.split(" | ") if name != "null")


def _unknown(key: str, known: list[str]) -> str:
    if key.lower() in ACCOUNT_KEYS:
        return f"{key!r} does not belong into a file: keys come from OR_ADMIN_KEY and OPENROUTER_API_KEY."
    names = {name: option.key for name, option in OPTIONS.items() if option.key} | OTHER_NAMES
    same = [names[key]] if names.get(key) in known else []
    near = same or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key {key!r}: " + (f"do you mean {near[0]!r}?" if near else f"known are {', '.join(known)}.")
