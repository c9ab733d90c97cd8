"""Makes the request of a run from its settings, and checks that its options fit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial

from agent_preflight.base.console import say
from agent_preflight.checks.inputs import Inputs, as_list, unique
from agent_preflight.checks.suite import check_all
from agent_preflight.docker.mounts import mount_of_output
from agent_preflight.models import RunResult
from agent_preflight.openrouter.http import check_way
from agent_preflight.options.settings import RunSettings
from agent_preflight.runs.plan import mount_with_names, network_access, output_policy
from agent_preflight.runs.request import RunRequest
from preflight_proxy.core.errors import ConfigError


def build_request(
    settings: RunSettings, run_trial: Callable[..., RunResult], *, single: bool = False, makes_sources: bool = True
) -> RunRequest:
    """Return the request of a run.

    Args:
        settings: The run's options. They have the management key, and the inference key unless checks are skipped.
        run_trial: `run_container`, for the check that runs a trial.
        single: The run is the one trial of `run_container`.
        makes_sources: True makes the missing folders of writable mounts, as old scripts expect.

    Raises:
        ConfigError: Options contradict each other.
        TypeError: `preflight_kwargs` sets what the run itself sets, or has an argument that the checks do not have.
    """
    check_way(settings.openrouter_base_url)
    _check(settings)
    return RunRequest(
        settings=settings,
        single=single,
        makes_sources=makes_sources,
        preflight=None if settings.skip_preflight else _checks(settings, run_trial),
    )


def _check(settings: RunSettings) -> None:
    """Accept settings whose options fit together.

    Raises:
        ConfigError: Options contradict each other, or the sandbox needs one that is missing.
    """
    if settings.resume and not settings.run_id:
        raise ConfigError("resume=True needs run_id, the name of the run to continue.")
    if settings.retry_failed and not settings.resume:
        raise ConfigError("retry_failed=True runs the failed trials of an earlier run again, so it needs resume=True.")
    if settings.sandbox == "docker" and not settings.image_name:
        raise ConfigError(
            "The agents' image is missing: give --image IMAGE, `image` in preflight.toml, or image_name from Python."
        )
    if settings.sandbox == "process" and not settings.command:
        raise ConfigError(
            "The agents' program is missing: put it after `--`, or give `command` in preflight.toml or from Python."
        )
    network_access(settings)
    if settings.sandbox == "docker":
        settings.engine_options  # noqa: B018 - a wrong option is an error before anything is made
    _check_score(settings)


def _check_score(settings: RunSettings) -> None:
    """Accept settings by which trials can be scored.

    Raises:
        ConfigError: Options contradict each other, or a score would not find what an agent wrote.
    """
    if settings.score_image and not isinstance(settings.score, str):
        given = "is a function, which runs here" if settings.score else "is missing"
        raise ConfigError(
            f"score_image is where the command of score runs, and score {given}: give a command, or leave it off."
        )
    if settings.score_image and settings.sandbox == "process":
        raise ConfigError("score_image needs containers, and with sandbox process there are none: leave it off.")
    if settings.score is None or settings.sandbox == "process":
        return
    if not settings.keep_output:
        raise ConfigError("score reads what agents wrote, and keep_output is off: leave one of them off.")
    mount, other = (_mount_of_output(settings, alias) for alias in ("a", "b"))
    if mount is not None and (mount == other or mount[0] != "bind"):
        path = output_policy(settings).path
        raise ConfigError(
            f"score cannot tell what each agent wrote to {path}, because it is on a mount that all agents share, or that is no "
            "folder of this machine: put {alias} into the mount's source, or leave the mount off; then it is copied."
        )


def _mount_of_output(settings: RunSettings, alias: str) -> tuple[str, str, str] | None:
    """Return the mount on which the output of a trial of this name would lie."""
    names = {"alias": alias, "model": "model", "run_id": "run"}
    named = replace(settings, mounts=tuple(mount_with_names(mount, names) for mount in settings.mounts))
    return mount_of_output(output_policy(named), named.engine_options.agent)


def _checks(settings: RunSettings, run_trial: Callable[..., RunResult]) -> Callable[..., object]:
    """Return the call of the checks, with arguments of the run and of the script.

    Raises:
        TypeError: The script sets what the run itself sets, or there is no such argument.
    """
    assert settings.admin_key is not None, "with_keys"
    assert settings.or_key is not None, "with_keys"
    own = dict(settings.preflight_kwargs or {})
    budgets = _budgets(settings)
    amounts = [amount for _, amount in budgets]
    ids = [*(model for model, _ in settings.pairs), *as_list(own.pop("models", None))]
    raise_on_failure, found = own.pop("raise_on_failure", True), own.pop("found", ())
    of_run = {
        "admin_key": settings.admin_key.reveal(),
        "or_key": settings.or_key.reveal(),
        "budget_per_model": float(sum(amounts) / max(len(amounts), 1)),  # the mean if budgets differ
        "docker_image": settings.image_name or None if settings.sandbox == "docker" else None,
        "run_trial": run_trial,
    }
    if twice := sorted(own.keys() & of_run.keys()):
        raise TypeError(f"preflight_kwargs sets {', '.join(twice)}, which the run itself sets")
    usual = {
        "base_url": settings.openrouter_base_url,
        "budgets": {model: float(min(amount for name, amount in budgets if name == model)) for model, _ in budgets},
        # What one budget for each model does not say: budgets differ, or a model has several trials.
        "budget_sum": sum(amounts) if len(set(amounts)) > 1 or len(amounts) > len(dict(budgets)) else None,
        "expect_tokens": settings.expect_tokens,
        "byok": settings.byok,
        "log_fn": settings.log_fn or say,
    }
    inputs = Inputs(models=unique(ids), **{**usual, **own, **of_run})
    return partial(check_all, inputs, found=found, raise_on_failure=raise_on_failure)


def _budgets(settings: RunSettings) -> list[tuple[str, Decimal]]:
    """Return the model and the dollars of each trial that has a budget."""
    budget = settings.budget_usd
    if not isinstance(budget, Mapping):
        return [(model, budget) for model, _ in settings.pairs]
    return [(model, budget[alias]) for model, alias in settings.pairs if alias in budget]
