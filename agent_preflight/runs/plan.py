"""The plan of a run: its trials with names, budgets, arguments and policies. Pure.

Wrong arguments raise here, before a folder, a key or a container exists.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import cast

from agent_preflight.base.usd import pusd, read_usd, usd
from agent_preflight.eject import EjectPolicy, default_eject_policies
from agent_preflight.environment.network_access import NetworkAccess
from agent_preflight.options.container_options import DockerArgs, read_docker_args
from agent_preflight.options.naming import read_models
from agent_preflight.options.settings import Arguments, Budget, GateWish, RunSettings, SandboxKind, StdinWish
from agent_preflight.sandboxes.kept_output import OutputPolicy
from preflight_proxy.core.errors import ConfigError

Models = Sequence[tuple[str, str]]

KEY_LIFE = timedelta(days=7)
"""A sub-key that was not deleted expires after this long: C15 (what a sweep removes)."""
KEY_HEADROOM_PUSD = pusd("0.01")
"""The sub-key's limit is this much above the budget, so that rounding never reaches it: M20 (refusals by OpenRouter)."""


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
    """

    alias: str
    model_id: str
    budget_pusd: int
    key_name: str
    command: tuple[str, ...]
    prior: PriorAttempt | None = None
    mounts: tuple[str, ...] = ()

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
        """The sub-key's limit in dollars: what is left of the account's limit, and the headroom."""
        return usd(max(self.limit_pusd - self.spent_before_pusd, 0) + KEY_HEADROOM_PUSD)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all trials of a run have in common.

    Attributes:
        sandbox: What agents run in.
        image: Image name; unused by the process sandbox.
        network: `"sealed"`, `"bridge"` or a Docker network's name.
        env: The user's own variables for the agents.
        mounts: In docker's `host:container[:mode]` form. In those of each trial the placeholders are replaced.
        initial_prompt: Sent to each agent as one JSON line, where given.
        budget_mode: `"detailed"` for the long budget.txt; any other value for the short one.
        workspace_path: Directory in the container that gets `budget.txt`.
        timeout_s: A trial is ejected this long after its agent's start; None for never.
        docker_args: The user's own engine options.
        reach: Services and other places that agents may reach.
        memory: A container's limit in the engine's form (`"2g"`), or None.
        cpus: A container's limit in the engine's form (`"1.5"`), or None.
        gate: Which kind of gate containers have; `"auto"` takes the first that works.
        stdin: Whether the agents' standard input stays open.
        output: What is copied of the agents' output.
        settings: All options of the run.
    """

    sandbox: SandboxKind
    image: str
    network: str = "bridge"
    env: Mapping[str, str] | None = None
    mounts: tuple[str, ...] = ()
    initial_prompt: str | None = None
    budget_mode: str = "simple"
    workspace_path: str = "/workspace/output"
    timeout_s: float | None = None
    docker_args: tuple[str, ...] = ()
    reach: NetworkAccess = field(default_factory=NetworkAccess)
    memory: str | None = None
    cpus: str | None = None
    gate: GateWish = "auto"
    stdin: StdinWish = "auto"
    output: OutputPolicy = field(default_factory=OutputPolicy)
    settings: RunSettings = field(default_factory=RunSettings, repr=False)

    @property
    def closes_stdin(self) -> bool:
        """Whether an agent's input is closed at its start, after the prompt if there is one."""
        return self.stdin == "close" or (self.stdin == "auto" and self.initial_prompt is None)

    @property
    def engine_options(self) -> DockerArgs:
        """Mounts, limits and the user's options in the engine's form. Raises ConfigError for a wrong one."""
        given = [("memory", self.memory), ("cpus", self.cpus), *(("volume", mount) for mount in self.mounts)]
        named = [f"--{name}={value}" for name, value in given if value is not None]
        try:
            read_docker_args(named, self.network)
        except ConfigError as exc:
            raise ConfigError(str(exc).removeprefix("docker_args: --")) from None
        return read_docker_args([*named, *self.docker_args], self.network)


def plan_trials(
    models: Models,
    run_id: str,
    budget: Budget,
    arguments: Arguments | None,
    token: Callable[[], str],
    mounts: Sequence[str] = (),
) -> tuple[TrialPlan, ...]:
    """Return a trial for each pair of model id and alias, in that order, with the placeholders in its texts replaced.

    Args:
        models: Pairs of model id and alias.
        run_id: Part of the sub-keys' names.
        budget: Dollars for each trial, or a mapping of alias to dollars.
        arguments: The agent's arguments, for all or by alias.
        token: Makes the random part of a sub-key's name.
        mounts: In docker's form.

    Raises:
        ConfigError: There are no models, an alias is used twice or cannot be a folder's name, or a budget is no amount.
    """
    if not models:
        raise ConfigError("There is nothing to run: `models` is empty.")
    pairs = [(str(model), str(alias)) for model, alias in models]
    try:
        read_models(pairs)
    except ValueError as exc:
        raise ConfigError(f"{str(exc)[:1].upper()}{str(exc)[1:]}.") from exc
    return tuple(
        TrialPlan(
            alias=alias,
            model_id=model,
            budget_pusd=_budget_pusd(budget, alias),
            key_name=f"agent-preflight:{run_id}:{alias}:{token()}",
            command=tuple(map(TrialNames(alias, model, run_id).in_argument, _command(arguments, alias))),
            mounts=tuple(map(TrialNames(alias, model, run_id).in_mount, mounts)),
        )
        for model, alias in pairs
    )


def _budget_pusd(budget: Budget, alias: str) -> int:
    if isinstance(budget, Mapping):
        if alias not in budget:
            raise ConfigError(f"budget_usd has no amount for {alias!r}.")
        amount = budget[alias]
    else:
        amount = budget
    try:
        return pusd(read_usd(amount))
    except ValueError as exc:
        raise ConfigError(f"The budget of {alias!r} is {exc}, not {amount!r}.") from exc


def _command(arguments: Arguments | None, alias: str) -> tuple[str, ...]:
    if arguments is None:
        return ()
    command = arguments.get(alias, ()) if isinstance(arguments, Mapping) else arguments
    if isinstance(command, str):
        raise ConfigError(f"Arguments are a list of texts, not one text: {command!r}.")
    return tuple(str(argument) for argument in command)


def default_run_id(now: datetime) -> str:
    """Return an id for a run without one, from local time. It may be taken: `open_new` adds a number then."""
    return f"run-{now:%Y%m%d-%H%M%S}"


def key_expiry(now: datetime) -> str:
    """Return when a sub-key that is made now expires, in OpenRouter's format."""
    return (now.astimezone(UTC) + KEY_LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")


_PLACE = re.compile(r"\{(alias|model|run_id)\}")
_NOT_IN_A_PATH = re.compile(r"[/:]")
"""A slash would add a folder, a colon would end a mount's source."""


@dataclass(frozen=True, slots=True)
class TrialNames:
    """The values of the placeholders `{alias}`, `{model}` and `{run_id}` in one trial.

    Other texts in braces stay as they are, because arguments hold JSON and code.
    """

    alias: str
    model: str
    run_id: str

    def in_argument(self, text: str) -> str:
        """Return an argument with the placeholders replaced."""
        return _PLACE.sub(lambda match: str(getattr(self, match[1])), text)

    def in_mount(self, mount: str) -> str:
        """Return a mount in docker's form with the placeholders in its source replaced; a model's slashes and colons become `-`."""
        source, colon, rest = mount.partition(":")
        return _PLACE.sub(lambda match: _NOT_IN_A_PATH.sub("-", str(getattr(self, match[1]))), source) + colon + rest


PolicyGiven = EjectPolicy | Callable[[], EjectPolicy] | None


def policy_for_trial(given: PolicyGiven, idle_timeout_s: float) -> EjectPolicy:
    """Return a new policy for one trial.

    Args:
        given: A policy (any object with `check`), which is copied deeply; a function or class that makes one without arguments;
            None for the defaults.
        idle_timeout_s: That of the default policies.

    Raises:
        ConfigError: The policy cannot be copied, or it is neither a policy nor a factory.
    """
    if given is None:
        return default_eject_policies(idle_timeout_s)
    if isinstance(given, type) or not hasattr(given, "check"):
        if not callable(given):
            raise ConfigError(f"eject_policy must be a policy or a function that makes one, not {given!r}.")
        return given()
    try:
        return cast(EjectPolicy, copy.deepcopy(given))
    except Exception as exc:
        raise ConfigError(
            f"eject_policy cannot be copied for each trial ({type(exc).__name__}: {exc}): "
            "give a function without arguments that makes a new one."
        ) from exc
