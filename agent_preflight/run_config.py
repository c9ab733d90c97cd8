"""What `preflight.toml` may say of a run: every key, its type, and what is wrong where one is not so. Pure.

The same keys stand in `[tool.agent-preflight]` of a `pyproject.toml`. Whoever reads a file hands its text over; no default is
decided here, because an option or a variable may still say something else.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from agent_preflight.config_errors import explained
from preflight_proxy.errors import ConfigError

PYPROJECT_TABLE = "agent-preflight"
"""Below `[tool]` of a `pyproject.toml`."""

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


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
    budget: Decimal | None = None
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

    window_usd: Annotated[float, msgspec.Meta(gt=0)]
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


class RunConfig(_Table, frozen=True):
    """The whole file; None where it says nothing. The names are those of `run_multi`, but for `budget` and `prompt`."""

    models: list[str | Model] | None = None
    budget: Decimal | None = None
    image: str | None = None
    arguments: list[str] | None = None
    sandbox: Literal["docker", "process"] | None = None
    command: list[str] | None = None
    network: str | None = None
    services: dict[str, str] | None = None
    egress: list[str] | None = None
    env: dict[str, str] | None = None
    pass_env: list[str] | None = None
    mounts: list[str | Mount] | None = None
    workspace_path: str | None = None
    docker_args: list[str] | None = None
    memory: str | None = None
    cpus: str | float | None = None
    gate: Literal["auto", "shared", "portable"] | None = None
    prompt: str | None = None
    prompt_file: str | None = None
    stdin: Literal["auto", "open", "close"] | None = None
    timeout_s: Seconds | None = None
    idle_timeout_s: Seconds | None = None
    policies: list[Policy] | None = None
    parallel: bool | None = None
    max_workers: Count | None = None
    budget_mode: Literal["simple", "detailed"] | None = None
    runs_dir: str | None = None
    openrouter_base_url: str | None = None
    byok: bool | None = None
    skip_preflight: bool | None = None
    preflight: Checks | None = None


def parse_config(text: str, name: str = "preflight.toml") -> RunConfig:
    """Return what a `preflight.toml` says.

    Args:
        text: The file's.
        name: What errors call it.

    Raises:
        ConfigError: It is no TOML, a key is unknown, or a value is not of its type; says where.
    """
    return convert_config(read_toml(text, name), name)


def parse_pyproject(text: str, name: str = "pyproject.toml") -> RunConfig | None:
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


def convert_config(document: object, name: str) -> RunConfig:
    """Return what the tables of a file say. Raises as `parse_config`."""
    try:
        config = msgspec.convert(document, RunConfig)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{name}: {explained(str(exc), tables())}") from exc
    if config.prompt is not None and config.prompt_file is not None:
        raise ConfigError(f"{name}: prompt and prompt_file contradict each other; keep one.")
    return config


def tables() -> dict[str, tuple[type[msgspec.Struct], ...]]:
    """Return what may stand at each place that holds tables; the place is written as errors write it, without numbers."""
    return {
        "": (RunConfig,),
        "models[]": (Model,),
        "mounts[]": (Mount,),
        "policies[]": (BudgetExceeded, BudgetFraction, IdleTimeout, Progress, Stall),
        "preflight": (Checks,),
        "preflight.infra[]": (HttpHealth, EnvVars, DockerHealth, GitVersion),
    }
