"""What a run is going to do, decided before anything is done: names, budgets, what each trial is told. Pure.

Whatever is wrong with the arguments shows here, before a folder, a key or a container exists.
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
"""A sub-key that nothing deleted ends by itself after this long (C15)."""
KEY_HEADROOM_PUSD = pusd("0.01")
"""The sub-key's own limit stands this much above the budget, so that it never fires for rounding (M20)."""


@dataclass(frozen=True, slots=True)
class PriorAttempt:
    """How the account of a trial stood that is begun again.

    Attributes:
        posted_pusd: What it had spent; that stays spent.
        limit_pusd: Its limit, which a person may have raised above the budget.
    """

    posted_pusd: int
    limit_pusd: int


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """One agent's attempt.

    Attributes:
        alias: The trial's name, also that of its folder and its account.
        model_id: The model it is run for.
        budget_pusd: What it may spend.
        key_name: Name of its sub-key, unique: an orphan is found by it.
        command: Arguments after the image; the whole command line for the process sandbox.
        before: How its account stood, if it is begun again; None for a trial that is new.
        mounts: In docker's form.
    """

    alias: str
    model_id: str
    budget_pusd: int
    key_name: str
    command: tuple[str, ...]
    before: PriorAttempt | None = None
    mounts: tuple[str, ...] = ()

    @property
    def limit_pusd(self) -> int:
        """The account's limit: the budget, or what a person had raised it to before."""
        return self.budget_pusd if self.before is None else max(self.budget_pusd, self.before.limit_pusd)

    @property
    def spent_before_pusd(self) -> int:
        """What earlier attempts have spent, with keys of their own."""
        return 0 if self.before is None else self.before.posted_pusd

    @property
    def key_limit_usd(self) -> Decimal:
        """The sub-key's limit in dollars: what is left of the account's, and the headroom."""
        return usd(max(self.limit_pusd - self.spent_before_pusd, 0) + KEY_HEADROOM_PUSD)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all trials of a run have in common.

    Attributes:
        sandbox: What agents run in.
        image: Image name; unused by the process sandbox.
        network: `"sealed"`, `"bridge"` or a Docker network's name.
        env: The user's own variables for the agents.
        mounts: In docker's `host:container[:mode]` form; the trials' own have their names in them.
        initial_prompt: Sent to each agent as one JSON line, where given.
        budget_mode: `"detailed"` for the long budget.txt; anything else is the simple one.
        workspace_path: Directory in the container that gets `budget.txt`.
        timeout_s: A trial is ejected this long after its agent's start; None for never.
        docker_args: The user's own engine options.
        reach: Services and places that agents may reach besides.
        memory: A container's limit in the engine's form (`"2g"`), or None.
        cpus: A container's limit in the engine's form (`"1.5"`), or None.
        gate: Which kind of gate containers have; `"auto"` is found by trying.
        stdin: What becomes of the agents' standard input.
        output: What is kept of what agents write.
        settings: All that the run was told.
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
        """Whether an agent's input ends at its start, after the prompt if there is one."""
        return self.stdin == "close" or (self.stdin == "auto" and self.initial_prompt is None)

    @property
    def engine_options(self) -> DockerArgs:
        """Mounts, limits and the user's own options as the engine takes them; raises ConfigError for a wrong one."""
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
    """Return a trial for each pair of model id and alias, in that order, with its names in its arguments and mounts.

    Args:
        models: Pairs of model id and alias.
        run_id: Part of the sub-keys' names.
        budget: Dollars for each trial, or a mapping of alias to dollars.
        arguments: The agent's arguments, for all or by alias.
        token: Makes the random part of a sub-key's name.
        mounts: In docker's form.

    Raises:
        ConfigError: There are no models, an alias cannot be a folder's name or is there twice, or a budget is no amount.
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
    found = arguments.get(alias, ()) if isinstance(arguments, Mapping) else arguments
    if isinstance(found, str):
        raise ConfigError(f"Arguments are a list of texts, not one text: {found!r}.")
    return tuple(str(argument) for argument in found)


def default_run_id(now: datetime) -> str:
    """Return the id of a run that is given none, from local time; whoever makes its folder settles collisions."""
    return f"run-{now:%Y%m%d-%H%M%S}"


def key_expiry(now: datetime) -> str:
    """Return when a sub-key made now ends by itself, as OpenRouter takes it."""
    return (now.astimezone(UTC) + KEY_LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")


_PLACE = re.compile(r"\{(alias|model|run_id)\}")
_NOT_IN_A_PATH = re.compile(r"[/:]")
"""A slash would make a folder more, a colon would end a mount's source."""


@dataclass(frozen=True, slots=True)
class TrialNames:
    """What the three stand for in one trial."""

    alias: str
    model: str
    run_id: str

    def in_argument(self, text: str) -> str:
        """Return an argument with each of them replaced."""
        return _PLACE.sub(lambda found: str(getattr(self, found[1])), text)

    def in_mount(self, mount: str) -> str:
        """Return a mount in docker's form with each of them replaced in its source; slashes and colons of a model are `-` there."""
        source, colon, rest = mount.partition(":")
        return _PLACE.sub(lambda found: _NOT_IN_A_PATH.sub("-", str(getattr(self, found[1]))), source) + colon + rest


PolicyGiven = EjectPolicy | Callable[[], EjectPolicy] | None


def policy_for_trial(given: PolicyGiven, idle_timeout_s: float) -> EjectPolicy:
    """Return a policy that no other trial shares.

    Args:
        given: A policy (anything with its `check`), which is copied deeply; a factory without arguments (a class too);
            None for the defaults.
        idle_timeout_s: For the defaults.

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
