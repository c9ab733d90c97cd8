"""How the command line goes on with a run by its plan alone.

The plan says what the run is. From where it was given before, and only there, is read again what no plan holds: the values of the
agents' variables, policies and checks. An option that is given beside --resume wins; whether it may differ is decided where the
plan is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agent_preflight.artifacts import RUNS_DIR, find_run, read_json_object
from agent_preflight.config import DEFAULT_BUDGET_USD, Environment
from agent_preflight.config_file import load_config
from agent_preflight.run_config import RunConfig, convert_config
from agent_preflight.run_lock import RunState, hold
from agent_preflight.run_options import Lookup, run_options
from agent_preflight.runner.folder import going_on, no_such_run
from agent_preflight.runner.plan_file import by_alias, is_in_clear
from agent_preflight.runner.request import BY_OPTION, Origin
from preflight_proxy.errors import ConfigError

AS_THEY_ARE = (
    *("sandbox", "image", "network", "services", "egress", "mounts", "docker_args", "memory", "cpus", "workspace_path"),
    *("budget_mode", "timeout_s", "stdin", "prompt"),
)
"""Keys of plan.json that are keys of the configuration."""
MAY_CHANGE = ("gate", "max_workers", "idle_timeout_s", "openrouter_base_url", "byok", "skip_preflight")


def find_plan(run_id: str, runs_dir: Path) -> dict[str, Any]:
    """Return the plan of a run that is to go on.

    Raises:
        ConfigError: There is no such run, it has no plan, or it is going on.
    """
    run_dir = find_run(run_id, runs_dir)
    if run_dir is None:
        raise ConfigError(no_such_run(runs_dir, run_id))
    with hold(run_dir) as state:
        if state is RunState.LIVE:
            raise ConfigError(going_on(run_dir))
    plan = read_json_object(run_dir, "plan.json")
    if plan is None:
        raise ConfigError(f"The run {run_id} has no plan, because it never began a trial: start it anew.")
    return plan


def runs_dir_of(given: Mapping[str, Any], config: Path | None) -> Path:
    """Return where the run is looked for: as an option says, else the configuration of this folder, else the usual place."""
    if given.get("runs_dir") is not None:
        return Path(given["runs_dir"])
    here, _ = load_config(config, Path.cwd())
    return RUNS_DIR if here.runs_dir is None else Path(here.runs_dir)


def resumed_options(
    given: Mapping[str, Any], plan: Mapping[str, Any], config: Path | None, environment: Environment, lookup: Lookup
) -> tuple[dict[str, Any], Origin]:
    """Return the keyword arguments of `run_multi` for a run that goes on, and where they come from.

    Args:
        given: What the command line says, see `run_options`.
        plan: The run's, with its texts in clear.
        config: A file that takes the place of the one that the run was begun with.
        environment: The known variables; models and budget in it are not those of this run.
        lookup: Returns any other variable of this process.

    Raises:
        ConfigError: A script began the run with code of its own, the file is gone, or variables are missing.
    """
    run_id = str(given["run_id"])
    began = origin_in(plan)
    if functions := [str(name) for name in _mapping(plan, "origin").get("functions", ())]:
        raise ConfigError(
            f"The run {run_id} was begun by a script with {', '.join(functions)}, which no file can keep. Go on from the script: "
            f"run_multi(..., run_id={run_id!r}, resume=True)."
        )
    path = config or began.config
    file = RunConfig() if path is None else _read_again(path)
    values, sources = _variables(run_id, plan, given.get("env") or {}, began, file, lookup)
    said = msgspec.structs.replace(
        config_of(plan),
        env=values,
        command=file.command if given.get("arguments") else None,
        policies=file.policies,
        preflight=file.preflight,
    )
    options = run_options({**given, "env": {}}, replace(environment, models=(), budget=None), said, lookup)
    trials = by_alias(plan)
    aliases = [alias for _, alias in options["models"]]
    if given.get("budget_usd") is None:
        budgets = {alias: trials[alias].get("budget_usd") for alias in aliases if alias in trials}
        options["budget_usd"] = {alias: budgets.get(alias, DEFAULT_BUDGET_USD) for alias in aliases}
    if not given.get("arguments"):
        name = "command" if options.get("sandbox") == "process" else "container_args"
        options[name] = {alias: trials[alias]["command"] for alias in aliases if alias in trials}
    return options, Origin(config=None if path is None else path.absolute(), env_from=sources)


def config_of(plan: Mapping[str, Any]) -> RunConfig:
    """Return what a plan says as a file would say it; budgets and arguments are not in it.

    Raises:
        ConfigError: The plan is not of its form.
    """
    may_change = _mapping(plan, "may_change")
    said = {**{name: plan.get(name) for name in AS_THEY_ARE}, **{name: may_change.get(name) for name in MAY_CHANGE}}
    said["models"] = [{"id": trial.get("model_id"), "alias": alias} for alias, trial in by_alias(plan).items()]
    return convert_config({name: value for name, value in said.items() if value not in (None, "")}, "plan.json")


def origin_in(plan: Mapping[str, Any]) -> Origin:
    """Return where a plan says that its options came from."""
    said = _mapping(plan, "origin")
    config, sources = said.get("config"), _mapping(said, "env_from")
    return Origin(
        config=Path(config) if isinstance(config, str) else None,
        env_from={str(name): str(source) for name, source in sources.items()},
    )


def _read_again(path: Path) -> RunConfig:
    try:
        return load_config(path, path.parent)[0]
    except ConfigError as exc:
        raise ConfigError(
            f"{exc} The run was begun with this file, and values of variables, policies and checks are read from it again. "
            "Put it back, or name another one with --config."
        ) from exc


def _variables(
    run_id: str,
    plan: Mapping[str, Any],
    given: Mapping[str, str | None],
    began: Origin,
    file: RunConfig,
    lookup: Lookup,
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the agents' variables, and where each comes from.

    Raises:
        ConfigError: Some are missing; the text names each, and where its value came from before.
    """
    names = [str(name) for name in plan.get("env_names") or ()]
    sources = {name: began.env_from.get(name, BY_OPTION) for name in names}
    sources |= {name: "environment" if value is None else BY_OPTION for name, value in given.items()}
    before: dict[str, Lookup] = {"environment": lookup, "config": (file.env or {}).get, BY_OPTION: lambda name: None}
    found = {
        name: value if (value := given.get(name)) is not None else before.get(source, before[BY_OPTION])(name)
        for name, source in sources.items()
    }
    if missing := [name for name, value in found.items() if value is None]:
        lines = "".join(f"\n  {name}: {_where(name, sources[name], began)}" for name in missing)
        raise ConfigError(f"Values of variables are not kept, and these are missing, so {run_id} cannot go on:{lines}")
    return {name: value for name, value in found.items() if value is not None}, sources


def _where(name: str, source: str, began: Origin) -> str:
    match source:
        case "environment":
            return "set it in the environment"
        case "config":
            return f"its value stood in {began.config}"
    return f"give it again: -e {name}=VALUE"


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def earlier_version(run_id: str, plan: Mapping[str, Any]) -> str | None:
    """Return what a person must know of a plan that is not enough to go on by; None for one that is."""
    if is_in_clear(plan):
        return None
    return (
        f"The plan of {run_id} has digests in the place of prompt and arguments, as an earlier version wrote it, or because they "
        "are too long. So give everything that the run was given then; what differs is shown."
    )
