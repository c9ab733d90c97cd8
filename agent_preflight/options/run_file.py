"""What `preflight.toml` may say of a run: the options that have a key, and the tables that are written only there. Pure.

The same keys stand in `[tool.agent-preflight]` of a `pyproject.toml`. Whoever reads a file hands its text over; no default is
decided here, because an option or a variable may still say something else.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from agent_preflight.options.config_errors import explained
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.settings import keys, options, read_option
from preflight_proxy.core.errors import ConfigError

PYPROJECT_TABLE = "agent-preflight"
"""Below `[tool]` of a `pyproject.toml`."""

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Model(_Table, frozen=True):
    """One agent: a model, and what is its own.

    Attributes:
        id: The model's id.
        alias: The trial's name; made of the id where not given.
        budget: Dollars for this one.
        arguments: The agent's arguments for this one.
    """

    id: str
    alias: str | None = None
    budget: Any = None
    arguments: list[str] | None = None


class Mount(_Table, frozen=True):
    """A directory or file of this machine inside the container."""

    source: str
    target: str
    mode: Literal["ro", "rw"] = "rw"


class BudgetExceeded(_Table, frozen=True, tag_field="policy", tag="budget_exceeded"):
    """Ends a trial whose budget is used up."""


class BudgetFraction(_Table, frozen=True, tag_field="policy", tag="budget_fraction"):
    """Ends a trial without progress at a share of its budget."""

    check_after_pct: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.20
    progress: str = "tool_calls"


class IdleTimeout(_Table, frozen=True, tag_field="policy", tag="idle_timeout"):
    """Ends a trial in which nothing happens."""

    timeout_s: Seconds = 300.0


class Progress(_Table, frozen=True, tag_field="policy", tag="progress"):
    """Ends a trial that has spent an amount since it last made progress."""

    window_usd: Any
    progress: str = "tool_calls"


class Stall(_Table, frozen=True, tag_field="policy", tag="stall"):
    """Ends a trial that sends the same request again and again."""

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


IN_TABLES: Mapping[str, Any] = {
    "models": list[str | Model],
    "mounts": list[str | Mount],
    "eject_policy": list[Policy],
    "preflight_kwargs": Checks,
}
"""Types of the options that a file may write as tables."""


@functools.cache
def file_table() -> type[msgspec.Struct]:
    """Return the type of the whole file: a field for each key, None where the file says nothing."""
    return msgspec.defstruct(
        "RunConfig",
        [(key, IN_TABLES.get(name, options()[name].kind.in_file) | None, None) for key, name in keys().items()],
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def parse_config(text: str, name: str = "preflight.toml") -> dict[str, Any]:
    """Return what a `preflight.toml` says, by the keywords of `run_multi`.

    Args:
        text: The file's.
        name: What errors call it.

    Raises:
        ConfigError: It is no TOML, a key is unknown, or a value is not of its type; says where.
    """
    return convert_config(read_toml(text, name), name)


def parse_pyproject(text: str, name: str = "pyproject.toml") -> dict[str, Any] | None:
    """Return what `[tool.agent-preflight]` says, None where there is no such table. Raises as `parse_config`."""
    tools = read_toml(text, name).get("tool", {})
    table = tools.get(PYPROJECT_TABLE) if isinstance(tools, dict) else None
    return None if table is None else convert_config(table, f"{name} [tool.{PYPROJECT_TABLE}]")


def read_toml(text: str, name: str) -> dict[str, Any]:
    """Return a file's tables; its numbers are exact.

    Raises:
        ConfigError: It is no TOML.
    """
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{name}: {exc}") from exc


def convert_config(document: object, name: str) -> dict[str, Any]:
    """Return what the tables of a file say. Raises as `parse_config`."""
    try:
        table = msgspec.convert(document, file_table())
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{name}: {explained(str(exc), tables())}") from exc
    said = {field: value for key, field in keys().items() if (value := getattr(table, key)) is not None}
    if "initial_prompt" in said and "prompt_file" in said:
        raise ConfigError(f"{name}: prompt and prompt_file contradict each other; keep one.")
    for key, field in keys().items():
        if field in said and field not in IN_TABLES:
            read_option(field, said[field], f"{name}: {key}")
    for number, policy in enumerate(said.get("eject_policy", ())):
        if isinstance(policy, Progress):
            read_option("budget_usd", policy.window_usd, f"{name}: policies[{number}].window_usd")
    return said | {field: _plain(said[field], name) for field in ("models", "mounts") if field in said}


def _plain(entries: Sequence[str | Model | Mount], name: str) -> list[Any]:
    """Return models and mounts as scripts give them."""
    return [_entry(entry, f"{name}: models[{number}].budget") for number, entry in enumerate(entries)]


def _entry(entry: str | Model | Mount, label: str) -> object:
    match entry:
        case Mount():
            return (entry.source, entry.target, entry.mode)
        case Model():
            budget = None if entry.budget is None else read_option("budget_usd", entry.budget, label)
            return NamedModel(entry.id, entry.alias, budget, entry.arguments)
    return entry


def tables() -> dict[str, tuple[type[msgspec.Struct], ...]]:
    """Return what may stand at each place that holds tables; the place is written as errors write it, without numbers."""
    return {
        "": (file_table(),),
        "models[]": (Model,),
        "mounts[]": (Mount,),
        "policies[]": (BudgetExceeded, BudgetFraction, IdleTimeout, Progress, Stall),
        "preflight": (Checks,),
        "preflight.infra[]": (HttpHealth, EnvVars, DockerHealth, GitVersion),
    }
