"""How the command line goes on with a run by its plan alone.

The plan says what the run is. From where it was given before, and only there, is read again what no plan holds: the values of the
agents' variables, policies and checks. An option that is given beside --resume wins; whether it may differ is decided where the
plan is compared.
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
from agent_preflight.options.settings import RunSettings, read_option
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
from agent_preflight.runs.plan_file import COMPARED, MAY_CHANGE, by_alias, is_in_clear
from agent_preflight.runs.request import Origin
from preflight_proxy.core.errors import ConfigError

_RELATIVE = re.compile(r"(?:^|=)\.{1,2}(?:[/:,]|$)")
"""A source that begins with a dot, in any of the forms of an option of the engine."""
READ_AGAIN = ("eject_policy", "preflight_kwargs")
"""What of the file counts for a run that goes on, besides values of variables."""


def find_plan(run_id: str, runs_dir: Path) -> dict[str, Any]:
    """Return the plan of a run that is to go on.

    Raises:
        ConfigError: There is no such run, it has no plan, or it is going on.
    """
    run_dir = named_run(run_id, runs_dir)
    with lock_if_dead(run_dir) as state:
        if state is RunState.LIVE:
            raise ConfigError(going_on(run_dir))
    plan = read_json_object(run_dir, "plan.json")
    if plan is None:
        raise ConfigError(f"The run {run_id} has no plan, because it never began a trial: start it anew.")
    return plan


def runs_dir_of(given: Mapping[str, Any], config: Path | None) -> Path:
    """Return where the run is looked for: as an option says, else the configuration of this folder, else the usual place."""
    said = given if given.get("runs_dir") is not None else load_config(config, Path.cwd())[0]
    return Path(said.get("runs_dir") or RUNS_DIR)


def earlier_version(run_id: str, plan: Mapping[str, Any]) -> str | None:
    """Return what a person must know of a plan that is not enough to go on by; None for one that is."""
    if is_in_clear(plan):
        return None
    return (
        f"The plan of {run_id} has digests in the place of prompt and arguments, as an earlier version wrote it, or because they "
        "are too long. So give everything that the run was given then; what differs is shown."
    )


def origin_of(variables: AgentVariables, config: Path | None) -> Origin:
    """Return where a run of the command line gets its options from.

    Args:
        variables: The agents' variables.
        config: The file that configures it.
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
    """Return the settings of a run that goes on, and where they come from.

    Args:
        given: What the command line says, by the keywords of `run_multi`.
        plan: The run's, with its texts in clear.
        config: A file that takes the place of the one that the run was begun with.
        environment: The known variables; models and budget in it are not those of this run.
        lookup: Returns any other variable of this process.

    Raises:
        ConfigError: A script began the run with code of its own, a file is gone, or variables are missing.
    """
    run_id = str(given["run_id"])
    if functions := [str(name) for name in _mapping(plan, "origin").get("functions", ())]:
        raise ConfigError(
            f"The run {run_id} was begun by a script with {', '.join(functions)}, which no file can keep. Go on from the script: "
            f"run_multi(..., run_id={run_id!r}, resume=True)."
        )
    began = origin_in(plan)
    _check_directory(run_id, plan, began)
    path = config or began.config
    file = {} if path is None else _read_again(path)
    said = plan_options(plan) | {name: file[name] for name in READ_AGAIN if name in file}
    if given.get("container_args"):  # they follow the file's command, as they did at the start
        said |= {"container_args": None, "command": file.get("command")}
    options = {name: value for name, value in given.items() if name not in ("env", "env_file")}
    found = for_command(options, replace(environment, models=(), budget=None), with_objects(said))
    if isinstance(found["budget_usd"], Mapping):  # that a model is new is told where the plan is compared
        usual = {str(model.alias): DEFAULT_BUDGET_USD for model in found["models"]}
        found["budget_usd"] = {**usual, **found["budget_usd"]}
    began = replace(began, config=path)
    if _is_over(given, plan, found["budget_usd"]):
        return settings_of(found, _names_only(plan, given), lookup, read_text), _known(began, plan)
    env, origin = _env(run_id, plan, given, began, file, lookup)
    return settings_of(found, env, lookup, read_text), origin


def _is_over(given: Mapping[str, Any], plan: Mapping[str, Any], budget: object) -> bool:
    """Whether no trial of a run begins, so that nobody needs values of variables."""
    run_dir = Path(given.get("runs_dir") or RUNS_DIR) / str(given["run_id"])
    aliases = list(by_alias(plan))
    amounts = budget if isinstance(budget, Mapping) else dict.fromkeys(aliases, budget)
    budgets = {alias: pusd(read_usd(amounts[alias])) if alias in amounts else 0 for alias in aliases}
    kept = kept_results(run_dir, budgets, retry_failed=bool(given.get("retry_failed")))
    return bool(aliases) and len(kept) == len(aliases)


def _names_only(plan: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """The agents' variables without their values: the plan is compared by their names."""
    return dict.fromkeys(map(str, (*(plan.get("env_names") or ()), *(given.get("env") or ()))), "")


def _known(began: Origin, plan: Mapping[str, Any]) -> Origin:
    """Return where a run came from, with each variable of its plan; one without a source must be given again."""
    names = map(str, plan.get("env_names") or ())
    return replace(began, env_from={name: began.env_from.get(name, BY_OPTION) for name in names})


def _check_directory(run_id: str, plan: Mapping[str, Any], began: Origin) -> None:
    """Accept that options of the engine mean the same paths here."""
    if began.directory in (None, Path.cwd()):
        return
    if relative := [arg for arg in plan.get("docker_args") or () if _RELATIVE.search(str(arg))]:
        raise ConfigError(
            f"{relative[0]!r} in docker_args of {run_id} is a path relative to {began.directory}: go on with the run from there."
        )


def plan_options(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a plan says of its run, by the keywords of `run_multi`; not of the agents' variables.

    Raises:
        ConfigError: A value is none.
    """
    trials, may_change = by_alias(plan), _mapping(plan, "may_change")
    said = {name: plan.get(key) for key, name in COMPARED.items()} | {name: may_change.get(name) for name in MAY_CHANGE}
    said["models"] = [(trial.get("model_id"), alias) for alias, trial in trials.items()]
    said["budget_usd"] = {alias: trial.get("budget_usd") for alias, trial in trials.items()}
    program = "command" if plan.get("sandbox") == "process" else "container_args"
    said[program] = {alias: trial.get("command") for alias, trial in trials.items()}
    said = {name: value for name, value in said.items() if value not in (None, "", {}, [])}
    for name, value in said.items():
        read_option(name, value, f"plan.json: {name}")
    return said


def origin_in(plan: Mapping[str, Any]) -> Origin:
    """Return where a plan says that its options came from.

    Raises:
        ConfigError: A part of it has another type.
    """
    parts = {name: value for name, value in _mapping(plan, "origin").items() if value is not None}
    try:
        return msgspec.convert(parts, Origin, dec_hook=lambda kind, text: kind(text))
    except (msgspec.ValidationError, TypeError) as exc:
        raise ConfigError(f"plan.json: origin: {exc}") from exc


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
    began: Origin,
    file: Mapping[str, Any],
    lookup: Lookup,
) -> tuple[dict[str, str], Origin]:
    """Return the agents' variables, and where each comes from.

    Raises:
        ConfigError: Some are missing; the text names each, and what to do.
    """
    before = _known(began, plan).env_from
    anew = read_variables(given, {}, read_text)
    is_needed = "env_file" in before.values() and not anew.files
    old = read_variables({"env_file": list(map(str, began.env_files))} if is_needed else {}, {}, read_text)
    sources = {**before, **anew.sources}
    values: dict[str, Mapping[str, str | None]] = {
        "config": file.get("env") or {},
        "env_file": {**old.values, **anew.values},
        BY_OPTION: anew.values,
    }
    found = {
        name: lookup(name) if source == "environment" else values.get(source, {}).get(name)
        for name, source in sources.items()
    }
    if missing := [name for name, value in found.items() if value is None]:
        lines = "".join(f"\n  {name}: {_what_to_do(name, sources[name], began)}" for name in missing)
        raise ConfigError(f"Values of variables are not kept, and these are missing, so {run_id} cannot go on:{lines}")
    origin = replace(began, env_files=_absolute(anew.files) or began.env_files, env_from=sources)
    return {name: value for name, value in found.items() if value is not None}, origin


def _what_to_do(name: str, source: str, began: Origin) -> str:
    match source:
        case "environment":
            return "set it in the environment"
        case "config":
            return f"its value stood in {began.config}"
        case "env_file":
            return f"its value stood in {', '.join(map(str, began.env_files))}"
    return f"give it again: -e {name}=VALUE"
