"""Continues a run from its plan, for `agent-preflight run --resume`.

The plan has the options of the run. It has no values of the agents' variables, no policies and no checks: those are read again,
each from the source that gave it at the start. An option beside --resume wins; the comparison of the plans says whether it may
differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agent_preflight.artifacts import RUNS_DIR, read_json_object
from agent_preflight.base.config import DEFAULT_BUDGET_USD, Environment
from agent_preflight.base.usd import pusd, read_usd
from agent_preflight.launch.config_policies import with_objects
from agent_preflight.options.config_file import load_config
from agent_preflight.options.settings import RunSettings
from agent_preflight.options.sources import (
    BY_OPTION,
    AgentVariables,
    Lookup,
    for_command,
    read_variables,
    settings_of,
)
from agent_preflight.options.text_files import read_text
from agent_preflight.runner.resume import kept_results
from agent_preflight.runs.choice import named_run
from agent_preflight.runs.folder import RunState, going_on, lock_if_dead
from agent_preflight.runs.plan_file import by_alias, is_in_clear
from agent_preflight.runs.plan_options import plan_options
from agent_preflight.runs.request import Origin
from preflight_proxy.core.errors import ConfigError

_RELATIVE = re.compile(r"(?:^|=)\.{1,2}(?:[/:,]|$)")
"""A path that begins with a dot, as any option of the engine writes it."""
READ_AGAIN = ("eject_policy", "preflight_kwargs", "notify")
"""Options that a resume reads from the file again, besides the values of variables."""


def find_plan(run_id: str, runs_dir: Path) -> dict[str, Any]:
    """Return the plan of a run that is to be continued.

    Raises:
        ConfigError: There is no such run, it has no plan, or it is going on.
    """
    run_dir = named_run(run_id, runs_dir)
    with lock_if_dead(run_dir) as state:
        if state is RunState.LIVE:
            raise ConfigError(going_on(run_dir))
    plan = read_json_object(run_dir, "plan.json")
    if plan is None:
        raise ConfigError(f"The run {run_id} has no plan, because it never began a trial: start a new run.")
    return plan


def runs_dir_of(given: Mapping[str, Any], config: Path | None) -> Path:
    """Return the folder of the runs: of the option, else of the configuration file, else the default."""
    source = given if given.get("runs_dir") is not None else load_config(config, Path.cwd())[0]
    return Path(source.get("runs_dir") or RUNS_DIR)


def earlier_version(run_id: str, plan: Mapping[str, Any]) -> str | None:
    """Return what a person must do if the plan is not enough to continue the run, else None."""
    if is_in_clear(plan):
        return None
    return (
        f"The plan of {run_id} has digests in the place of prompt and arguments, as an earlier version wrote it, or because they "
        "are too long. So give everything that the run was given then; what differs is shown."
    )


def origin_of(variables: AgentVariables, config: Path | None) -> Origin:
    """Return the sources of the options of a run of the command line.

    Args:
        variables: The agents' variables.
        config: The configuration file.
    """
    return Origin(
        directory=Path.cwd(),
        config=None if config is None else config.absolute(),
        env_files=_absolute(variables.files),
        env_from=variables.sources,
    )


def _absolute(files: Sequence[str]) -> tuple[Path, ...]:
    return tuple(Path(each).expanduser().absolute() for each in files)


def resumed_settings(
    given: Mapping[str, Any], plan: Mapping[str, Any], config: Path | None, environment: Environment, lookup: Lookup
) -> tuple[RunSettings, Origin]:
    """Return the settings of a run that is continued, and their sources.

    Args:
        given: Options of the command line, by the keywords of `run_multi`.
        plan: The plan of the run, with its texts in clear.
        config: A file that replaces the one with which the run was started.
        environment: The known variables. Its models and its budget are ignored.
        lookup: Returns any other variable of this process.

    Raises:
        ConfigError: A script started the run with functions of its own, a file is missing, or variables are missing.
    """
    run_id = str(given["run_id"])
    if functions := [str(name) for name in _mapping(plan, "origin").get("functions", ())]:
        raise ConfigError(
            f"The run {run_id} was begun by a script with {', '.join(functions)}, which no file can keep. Go on from the script: "
            f"run_multi(..., run_id={run_id!r}, resume=True)."
        )
    origin = origin_in(plan)
    _check_directory(run_id, plan, origin)
    path = config or origin.config
    file = {} if path is None else _read_again(path)
    stored = plan_options(plan) | {name: file[name] for name in READ_AGAIN if name in file}
    if given.get("container_args"):  # they follow the command of the file, as at the start
        stored |= {"container_args": None, "command": file.get("command")}
    own = {name: value for name, value in given.items() if name not in ("env", "env_file")}
    options = for_command(own, replace(environment, models=(), budget=None), with_objects(stored))
    if isinstance(
        options["budget_usd"], Mapping
    ):  # a new model has a budget here; the comparison of the plans refuses it
        usual = {str(model.alias): DEFAULT_BUDGET_USD for model in options["models"]}
        options["budget_usd"] = {**usual, **options["budget_usd"]}
    origin = replace(origin, config=path)
    if _is_over(given, plan, options["budget_usd"]):
        return settings_of(options, _names_only(plan, given), lookup, read_text), _known(origin, plan)
    env, origin = _env(run_id, plan, given, origin, file, lookup)
    return settings_of(options, env, lookup, read_text), origin


def _is_over(given: Mapping[str, Any], plan: Mapping[str, Any], budget: object) -> bool:
    """Whether every trial of the run has ended for good, so that no values of variables are needed."""
    run_dir = Path(given.get("runs_dir") or RUNS_DIR) / str(given["run_id"])
    aliases = list(by_alias(plan))
    amounts = budget if isinstance(budget, Mapping) else dict.fromkeys(aliases, budget)
    budgets = {alias: pusd(read_usd(amounts[alias])) if alias in amounts else 0 for alias in aliases}
    kept = kept_results(run_dir, budgets, retry_failed=bool(given.get("retry_failed")))
    return bool(aliases) and len(kept) == len(aliases)


def _names_only(plan: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the agents' variables without their values, because plans are compared by the names."""
    return dict.fromkeys(map(str, (*(plan.get("env_names") or ()), *(given.get("env") or ()))), "")


def _known(origin: Origin, plan: Mapping[str, Any]) -> Origin:
    """Return an origin with a source for each variable of the plan. A variable without a source must be given again."""
    names = map(str, plan.get("env_names") or ())
    return replace(origin, env_from={name: origin.env_from.get(name, BY_OPTION) for name in names})


def _check_directory(run_id: str, plan: Mapping[str, Any], origin: Origin) -> None:
    """Check that relative paths in options of the engine mean the same in this folder."""
    if origin.directory in (None, Path.cwd()):
        return
    if relative := [arg for arg in plan.get("docker_args") or () if _RELATIVE.search(str(arg))]:
        raise ConfigError(
            f"{relative[0]!r} in docker_args of {run_id} is a path relative to {origin.directory}: go on with the run from there."
        )


def origin_in(plan: Mapping[str, Any]) -> Origin:
    """Return the sources of a run's options, from its plan.

    Raises:
        ConfigError: The plan is damaged.
    """
    parts = {name: value for name, value in _mapping(plan, "origin").items() if value is not None}
    try:
        return msgspec.convert(parts, Origin, dec_hook=lambda kind, text: kind(text))
    except (msgspec.ValidationError, TypeError) as exc:
        raise ConfigError(f"plan.json: origin: {exc}. The file is damaged: start a new run.") from exc


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _read_again(path: Path) -> dict[str, Any]:
    try:
        return load_config(path, path.parent)[0]
    except ConfigError as exc:
        raise ConfigError(
            f"{exc} The run was begun with this file, and values of variables, policies and checks are read from it again. "
            "Put it back, or name another one with --config."
        ) from exc


def _env(
    run_id: str,
    plan: Mapping[str, Any],
    given: Mapping[str, Any],
    origin: Origin,
    file: Mapping[str, Any],
    lookup: Lookup,
) -> tuple[dict[str, str], Origin]:
    """Return the agents' variables, and the origin with the source of each.

    Raises:
        ConfigError: Values are missing. The text names each variable, and what to do.
    """
    before = _known(origin, plan).env_from
    new = read_variables(given, {}, read_text)
    is_needed = "env_file" in before.values() and not new.files
    old = read_variables({"env_file": list(map(str, origin.env_files))} if is_needed else {}, {}, read_text)
    sources = {**before, **new.sources}
    values: dict[str, Mapping[str, str | None]] = {
        "config": file.get("env") or {},
        "env_file": {**old.values, **new.values},
        BY_OPTION: new.values,
    }
    env = {
        name: lookup(name) if source == "environment" else values.get(source, {}).get(name)
        for name, source in sources.items()
    }
    if missing := [name for name, value in env.items() if value is None]:
        lines = "".join(f"\n  {name}: {_what_to_do(name, sources[name], origin)}" for name in missing)
        raise ConfigError(f"Values of variables are not kept, and these are missing, so {run_id} cannot go on:{lines}")
    origin = replace(origin, env_files=_absolute(new.files) or origin.env_files, env_from=sources)
    return {name: value for name, value in env.items() if value is not None}, origin


def _what_to_do(name: str, source: str, origin: Origin) -> str:
    match source:
        case "environment":
            return "set it in the environment"
        case "config":
            return f"its value stood in {origin.config}"
        case "env_file":
            return f"its value stood in {', '.join(map(str, origin.env_files))}"
    return f"give it again: -e {name}=VALUE"
