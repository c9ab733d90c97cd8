"""Changes a live run: `top-up` gives a trial more money, `stop` ends one trial or all.

Both go through the run's own proxy and runner. So the ledger has the new limit, and trials end in their usual order.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import pusd, usd
from agent_preflight.openrouter.http import Key
from agent_preflight.openrouter.subkeys import KeyInfo, list_keys, set_key_limit
from agent_preflight.runs.choice import named_run
from agent_preflight.runs.folder import CONTROL_FILE, read_control
from agent_preflight.runs.plan_file import planned_trials, trial_folder
from agent_preflight.runs.trial_state import Ender
from agent_preflight.sidecar.control_client import ControlClient, ControlError, ControlUnreachableError
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.money import LIMIT_USD_MAX, PUSD_PER_USD

ENDED_LOOK_EVERY_S = 0.2
NO_ADMIN_KEY = (
    "A top-up needs the management key: set OR_ADMIN_KEY to it. It raises the limit of the trial's key at OpenRouter, which would "
    "else refuse what the new budget allows. Nothing was changed."
)


class TrialStop(msgspec.Struct, frozen=True):
    """The end of a trial that was to be stopped.

    Attributes:
        summary: Its summary.json; None if it is not written yet, or if the trial never began.
    """

    alias: str
    summary: dict[str, Any] | None

    @property
    def is_latest(self) -> bool:
        """Whether the summary is of this attempt. A trial that begins again has that of its last attempt until it ends."""
        ended_by = (self.summary or {}).get("preflight", {}).get("ended_by")
        return self.summary is not None and ended_by not in (Ender.INTERRUPTED.value, Ender.LOST.value)

    @property
    def never_began(self) -> bool:
        """Whether it was stopped before anything was made for it."""
        extra = (self.summary or {}).get("preflight", {})
        return extra.get("ended_by") == Ender.STOPPED.value and not extra.get("cleanup")

    @property
    def verified(self) -> bool:
        """Whether every step of its clean-up was verified."""
        steps = (self.summary or {}).get("preflight", {}).get("cleanup", {})
        return self.summary is not None and all(step == "ok" for step in steps.values())

    def to_json(self) -> dict[str, Any]:
        """Return it for machines. What is not known yet is None, as all is of a trial that has not begun."""
        extra = (self.summary or {}).get("preflight", {})
        names = ("status", "ended_by", "posted_usd")
        verified = None if self.summary is None else self.verified
        return {"alias": self.alias, **{name: extra.get(name) for name in names}, "verified": verified}


class PlannedRun(msgspec.Struct, frozen=True):
    """What a run's plan.json says of its trials.

    Attributes:
        key_names: Each alias with the name of its latest sub-key.
        key_rooms_pusd: Each alias with what the limit of that key is above the trial's own limit.
        begun_again: Aliases that had a sub-key before. Its spend counts for the account, but not for the new key.
    """

    run_dir: Path
    key_names: dict[str, str]
    key_rooms_pusd: dict[str, int]
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
    counts = Counter(trial.alias for trial in trials)
    begun_again = frozenset(alias for alias, count in counts.items() if count > 1)
    key_names = {trial.alias: trial.key_name for trial in trials}
    return PlannedRun(run_dir, key_names, {trial.alias: trial.key_room_pusd for trial in trials}, begun_again)


async def top_up(plan: PlannedRun, alias: str, more_pusd: int, admin_key: Key | None, base_url: str | None) -> Balance:
    """Raise a live trial's limit, after that of its sub-key, which OpenRouter enforces. Returns the account afterwards.

    Both are raised, or none: if the proxy refuses the new limit, the sub-key gets its old one back. Several top-ups at the same
    time add up: the proxy adds, and the sub-key's limit is changed by one process after the other.

    Args:
        plan: The run's.
        alias: The trial.
        more_pusd: The increase.
        admin_key: The management key, which raises the sub-key's limit. None is an error.
        base_url: OpenRouter's API base, where not the usual one.

    Raises:
        ConfigError: The run has no such trial, or is not live, or the trial has no account yet, or the budget would be larger
            than the largest limit. Nothing was changed.
        OperatingError: OpenRouter or the proxy refused. The text says what was changed: nothing, unless an answer was lost.
    """
    check_alias(plan, alias)
    async with _client(plan.run_dir) as client, _in_turn(plan.run_dir):
        limit_pusd = (await _balance(client, alias)).limit_pusd + more_pusd
        if limit_pusd > LIMIT_USD_MAX * PUSD_PER_USD:
            raise ConfigError(f"No budget may be more than ${LIMIT_USD_MAX}.00; nothing was changed.")
        if admin_key is None:
            raise ConfigError(NO_ADMIN_KEY)
        alone_pusd = None if alias in plan.begun_again else limit_pusd + plan.key_rooms_pusd[alias]
        key = await asyncio.to_thread(_raise_key, admin_key, plan.key_names[alias], more_pusd, alone_pusd, base_url)
        try:
            return await client.top_up(alias, more_pusd)
        except ControlError as exc:
            is_undone = await asyncio.to_thread(_set_back, admin_key, key, base_url)
            change = (
                "Nothing was changed."
                if is_undone
                else f"The limit of its key {key.name!r} at OpenRouter was raised, and could not be set back. The budget holds."
            )
            raise OperatingError(f"The budget of {alias} was not raised: {exc}. {change}") from exc
        except ControlUnreachableError as exc:
            raise OperatingError(
                f"The proxy's answer was lost, so the budget of {alias} may be raised or not. Look at it with "
                f"`agent-preflight status {plan.run_dir.name}` before you add anything again."
            ) from exc


@asynccontextmanager
async def _in_turn(run_dir: Path) -> AsyncIterator[None]:
    """Hold the lock for changes of this run's sub-key limits."""
    try:
        file = (run_dir / CONTROL_FILE).open("rb")
    except FileNotFoundError as exc:
        raise ConfigError(f"The run {run_dir.name} has just ended; nothing was changed.") from exc
    with file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield


def check_alias(plan: PlannedRun, alias: str) -> None:
    """Check that a run has a trial of this name.

    Raises:
        ConfigError: It has not; the text names those that it has.
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


def _raise_key(admin_key: Key, name: str, more_pusd: int, alone_pusd: int | None, base_url: str | None) -> KeyInfo:
    """Raise the limit of the sub-key of that name: to `alone_pusd` if given, else by `more_pusd`.

    A key without a limit is not changed.

    Returns:
        The key as it was before.

    Raises:
        OperatingError: The new limit could not be verified; the text says whether it may hold.
    """
    try:
        keys = list_keys(admin_key, base_url, name=name)
    except OperatingError as exc:
        raise OperatingError(f"The trial's key at OpenRouter cannot be looked up: {exc}. Nothing was changed.") from exc
    if not keys:
        raise OperatingError(f"OpenRouter lists no key {name!r}, so its limit cannot be raised. Nothing was changed.")
    key = keys[0]
    if key.limit_usd is None:
        return key
    limit_pusd = alone_pusd if alone_pusd is not None else pusd(key.limit_usd) + more_pusd
    if set_key_limit(admin_key, key.hash, usd(limit_pusd), base_url):
        return key
    is_undone = _set_back(admin_key, key, base_url)
    change = "Nothing was changed." if is_undone else "It may be raised all the same; the budget was not changed."
    raise OperatingError(f"OpenRouter did not take the new limit of the trial's key {name!r}. {change}")


def _set_back(admin_key: Key, key: KeyInfo, base_url: str | None) -> bool:
    """Give a key its earlier limit again. Returns True only if that was verified."""
    return key.limit_usd is None or set_key_limit(admin_key, key.hash, key.limit_usd, base_url)


async def stop(plan: PlannedRun, alias: str | None) -> None:
    """Freeze a live trial's account, or all accounts of the run, and have the runner end the trials.

    Afterwards no call is admitted, and running streams have ended. `until_over` waits for the rest.

    Raises:
        ConfigError: The run has no such trial, or is not going on.
        OperatingError: The proxy refused.
    """
    if alias is not None:
        check_alias(plan, alias)
    async with _client(plan.run_dir) as client:
        await client.stop(alias)


async def until_over(plan: PlannedRun, alias: str | None, limit_s: float) -> list[TrialStop] | None:
    """Wait until a trial, or the whole run, has ended. Returns None if that takes longer than `limit_s`.

    A run removes its control.json as its last step.
    """
    chosen = list(plan.key_names) if alias is None else [alias]
    until_s = time.monotonic() + limit_s
    while True:
        is_over = read_control(plan.run_dir) is None
        stops = [TrialStop(each, read_json_object(trial_folder(plan.run_dir, each), "summary.json")) for each in chosen]
        if is_over or (alias is not None and stops[0].is_latest):
            return stops
        if time.monotonic() > until_s:
            return None
        await asyncio.sleep(ENDED_LOOK_EVERY_S)


@asynccontextmanager
async def _client(run_dir: Path) -> AsyncIterator[ControlClient]:
    """Open a client of a live run's proxy.

    Raises:
        ConfigError: The run is not live, or its proxy does not answer.
    """
    control = read_control(run_dir)
    if control is None:
        raise ConfigError(
            f"The run {run_dir.name} is not going on, so there is nothing to change; "
            f"`agent-preflight status {run_dir.name}` shows how it ended."
        )
    try:
        async with ControlClient(control.socket) as client:
            yield client
    except ControlUnreachableError as exc:
        raise ConfigError(
            f"The proxy of {run_dir.name} does not answer: the run is just starting, or it crashed "
            "(then `agent-preflight sweep` removes what it left)."
        ) from exc
