"""What a run is given, from four sources: an option wins over a variable, that over the file, that over the default. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from agent_preflight.config import DEFAULT_BUDGET_USD, Environment
from agent_preflight.config_policies import infra_check, policy_factory
from agent_preflight.run_config import Checks, Model, Mount, RunConfig
from agent_preflight.runner.plan import default_alias
from agent_preflight.runner.request import BY_OPTION
from preflight_proxy.errors import ConfigError

NETWORK = "sealed"
"""What a run of the command line has unless somebody says otherwise."""

AS_THEY_ARE = (
    *(
        "network",
        "sandbox",
        "egress",
        "docker_args",
        "memory",
        "cpus",
        "gate",
        "stdin",
        "workspace_path",
        "budget_mode",
    ),
    *("timeout_s", "idle_timeout_s", "parallel", "max_workers", "runs_dir", "byok"),
)
"""Names that options, file and `run_multi` share, and that no variable sets."""

Lookup = Callable[[str], str | None]


def run_options(
    given: Mapping[str, Any], environment: Environment, config: RunConfig, lookup: Lookup
) -> dict[str, Any]:
    """Return the keyword arguments of `run_multi`; what nobody names is left out, so that its default holds.

    Maps (`env`, `services`) are merged name by name; of lists the strongest source is taken whole.

    Args:
        given: The command line's options by `run_multi`'s names; None, or an empty list or map, where not given. `models` are
            `ID` or `ID=ALIAS`, `env` has None for a variable that is handed on as it is.
        environment: The known variables.
        config: The file.
        lookup: Returns any other variable of this process.

    Raises:
        ConfigError: A key or the models are missing, a variable to hand on is not set, or a policy cannot be made.
    """
    models = _models(given["models"], environment, config)
    said = {name: _first(given.get(name), getattr(config, name)) for name in AS_THEY_ARE}
    said |= {
        "image_name": _first(given.get("image_name"), config.image),
        "initial_prompt": _first(given.get("initial_prompt"), config.prompt),
        "run_id": given.get("run_id"),
        "resume": given.get("resume") or None,
        "retry_failed": given.get("retry_failed") or None,
        "env": _env(given.get("env") or {}, config, lookup) or None,
        "services": {**(config.services or {}), **(given.get("services") or {})} or None,
        "mounts": _first(given.get("mounts"), _mounts(config.mounts)),
        "eject_policy": policy_factory(config.policies) if config.policies else None,
        "openrouter_base_url": None if environment.base_url else config.openrouter_base_url,
        "skip_preflight": given.get("skip_preflight") or config.skip_preflight,
        "preflight_kwargs": _checks(config.preflight),
    }
    said["network"] = said["network"] or NETWORK
    said["cpus"] = None if said["cpus"] is None else str(said["cpus"])
    said |= _program(given.get("arguments"), said["sandbox"], config, models)
    return {
        **{name: value for name, value in said.items() if value is not None},
        **_keys(environment, needs_api_key=not said["skip_preflight"]),
        "models": [(model.id, str(model.alias)) for model in models],
        "budget_usd": _budget(given.get("budget_usd"), environment, config, models),
    }


def _first(*values: Any) -> Any:  # noqa: ANN401 - whatever an option may be
    """The first value that says something: neither None nor an empty list or map."""
    return next((value for value in values if value is not None and value not in ([], {}, ())), None)


def _keys(environment: Environment, *, needs_api_key: bool) -> dict[str, Any]:
    if environment.admin_key is None:
        raise ConfigError("Set OR_ADMIN_KEY or OPENROUTER_ADMIN_KEY to a management key of OpenRouter.")
    if environment.api_key is None and needs_api_key:
        raise ConfigError("Set OPENROUTER_API_KEY to an inference key of OpenRouter, or use --skip-preflight.")
    return {
        "admin_key": environment.admin_key.reveal(),
        "or_key": "" if environment.api_key is None else environment.api_key.reveal(),
    }


def _models(options: Sequence[str], environment: Environment, config: RunConfig) -> list[Model]:
    found: Iterable[str | Model] = options or environment.models or config.models or ()
    models = [_named(model) for model in found]
    if not models:
        raise ConfigError("Name a model with --model, in PREFLIGHT_MODELS, or under `models` in preflight.toml.")
    return models


def _named(model: str | Model) -> Model:
    """Return a model that has an alias."""
    if isinstance(model, str):
        model_id, equals, alias = model.partition("=")
        return Model(id=model_id, alias=alias if equals else default_alias(model_id))
    alias = model.alias if model.alias is not None else default_alias(model.id)
    return Model(id=model.id, alias=alias, budget=model.budget, arguments=model.arguments)


def _budget(option: str | None, environment: Environment, config: RunConfig, models: Sequence[Model]) -> object:
    if option is not None:
        return option
    if environment.budget is not None:
        return environment.budget_usd()
    general: Decimal = config.budget if config.budget is not None else DEFAULT_BUDGET_USD
    if all(model.budget is None for model in models):
        return general
    return {str(model.alias): general if model.budget is None else model.budget for model in models}


def _program(
    options: Sequence[str] | None, sandbox: str | None, config: RunConfig, models: Sequence[Model]
) -> dict[str, Any]:
    """What agents are started with: as a process, what the command line ends in is the command where the file has none."""
    if sandbox == "process" and options and not config.command:
        return {"command": list(options)}
    own = {str(model.alias): model.arguments for model in models if model.arguments is not None}
    general = list(options or config.arguments or ())
    by_alias = {str(model.alias): own.get(str(model.alias), general) for model in models}
    arguments = by_alias if own and not options else general
    return {"container_args": arguments or None, "command": config.command if sandbox == "process" else None}


def _env(options: Mapping[str, str | None], config: RunConfig, lookup: Lookup) -> dict[str, str]:
    wanted: dict[str, str | None] = {**dict.fromkeys(config.pass_env or ()), **(config.env or {}), **options}
    return {name: _value(name, lookup) if value is None else value for name, value in wanted.items()}


def env_sources(options: Mapping[str, str | None], config: RunConfig) -> dict[str, str]:
    """Return where the value of each of the agents' variables comes from: `option`, `environment` or `config`."""
    handed_on = dict.fromkeys(config.pass_env or (), "environment")
    by_option = {name: "environment" if value is None else BY_OPTION for name, value in options.items()}
    return {**handed_on, **dict.fromkeys(config.env or (), "config"), **by_option}


def _value(name: str, lookup: Lookup) -> str:
    value = lookup(name)
    if value is None:
        raise ConfigError(f"The variable {name} is to be handed on to the agents, but it is not set.")
    return value


def _mounts(mounts: Sequence[str | Mount] | None) -> list[object] | None:
    if mounts is None:
        return None
    return [(m.source, m.target, m.mode) if isinstance(m, Mount) else m for m in mounts]


def _checks(checks: Checks | None) -> dict[str, Any] | None:
    if checks is None:
        return None
    names = ("checks", "models", "required_params", "common_required_params", "site_name")
    found = {name: value for name in names if (value := getattr(checks, name)) is not None}
    if checks.infra:
        found["infra"] = [infra_check(infra) for infra in checks.infra]
    return found
