"""From the arguments of the public functions to a `RunRequest`: keys, files, contradictions."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

from agent_preflight.base.console import say
from agent_preflight.base.usd import pusd, usd
from agent_preflight.checks.inputs import Inputs, unique
from agent_preflight.checks.suite import check_all
from agent_preflight.models import RunResult
from agent_preflight.openrouter.http import check_way
from agent_preflight.options.settings import RunSettings
from agent_preflight.runs.plan import network_access
from agent_preflight.runs.request import RunRequest
from preflight_proxy.core.errors import ConfigError


def build_request(
    settings: RunSettings, run_trial: Callable[..., RunResult], *, single: bool = False, makes_sources: bool = True
) -> RunRequest:
    """Return the request that the settings of a run make.

    Args:
        settings: With the management key, and with the inference key unless the checks are left out.
        run_trial: `run_container`, for the check that runs a trial.
        single: The run is the one trial of `run_container`.
        makes_sources: Folders are made for mounts that agents may write to and that are missing, as old scripts expect.

    Raises:
        ConfigError: Options contradict each other.
        TypeError: `preflight_kwargs` sets what the run itself sets, or has an argument that the checks do not have.
    """
    check_way(settings.openrouter_base_url)
    settings = _checked(settings)
    return RunRequest(
        settings=settings,
        single=single,
        makes_sources=makes_sources,
        preflight=None if settings.skip_preflight else _checks(settings, run_trial),
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


def _checked(settings: RunSettings) -> RunSettings:
    """Return the settings with absolute mounts.

    Raises:
        ConfigError: Options contradict each other, or one is missing that the sandbox needs.
    """
    if settings.resume and not settings.run_id:
        raise ConfigError("resume=True needs the run_id of the run that is to go on.")
    if settings.retry_failed and not settings.resume:
        raise ConfigError("retry_failed=True runs failed trials of an earlier run again: it needs resume=True.")
    if settings.sandbox == "docker" and not settings.image_name:
        raise ConfigError(
            "The agents' image is missing: give --image IMAGE, `image` in preflight.toml, or image_name from Python."
        )
    if settings.sandbox == "process" and not settings.command:
        raise ConfigError(
            "The agents' program is missing: put it after `--`, or give `command` in preflight.toml or from Python."
        )
    checked = replace(settings, mounts=absolute_mounts(settings.mounts))
    network_access(checked)
    if settings.sandbox == "docker":
        checked.engine_options  # noqa: B018 - a wrong option is an error before anything is made
    return checked


def _checks(settings: RunSettings, run_trial: Callable[..., RunResult]) -> Callable[..., object]:
    """Return the call of the checks, with what the run knows and what the script adds.

    Raises:
        TypeError: The script sets what the run itself sets, or there is no such argument.
    """
    assert settings.admin_key is not None, "with_keys"
    assert settings.or_key is not None, "with_keys"
    own = dict(settings.preflight_kwargs or {})
    ids = [*(model for model, _ in settings.pairs), *texts(own.pop("models", None))]
    raise_on_failure, found = own.pop("raise_on_failure", True), own.pop("found", ())
    of_run = {
        "admin_key": settings.admin_key.reveal(),
        "or_key": settings.or_key.reveal(),
        "budget_per_model": _budget_per_model(settings),
        "docker_image": settings.image_name or None if settings.sandbox == "docker" else None,
        "run_trial": run_trial,
    }
    if twice := sorted(own.keys() & of_run.keys()):
        raise TypeError(f"preflight_kwargs sets {', '.join(twice)}, which the run itself sets")
    usual = {
        "base_url": settings.openrouter_base_url,
        "budgets": _budgets(settings),
        "budget_sum": _budget_sum(settings),
        "expect_tokens": settings.expect_tokens,
        "byok": settings.byok,
        "log_fn": settings.log_fn or say,
    }
    inputs = Inputs(models=unique(ids), **{**usual, **own, **of_run})
    return partial(check_all, inputs, found=found, raise_on_failure=raise_on_failure)


def _budgets(settings: RunSettings) -> dict[str, float]:
    """Return the smallest budget of each model's trials, where budgets differ by alias."""
    budgets, found = settings.budget_usd, dict[str, float]()
    if isinstance(budgets, Mapping):
        for model, alias in settings.pairs:
            if alias in budgets:
                found[model] = min(found.get(model, float("inf")), float(budgets[alias]))
    return found


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
