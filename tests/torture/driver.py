"""A torture run: 64 callers, a simulator that fails one call in ten, and a proxy that is killed every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from preflight_proxy.base.config import Bound
from preflight_proxy.base.tasks import Tasks
from tests.torture import plan
from tests.torture.evidence import read_bill, read_ledger, read_seen
from tests.torture.openrouter import OpenRouter, open_router
from tests.torture.proxy import Account, Proxy
from tests.torture.verdict import Charge, Ledger, UpstreamCall, Verdict, judge

IN_FLIGHT = 64
ACCOUNTS = 24
SMALL_CALLERS_MAX = 4
"""Callers at once on an account with a small limit, so that they do not all wait there."""
REFUSALS_MAX = 6
"""After this many refusals for money the trial of an account ends, and the next one begins."""
CALL_S_MAX = 100.0
"""A call waits for its turn for at most 45 s. A call that takes longer than this hangs."""
SETTLE_S_MAX = 90.0
LEAVE_S = 0.003
TOP_UP_USD = Decimal("0.01")
SMALL_USD = Decimal("0.1")
OUTER_CAP_USD = Decimal("0.01")
"""How much the limit of a sub-key is above that of its account."""
QUARANTINED_MAX = 6
"""The quarantine is cleared at this length, because a lawless upstream would soon have no endpoint left."""
MONEY_REFUSALS = frozenset({400, 401, 402})


@dataclass(frozen=True, slots=True)
class Options:
    """What to run.

    Attributes:
        bound: How the proxy bounds the tokens of new text. By `proven`, upstream counts as densely as it can; by `measured`, as the
            models do. Nothing may be over in either.
    """

    calls: int
    seed: int
    kills: int
    profile: str = "lawful"
    rate: float = 0.1
    callers: int = IN_FLIGHT
    bound: Bound = "proven"


@dataclass(slots=True)
class Trial:
    """An account in use."""

    account: Account
    callers: int = 0
    refusals: int = 0
    is_small: bool = False


@dataclass(slots=True)
class Report:
    """The result of a run.

    Attributes:
        settled_s: How long after the last call nothing was pending, by the proxy's clock.
    """

    verdict: Verdict
    calls: int = 0
    took_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    strikes: dict[str, int] = field(default_factory=dict)
    accounts: int = 0
    kills: int = 0
    kills_by_step: Counter[str] = field(default_factory=Counter)
    restart_s: list[float] = field(default_factory=list)
    exit_code: int = 0
    quarantined: int = 0
    settled_s: float = 0.0


async def torture(options: Options, data: Path) -> Report:
    """Run, and compare the ledger with the bill.

    Args:
        options: What to run.
        data: An empty directory with a short path.
    """
    async with open_router(options.profile, options.rate, options.seed, data, bound=options.bound) as upstream:
        return await Run(options, data, upstream).whole()


class Run:
    """A run."""

    def __init__(self, options: Options, data: Path, upstream: OpenRouter, **settings: object) -> None:
        self._options = options
        self._data = data
        self._upstream = upstream
        self._proxy = Proxy(data, upstream.base_url, bound=options.bound, **settings)
        self._random = Random(f"{options.seed}:driver")
        self._asks = plan.asks(Random(f"{options.seed}:asks"))
        self._limits = plan.limits(Random(f"{options.seed}:limits"))
        self._due = plan.deaths(options.calls, options.kills, Random(f"{options.seed}:deaths"))
        self._trials: list[Trial] = []
        self._opened = 0
        self._begun = 0
        self._outcomes: Counter[str] = Counter()
        self._kills_by_step: Counter[str] = Counter()
        self._quarantined: set[tuple[str, str]] = set()
        self._cleared_s: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._entry: tuple[str, ...] = ()
        self._keys_are_own = True
        self._background = Tasks()
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=CALL_S_MAX)
        )

    async def whole(self) -> Report:
        """Start, call, settle and judge. Leave no process behind."""
        try:
            await self._again(self._due[0] if self._due else None)
            took_s = await self._load()
            settled_s = await self._settled()
            return await self._judged(took_s, settled_s)
        finally:
            await self._background.cancel()
            await self._client.close()
            await self._proxy.close()

    async def _load(self) -> float:
        """Make all calls while the proxy is killed as planned; return the seconds."""
        began_s = time.monotonic()
        if self._options.profile == "lawless":
            self._background.spawn(self._read_on(), "reader of the quarantine")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill_on())
            group.create_task(self._work())
        return time.monotonic() - began_s

    async def _judged(self, took_s: float, settled_s: float) -> Report:
        await self._background.cancel()
        await self._read_quarantine()
        code = await self._proxy.stop()
        report = await self._upstream.end()
        ledger = read_ledger(self._data, frozenset(self._quarantined), self._cleared_s)
        return Report(
            verdict=self._verdict(ledger, read_bill(report), read_seen(report)),
            calls=self._begun,
            took_s=took_s,
            outcomes=self._outcomes,
            strikes=report["strikes"],
            accounts=self._opened,
            kills=len(self._proxy.kills_s),
            kills_by_step=self._kills_by_step,
            restart_s=self._proxy.restart_s,
            exit_code=code,
            quarantined=len(self._quarantined),
            settled_s=settled_s,
        )

    def _verdict(self, ledger: Ledger, bill: list[Charge], seen: list[UpstreamCall]) -> Verdict:
        return judge(ledger, bill, seen, self._proxy.kills_s)

    async def _work(self) -> None:
        """Open the first accounts, then make all calls. The proxy may be killed in both."""
        for _ in range(ACCOUNTS):
            self._trials.append(await self._trial())
        async with asyncio.TaskGroup() as callers:
            for _ in range(self._options.callers):
                callers.create_task(self._call_on())

    # Accounts

    async def _trial(self) -> Trial:
        """Open a new account. Try again while the proxy is killed."""
        self._opened += 1
        name, limit_usd = f"t{self._opened:05}", next(self._limits)
        folder = self._data / name
        folder.mkdir()
        key = await self._key(name, limit_usd)
        account = Account(name, limit_usd, key, folder / "budget.txt", key_is_own=self._keys_are_own)
        await self._repeat(lambda: self._proxy.open(account))
        return Trial(account, is_small=limit_usd < SMALL_USD)

    async def _key(self, name: str, limit_usd: Decimal) -> str:
        """The key of a new account: a sub-key of its own."""
        return await self._upstream.new_key(self._client, name, limit_usd + OUTER_CAP_USD)

    async def _repeat(self, act: Any) -> Any:
        while True:
            await self._proxy.up.wait()
            try:
                return await act()
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)

    async def _retire(self, trial: Trial) -> None:
        """End a trial, one in three by a freeze with calls in flight; or raise its limit and go on."""
        trial.refusals = -10_000  # once, whoever else was refused meanwhile
        account = trial.account
        chance = self._random.random()
        if chance < 0.25:
            account.limit_usd += TOP_UP_USD
            # The outer cap goes up before the limit does, or it would fire first.
            await self._upstream.set_key_limit(self._client, account.key, account.limit_usd + OUTER_CAP_USD)
            body = {"limit_usd": str(account.limit_usd)}
            await self._repeat(lambda: self._proxy.control("PATCH", f"/accounts/{account.id}", body))
            trial.refusals = 0
            return
        if chance < 0.5:
            await self._repeat(lambda: self._proxy.control("POST", f"/accounts/{account.id}/freeze", {"reason": "end"}))
        self._proxy.retired.add(account.id)
        self._trials[self._trials.index(trial)] = await self._trial()

    def _pick(self) -> Trial:
        while True:
            trial = self._random.choice(self._trials)
            if not trial.is_small or trial.callers < SMALL_CALLERS_MAX:
                return trial

    # Calls

    def _goes_on(self) -> bool:
        return self._begun < self._options.calls

    async def _call_on(self) -> None:
        while self._goes_on():
            trial = self._pick()
            self._begun += 1
            trial.callers += 1
            try:
                outcome = await self._call(trial, next(self._asks))
            finally:
                trial.callers -= 1
            self._outcomes[outcome] += 1
            if outcome == "refused":
                trial.refusals += 1
                if trial.refusals >= REFUSALS_MAX:
                    await self._retire(trial)

    async def _call(self, trial: Trial, ask: plan.Ask) -> str:
        """Make a call when the proxy is up; return one word for the outcome."""
        while True:
            await self._proxy.up.wait()
            try:
                return await self._attempt(self._proxy.base_url + ask.path, trial, ask)
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.02)

    async def _attempt(self, url: str, trial: Trial, ask: plan.Ask) -> str:
        headers = {"Authorization": f"Bearer {trial.account.token}"}
        try:
            if ask.leaves == "waiting":
                async with asyncio.timeout(LEAVE_S), self._client.post(url, json=ask.body, headers=headers):
                    return "left"
            async with self._client.post(url, json=ask.body, headers=headers) as answer:
                if ask.leaves:
                    if ask.leaves == "middle":
                        await answer.content.readany()
                    answer.close()
                    return "left"
                body = await answer.read()
                assert b"sk-or-" not in body, "a real key came out"
                return _outcome(answer.status, body)
        except TimeoutError:
            return "left" if ask.leaves else "hung"
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, OSError) as exc:
            return f"lost ({type(exc).__name__})"

    # Deaths

    async def _kill_on(self) -> None:
        """Let each planned kill happen, and start the proxy again with the next one armed."""
        for death, following in zip(self._due, [*self._due, None][1:], strict=True):
            dying = asyncio.ensure_future(self._proxy.died())
            try:
                while not dying.done() and self._begun < death.at_call:
                    await asyncio.wait({dying}, timeout=0.02)
                if death.step and not dying.done():  # the step is not passed as often as calls are made
                    await asyncio.wait({dying}, timeout=1.0)
                self._kills_by_step[f"{death.when} {death.step}" if dying.done() else "at any moment"] += 1
                self._proxy.kill()
                await dying
            finally:
                dying.cancel()
            await self._again(following)

    async def _again(self, death: plan.Death | None) -> None:
        """Start the proxy. It may be killed by its hook while its accounts are opened."""
        while True:
            entry: tuple[str, ...] = ()
            if death is not None and death.step:
                passage = max(1, round((death.at_call - self._begun) * self._random.uniform(0.2, 0.7)))
                entry = ("tests.torture.kill", death.step, death.when, str(passage))
            try:
                await self._proxy.start(*(entry or self._entry))
            except (aiohttp.ClientError, OSError):
                await self._proxy.died()
                death = None
            else:
                return

    # Ledger

    async def _read_on(self) -> None:
        """Read the quarantine each second, and clear it when few endpoints are left."""
        while True:
            await asyncio.sleep(1.0)
            await self._repeat(self._read_quarantine)

    async def _read_quarantine(self) -> None:
        rows = [(model, tag) for model, tag in (await self._proxy.control("GET", "/quarantine"))["quarantined"]]
        self._quarantined.update(rows)
        if len(rows) > QUARANTINED_MAX and self._begun < self._options.calls:
            for model, tag in rows:
                self._cleared_s[model, tag].append(time.time())
                await self._proxy.control("DELETE", f"/quarantine?model={model}&tag={tag}")

    async def _settled(self) -> float:
        """Wait until nothing is pending; return how long after the last call that was, by the proxy's clock."""
        return await self._nothing_pending(SETTLE_S_MAX)

    async def _nothing_pending(self, within_s: float) -> float:
        """Wait until nothing is pending, or for `within_s`; return how long it took."""
        began_s = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    rows = (await self._proxy.control("GET", "/accounts"))["accounts"]
                    if not any(Decimal(row["pending_usd"]) or row["calls_in_flight"] for row in rows):
                        break
                    await asyncio.sleep(0.1)
        return time.monotonic() - began_s


def _outcome(status: int, body: bytes) -> str:
    """Return one word for an answer."""
    if status == 200:
        return "cut" if b"ended by its operator" in body else "answered"
    if status in MONEY_REFUSALS and (b"budget" in body.lower() or b"Ask for fewer" in body or b"operator" in body):
        return "refused"
    return f"status {status}"
