"""A person's hand on a run that is going on: more money for a trial, an end for one or for all.

Both go through the run's own proxy and runner, never past them: the ledger knows the limit, and trials end in their usual order.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import pusd, usd
from agent_preflight.openrouter.http import Key
from agent_preflight.openrouter.subkeys import list_keys, set_key_limit
from agent_preflight.runs.choice import named_run
from agent_preflight.runs.control_file import CONTROL_FILE, read_control
from agent_preflight.runs.plan import KEY_HEADROOM_PUSD
from agent_preflight.runs.plan_file import planned_trials, trial_folder
from agent_preflight.runs.trial_state import Ender
from agent_preflight.sidecar.control_client import ControlClient, ControlError, ControlUnreachableError
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.money import LIMIT_USD_MAX, PUSD_PER_USD

LOOK_EVERY_S = 0.2
NO_ADMIN_KEY = (
    "A top-up needs the management key: set OR_ADMIN_KEY to it. It raises the limit of the trial's key at OpenRouter, which would "
    "else refuse what the new budget allows. Nothing was changed."
)


@dataclass(frozen=True, slots=True)
class TopUpResult:
    """What became of a top-up.

    Attributes:
        before_pusd: The limit before it.
        balance: The account with its new limit.
    """

    before_pusd: int
    balance: Balance


@dataclass(frozen=True, slots=True)
class TrialStop:
    """How a trial that was stopped has ended.

    Attributes:
        summary: Its summary.json; None if it is not written yet, or if the trial never began.
    """

    alias: str
    summary: dict[str, Any] | None

    @property
    def is_latest(self) -> bool:
        """Whether it has ended in the run that is going on: a trial that is to begin again has the summary of its last attempt."""
        ended_by = (self.summary or {}).get("preflight", {}).get("ended_by")
        return self.summary is not None and ended_by not in (Ender.INTERRUPTED.value, Ender.LOST.value)

    @property
    def never_began(self) -> bool:
        """Whether it was stopped before anything was made for it."""
        extra = (self.summary or {}).get("preflight", {})
        return extra.get("ended_by") == Ender.STOPPED.value and not extra.get("cleanup")

    @property
    def verified(self) -> bool:
        """Whether every step of its clean-up was seen to have worked."""
        steps = (self.summary or {}).get("preflight", {}).get("cleanup", {})
        return self.summary is not None and all(step == "ok" for step in steps.values())


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """What a run's plan.json says of its trials.

    Attributes:
        key_names: Each alias with the name of its latest sub-key.
        begun_again: Aliases that have had a sub-key before that one, whose spend counts for the account and not for the new key.
    """

    run_dir: Path
    key_names: dict[str, str]
    begun_again: frozenset[str] = frozenset()


def find_planned_run(run_id: str, runs_dir: Path) -> PlannedRun:
    """Return the plan of a run.

    Raises:
        ConfigError: There is no such run, or it has no plan yet.
    """
    run_dir = named_run(run_id, runs_dir)
    trials = planned_trials(run_dir)
    if not trials:
        raise ConfigError(f"The run {run_id} has no plan yet: its checks are still going on, or failed.")
    times = Counter(trial.alias for trial in trials)
    again = frozenset(alias for alias, count in times.items() if count > 1)
    return PlannedRun(run_dir, {trial.alias: trial.key_name for trial in trials}, again)


async def top_up(
    plan: PlannedRun, alias: str, more_pusd: int, admin_key: Key | None, base_url: str | None
) -> TopUpResult:
    """Raise the limit of a live trial's sub-key, which stands behind as the outer cap, and then the trial's own.

    Both are raised, or none: where the proxy does not take the new limit, the sub-key gets its old one back. Of several at the
    same time each counts: the proxy adds, and the sub-key's limit is changed by one after the other.

    Args:
        plan: The run's.
        alias: The trial.
        more_pusd: By how much.
        admin_key: Raises the sub-key's limit; None is an error.
        base_url: OpenRouter's API base, where not the usual one.

    Raises:
        ConfigError: The run has no such trial, or is not going on, or the trial has no account now, or the budget would pass
            the largest that there is. Nothing was changed.
        OperatingError: OpenRouter or the proxy does not do it; the text says what was changed, which is nothing but where an
            answer was lost.
    """
    check_alias(plan, alias)
    async with _client(plan.run_dir) as client, _in_turn(plan.run_dir):
        limit_pusd = (await _balance(client, alias)).limit_pusd + more_pusd
        if limit_pusd > LIMIT_USD_MAX * PUSD_PER_USD:
            raise ConfigError(f"No budget may be more than ${LIMIT_USD_MAX}.00; nothing was changed.")
        if admin_key is None:
            raise ConfigError(NO_ADMIN_KEY)
        alone_pusd = None if alias in plan.begun_again else limit_pusd + KEY_HEADROOM_PUSD
        raised = await asyncio.to_thread(_raise_key, admin_key, plan.key_names[alias], more_pusd, alone_pusd, base_url)
        try:
            after = await client.top_up(alias, more_pusd)
        except ControlError as exc:
            undone = await asyncio.to_thread(raised.undo)
            raise OperatingError(
                f"The budget of {alias} was not raised: {exc}. "
                + ("Nothing was changed." if undone else f"{raised.still_raised} The budget holds all the same.")
            ) from exc
        except ControlUnreachableError as exc:
            raise OperatingError(
                f"The proxy's answer was lost, so the budget of {alias} may be raised or not. Look at it with "
                f"`agent-preflight status {plan.run_dir.name}` before you add anything again."
            ) from exc
        return TopUpResult(after.limit_pusd - more_pusd, after)


@asynccontextmanager
async def _in_turn(run_dir: Path) -> AsyncIterator[None]:
    """Wait until no other process changes the limits of this run's sub-keys, and keep others from it."""
    try:
        file = (run_dir / CONTROL_FILE).open("rb")
    except FileNotFoundError as exc:
        raise ConfigError(f"The run {run_dir.name} has just ended; nothing was changed.") from exc
    with file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield


def check_alias(plan: PlannedRun, alias: str) -> None:
    """Accept the name of one of a run's trials.

    Raises:
        ConfigError: It has none of that name; says which it has.
    """
    if alias not in plan.key_names:
        trials = ", ".join(plan.key_names) or "none"
        raise ConfigError(f"The run {plan.run_dir.name} has no trial {alias!r}: its trials are {trials}.")


async def _balance(client: ControlClient, alias: str) -> Balance:
    try:
        return await client.balance(alias)
    except ControlError as exc:
        if exc.code == "unknown_account":
            raise ConfigError(f"The trial {alias} has no account yet: try again once it runs.") from exc
        raise


@dataclass(frozen=True, slots=True)
class _KeyRaise:
    """A sub-key whose limit was raised.

    Attributes:
        before_usd: Its limit before; None if it has none, which was left so.
    """

    admin_key: Key
    name: str
    hash: str
    before_usd: Decimal | None
    base_url: str | None

    def undo(self) -> bool:
        """Give it its old limit back; True only if that was seen."""
        return self.before_usd is None or set_key_limit(self.admin_key, self.hash, self.before_usd, self.base_url)

    @property
    def still_raised(self) -> str:
        """What a person must know where that failed."""
        return f"The limit of its key {self.name!r} at OpenRouter was raised, and could not be set back."


def _raise_key(admin_key: Key, name: str, more_pusd: int, alone_pusd: int | None, base_url: str | None) -> _KeyRaise:
    """Raise the limit of the sub-key of that name: to `alone_pusd`, else by `more_pusd`.

    Raises:
        OperatingError: It was not seen to be raised; says whether it may be all the same.
    """
    try:
        found = list_keys(admin_key, base_url, name=name)
    except OperatingError as exc:
        raise OperatingError(f"The trial's key at OpenRouter cannot be looked up: {exc}. Nothing was changed.") from exc
    if not found:
        raise OperatingError(f"OpenRouter lists no key {name!r}, so its limit cannot be raised. Nothing was changed.")
    raised = _KeyRaise(admin_key, name, found[0].hash, found[0].limit_usd, base_url)
    if raised.before_usd is None:
        return raised
    limit_pusd = alone_pusd if alone_pusd is not None else pusd(raised.before_usd) + more_pusd
    if set_key_limit(admin_key, raised.hash, usd(limit_pusd), base_url):
        return raised
    what = "Nothing was changed." if raised.undo() else "It may be raised all the same; the budget was not changed."
    raise OperatingError(f"OpenRouter did not take the new limit of the trial's key {name!r}. {what}")


async def stop(plan: PlannedRun, alias: str | None) -> None:
    """Freeze a live trial's account, or all of the run's, and have the runner end what they belong to.

    When this returns no call is admitted any more, and running streams have ended; see `until_over` for the rest.

    Raises:
        ConfigError: The run has no such trial, or is not going on.
        OperatingError: The proxy does not do it.
    """
    if alias is not None:
        check_alias(plan, alias)
    async with _client(plan.run_dir) as client:
        await client.stop(alias)


async def until_over(plan: PlannedRun, alias: str | None, limit_s: float) -> list[TrialStop] | None:
    """Wait until a trial, or the whole run, has ended in order; None if that takes longer than `limit_s`.

    A run is over when its control.json is gone, which is the last that it does.
    """
    chosen = list(plan.key_names) if alias is None else [alias]
    until_s = time.monotonic() + limit_s
    while True:
        gone = read_control(plan.run_dir) is None
        ended = [TrialStop(each, read_json_object(trial_folder(plan.run_dir, each), "summary.json")) for each in chosen]
        if gone or (alias is not None and ended[0].is_latest):
            return ended
        if time.monotonic() > until_s:
            return None
        await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def _client(run_dir: Path) -> AsyncIterator[ControlClient]:
    """Talk to a live run's proxy.

    Raises:
        ConfigError: The run is not going on, or its proxy does not answer.
    """
    control = read_control(run_dir)
    if control is None:
        raise ConfigError(
            f"The run {run_dir.name} is not going on, so there is nothing to change; "
            f"`agent-preflight status {run_dir.name}` shows how it ended."
        )
    client = ControlClient(control.socket)
    try:
        yield client
    except ControlUnreachableError as exc:
        raise ConfigError(
            f"The proxy of {run_dir.name} does not answer: the run is just starting, or it crashed "
            "(then `agent-preflight sweep` removes what it left)."
        ) from exc
    finally:
        await client.close()
