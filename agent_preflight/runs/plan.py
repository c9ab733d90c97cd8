"""The plan of a run: its trials with names, budgets, arguments and policies. Pure.

Wrong arguments raise here, before a folder, a key or a container exists.
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import cast

from agent_preflight.base.usd import pusd, usd
from agent_preflight.eject import EjectPolicy, default_eject_policies
from agent_preflight.environment.network_access import NetworkAccess, read_network_access
from agent_preflight.options.settings import RunSettings
from agent_preflight.runs.plan_file import KEY_HEADROOM_PUSD
from agent_preflight.sandboxes.kept_output import KEEP_OFF, OUTPUT_DEPTH_MAX, OutputPolicy
from preflight_proxy.core.errors import ConfigError

KEY_LIFE = timedelta(days=7)
"""A sub-key that was not deleted expires after this long: C15 (what a sweep removes)."""


@dataclass(frozen=True, slots=True)
class PriorAttempt:
    """The account of a trial that begins again, before it does.

    Attributes:
        posted_pusd: What its earlier attempts have spent.
        limit_pusd: Its limit, which a top-up may have raised above the budget.
    """

    posted_pusd: int
    limit_pusd: int


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """One agent's attempt.

    Attributes:
        alias: The trial's name, also that of its folder and its account.
        model_id: Its model.
        budget_pusd: What it may spend.
        key_name: Name of its sub-key. It is unique, so that a sweep finds a leftover key by it.
        command: Arguments after the image; the whole command line for the process sandbox.
        prior: Its account, if it begins again; None for a new trial.
        mounts: In docker's form.
        key_room_pusd: How much the limit of its sub-key is above what it may spend with that key.
        base: The alias of its model; its own if the model is not repeated.
        repeat: Which repeat of the model it is, from 1; 0 if the model is not repeated.
    """

    alias: str
    model_id: str
    budget_pusd: int
    key_name: str
    command: tuple[str, ...]
    prior: PriorAttempt | None = None
    mounts: tuple[str, ...] = ()
    key_room_pusd: int = KEY_HEADROOM_PUSD
    base: str = ""
    repeat: int = 0

    @property
    def limit_pusd(self) -> int:
        """The account's limit: the budget, or the higher limit that a top-up had given it."""
        return self.budget_pusd if self.prior is None else max(self.budget_pusd, self.prior.limit_pusd)

    @property
    def spent_before_pusd(self) -> int:
        """What earlier attempts have spent, with other keys."""
        return 0 if self.prior is None else self.prior.posted_pusd

    @property
    def key_limit_usd(self) -> Decimal:
        """The sub-key's limit in dollars: what is left of the account's limit, and the room above it."""
        return usd(max(self.limit_pusd - self.spent_before_pusd, 0) + self.key_room_pusd)


def network_access(settings: RunSettings) -> NetworkAccess:
    """Return the services and places that a run's agents may reach besides the proxy. Raises as `read_network_access`."""
    return read_network_access(settings.services, settings.egress, settings.agents_network)


def output_policy(settings: RunSettings) -> OutputPolicy:
    """Return what is kept of the files that a run's agents write."""
    return OutputPolicy(
        path=posixpath.normpath(settings.output_path or settings.workspace_path),
        timeout_s=settings.output_timeout_s,
        bytes_max=settings.output_max_bytes,
        files_max=settings.output_max_files,
        depth_max=min(settings.output_max_depth, OUTPUT_DEPTH_MAX),
        unkept="" if settings.keep_output else KEEP_OFF,
    )


def plan_trials(settings: RunSettings, run_id: str, token: Callable[[], str]) -> tuple[TrialPlan, ...]:
    """Return a trial for each agent of a run, in that order, with its names in its arguments and mounts.

    Args:
        settings: The run's.
        run_id: Part of the sub-keys' names.
        token: Makes the random part of a sub-key's name.

    Raises:
        ConfigError: There are no models, or one has no budget.
    """
    if not settings.models:
        raise ConfigError("There is nothing to run: `models` is empty.")
    return tuple(
        TrialPlan(
            alias=alias,
            model_id=model,
            budget_pusd=_budget_pusd(settings.budget_usd, alias),
            key_name=f"agent-preflight:{run_id}:{alias}:{token()}",
            command=tuple(with_names(text, names) for text in settings.command_of(alias)),
            mounts=tuple(mount_with_names(mount, names) for mount in settings.mounts),
            base=agent.base or alias,
            repeat=agent.repeat,
        )
        for agent, (model, alias) in zip(settings.models, settings.pairs, strict=True)
        for names in ({"alias": alias, "model": model, "run_id": run_id},)
    )


def _budget_pusd(budget_usd: Decimal | Mapping[str, Decimal], alias: str) -> int:
    if not isinstance(budget_usd, Mapping):
        return pusd(budget_usd)
    if alias not in budget_usd:
        raise ConfigError(f"budget_usd has no amount for {alias!r}.")
    return pusd(budget_usd[alias])


def default_run_id(now: datetime) -> str:
    """Return an id for a run without one, from local time. It may be taken: `open_new` adds a number then."""
    return f"run-{now:%Y%m%d-%H%M%S}"


def key_expiry(now: datetime) -> str:
    """Return when a sub-key that is made now expires, in OpenRouter's format."""
    return (now.astimezone(UTC) + KEY_LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")


_PLACE = re.compile(r"\{(alias|model|run_id)\}")
_NOT_IN_A_PATH = re.compile(r"[/:]")
"""A slash would add a folder, a colon would end a mount's source."""


def with_names(text: str, names: Mapping[str, str]) -> str:
    """Return an argument with the placeholders `{alias}`, `{model}` and `{run_id}` replaced by a trial's names.

    Other texts in braces stay as they are, because arguments hold JSON and code.
    """
    return _PLACE.sub(lambda match: names[match[1]], text)


def mount_with_names(mount: str, names: Mapping[str, str]) -> str:
    """Return a mount in docker's form with the placeholders in its source replaced; a model's slashes and colons become `-`."""
    source, colon, rest = mount.partition(":")
    return with_names(source, {key: _NOT_IN_A_PATH.sub("-", name) for key, name in names.items()}) + colon + rest


PolicyGiven = EjectPolicy | Callable[[], EjectPolicy] | None


def policy_for_trial(policy: PolicyGiven, idle_timeout_s: float) -> EjectPolicy:
    """Return a new policy for one trial.

    Args:
        policy: A policy (any object with `check`), which is copied deeply; a function or class that makes one without arguments;
            None for the defaults.
        idle_timeout_s: That of the default policies.

    Raises:
        ConfigError: The policy cannot be copied, or it is neither a policy nor a factory.
    """
    if policy is None:
        return default_eject_policies(idle_timeout_s)
    if isinstance(policy, type) or not hasattr(policy, "check"):
        if not callable(policy):
            raise ConfigError(f"eject_policy must be a policy or a function that makes one, not {policy!r}.")
        return policy()
    try:
        return cast(EjectPolicy, copy.deepcopy(policy))
    except Exception as exc:
        raise ConfigError(
            f"eject_policy cannot be copied for each trial ({type(exc).__name__}: {exc}): "
            "give a function without arguments that makes a new one."
        ) from exc
