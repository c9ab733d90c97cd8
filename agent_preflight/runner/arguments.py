"""From the arguments of the public functions to a `RunRequest`: keys, files, contradictions."""

from __future__ import annotations

import inspect
import os.path
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from agent_preflight.base.config import Environment, variable
from agent_preflight.base.console import say
from agent_preflight.base.usd import pusd, usd
from agent_preflight.environment.network_access import read_network_access
from agent_preflight.openrouter.http import check_way
from agent_preflight.options.settings import Arguments, RunSettings, read_settings
from agent_preflight.options.sources import with_files, with_keys
from agent_preflight.options.text_file import read_text
from agent_preflight.runs.plan import Surroundings
from agent_preflight.runs.request import RunRequest
from agent_preflight.sandboxes.kept_output import DEPTH_MAX, KEEP_OFF, OutputPolicy
from preflight_proxy.core.errors import ConfigError


def with_defaults(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments with the defaults of those that were not given.

    Raises:
        TypeError: One is unknown, or one that is needed is missing.
    """
    bound = inspect.signature(function).bind(**options)
    bound.apply_defaults()
    return dict(bound.arguments)


def request_of(given: Mapping[str, Any], *, single: bool = False, makes_sources: bool = True) -> RunRequest:
    """Return the request that the keywords of `run_multi` make; None, and what is not named, is the default.

    Args:
        given: By name.
        single: The run is the one trial of `run_container`.
        makes_sources: Folders are made for mounts that agents may write to and that are missing, as old scripts expect.

    Raises:
        ConfigError: A value is none, a key or a file is missing, or options contradict each other.
        TypeError: `preflight_kwargs` sets what the run itself sets, or there is no such option.
    """
    settings = read_settings(with_files(with_keys(given, Environment.read()), variable, read_text))
    check_way(settings.openrouter_base_url)
    assert settings.admin_key is not None, "with_keys"
    return RunRequest(
        models=settings.pairs,
        admin_key=settings.admin_key,
        budget=settings.budget_usd,
        around=_surroundings(settings),
        runs_dir=Path(settings.runs_dir),
        run_id=_run_id(settings),
        resume=settings.resume,
        retry_failed=settings.retry_failed,
        single=single,
        arguments=_command(settings),
        policy=settings.eject_policy,
        idle_timeout_s=settings.idle_timeout_s,
        on_event=settings.on_event,
        on_complete=settings.on_complete,
        workers=settings.max_workers if settings.parallel else 1,
        base_url=settings.openrouter_base_url,
        byok=settings.byok,
        makes_sources=makes_sources,
        preflight=None if settings.skip_preflight else _preflight(settings),
        say=settings.log_fn or say,
    )


def texts(value: str | Sequence[str] | None) -> list[str]:
    """Return one text or several as a list."""
    return [value] if isinstance(value, str) else list(value or ())


def absolute_mounts(mounts: Iterable[str]) -> tuple[str, ...]:
    """Return mounts whose relative sources begin at the root, so that they mean the same in any working directory."""
    parted = (mount.partition(":") for mount in mounts)
    return tuple(f"{_absolute(source)}{colon}{target}" for source, colon, target in parted)


def _absolute(source: str) -> str:
    return os.path.normpath(Path.cwd() / source) if source.startswith(".") else source


def _run_id(settings: RunSettings) -> str | None:
    if settings.resume and not settings.run_id:
        raise ConfigError("resume=True needs the run_id of the run that is to go on.")
    if settings.retry_failed and not settings.resume:
        raise ConfigError("retry_failed=True runs failed trials of an earlier run again: it needs resume=True.")
    return settings.run_id


def _surroundings(settings: RunSettings) -> Surroundings:
    if settings.sandbox == "docker" and not settings.image_name:
        raise ConfigError(
            "The agents' image is missing: give --image IMAGE, `image` in preflight.toml, or image_name from Python."
        )
    if settings.sandbox == "process" and not settings.command:
        raise ConfigError(
            "The agents' program is missing: put it after `--`, or give `command` in preflight.toml or from Python."
        )
    network = settings.network if settings.sandbox == "docker" else "host"
    around = Surroundings(
        sandbox=settings.sandbox,
        image=settings.image_name,
        network=network,
        env=settings.env,
        mounts=absolute_mounts(settings.mounts),
        initial_prompt=settings.initial_prompt,
        budget_mode=settings.budget_mode,
        workspace_path=settings.workspace_path,
        timeout_s=settings.timeout_s,
        docker_args=settings.docker_args,
        reach=read_network_access(settings.services, settings.egress, network),
        memory=settings.memory,
        cpus=settings.cpus,
        gate=settings.gate,
        stdin=settings.stdin,
        output=_output(settings),
        settings=settings,
    )
    if settings.sandbox == "docker":
        around.engine_options  # noqa: B018 - a wrong one is told now, before anything is made
    return around


def _output(settings: RunSettings) -> OutputPolicy:
    return OutputPolicy(
        path=posixpath.normpath(settings.output_path or settings.workspace_path),
        timeout_s=settings.output_timeout_s,
        bytes_max=settings.output_max_bytes,
        files_max=settings.output_max_files,
        depth_max=min(settings.output_max_depth, DEPTH_MAX),
        unkept="" if settings.keep_output else KEEP_OFF,
    )


def _command(settings: RunSettings) -> Arguments | None:
    """Return what each agent is started with: for a process its command line, then the arguments."""
    command, arguments = settings.command, settings.container_args
    if settings.sandbox == "docker" or not arguments:
        return arguments if settings.sandbox == "docker" else command
    return {alias: [*_of(command or (), alias), *_of(arguments, alias)] for _, alias in settings.pairs}


def _of(arguments: Arguments, alias: str) -> Sequence[str]:
    return arguments.get(alias, ()) if isinstance(arguments, Mapping) else arguments


def _preflight(settings: RunSettings) -> Callable[..., object]:
    """Return the call of the checks, with what the run knows and what the script adds."""
    from agent_preflight.preflight import preflight  # the module, which the package's function of that name hides

    assert settings.admin_key is not None, "with_keys"
    assert settings.or_key is not None, "with_keys"
    kwargs = dict(settings.preflight_kwargs or {})
    ids = [*(model for model, _ in settings.pairs), *texts(kwargs.pop("models", None))]
    return partial(
        preflight,
        admin_key=settings.admin_key.reveal(),
        or_key=settings.or_key.reveal(),
        models=list(dict.fromkeys(ids)),
        budget_per_model=_budget_per_model(settings),
        docker_image=settings.image_name or None if settings.sandbox == "docker" else None,
        **{**_of_the_run(settings), **_without_twice(kwargs)},
    )


def _of_the_run(settings: RunSettings) -> dict[str, Any]:
    """Return what the run knows for the checks, unless the script says otherwise."""
    return {
        "base_url": settings.openrouter_base_url,
        "budgets": _budgets(settings),
        "budget_sum": _budget_sum(settings),
        "expect_tokens": settings.expect_tokens,
        "byok": settings.byok,
        "log_fn": settings.log_fn or say,
    }


def _budgets(settings: RunSettings) -> dict[str, float]:
    """Return the smallest budget of each model's trials, where budgets differ by alias."""
    budgets, found = settings.budget_usd, dict[str, float]()
    if isinstance(budgets, Mapping):
        for model, alias in settings.pairs:
            if alias in budgets:
                found[model] = min(found.get(model, float("inf")), float(budgets[alias]))
    return found


def _without_twice(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the script's own arguments of the checks.

    Raises:
        TypeError: One of them is set by the run.
    """
    if twice := sorted(kwargs.keys() & {"admin_key", "or_key", "budget_per_model", "docker_image"}):
        raise TypeError(f"preflight_kwargs sets {', '.join(twice)}, which the run itself sets")
    return kwargs


def _budget_per_model(settings: RunSettings) -> float:
    """Return dollars per model: the mean where trials differ. A script's own checks are told it."""
    budget = settings.budget_usd
    if not isinstance(budget, Mapping):
        return float(budget)
    amounts = _amounts_pusd(settings)
    return float(usd(sum(amounts))) / max(len(amounts), 1)


def _budget_sum(settings: RunSettings) -> Decimal | None:
    """Return the dollars of all trials together, where their budgets differ."""
    amounts = _amounts_pusd(settings)
    return usd(sum(amounts)) if len(set(amounts)) > 1 else None


def _amounts_pusd(settings: RunSettings) -> list[int]:
    """Return the budgets of the trials that are given by alias."""
    budget = settings.budget_usd
    return (
        [pusd(budget[alias]) for _, alias in settings.pairs if alias in budget] if isinstance(budget, Mapping) else []
    )
