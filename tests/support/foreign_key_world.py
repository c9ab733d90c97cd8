"""A ledger on a key that other programs may use, a simulated OpenRouter, and a clock that a test moves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from itertools import count
from pathlib import Path

from openrouter_sim import Simulator
from openrouter_sim.billing.account import SimGeneration
from openrouter_sim.billing.prices import SimTokens
from preflight_proxy.core.ledger.commands import OpenAccount, Post, Reserve, SetGeneration
from preflight_proxy.core.ledger.rows import CallFacts, Reservation
from preflight_proxy.core.ledger.state import Change
from preflight_proxy.core.secret import Secret
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.evidence.unknowns import UnknownCalls
from preflight_proxy.ledger.events import Events
from preflight_proxy.ledger.files import Files
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.ledger.store import Store
from preflight_proxy.upstream.client import Upstream
from tests.support.fake_clock import FakeClock

USD = 10**12
RESERVED_PUSD = USD // 100


class ForeignKeyWorld:
    """The ledger of a proxy without listeners, on the simulator's key without a limit.

    Args:
        folder: The folder of the ledger.
        accounts: Which accounts use the key.

    Attributes:
        billed_pusd: The charges of the ledger's calls.
    """

    def __init__(self, folder: Path, accounts: str = "ab") -> None:
        self.clock = FakeClock()
        self.sim = Simulator(clock=self.clock.epoch_s)
        self.names = accounts
        self.billed_pusd = 0
        self._folder = folder
        self._stack = AsyncExitStack()
        self._ids = count(1)
        self.store: Store
        self.ledger: Ledger
        self.foreign: ForeignKeys
        self.unknown_calls: UnknownCalls

    async def __aenter__(self) -> ForeignKeyWorld:
        await self._stack.enter_async_context(self.sim)
        self.upstream = await self._stack.enter_async_context(Upstream(self.sim.base_url))
        self.begin()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.store.close()
        await self._stack.aclose()

    def begin(self, boot_id: str = "one") -> None:
        """Start the proxy on the files on disk, and open every account."""
        self.store = Store(self._folder / "ledger.sqlite3", clock=self.clock, boot_id=boot_id)
        self.ledger = Ledger(self.store, Files(self.store.cost_log), Events(), self.clock)
        self.ledger.upstream = self.upstream.base_url
        self.foreign = ForeignKeys(self.ledger, self.upstream)
        self.unknown_calls = UnknownCalls(self.ledger, self.upstream, self.foreign)
        self.unknown_calls.begin()
        for name in self.names:
            self.open(name)

    def open(self, name: str, key: str | None = None, *, own: bool = False) -> None:
        """Open an account with the shared key or another one; with `own`, as if it were an unused sub-key."""
        secret = key or self.sim.inference_key
        key_hash = hashlib.sha256(secret.encode()).hexdigest()
        usage_pusd = 0 if own else None
        command = OpenAccount(name, "run", USD, name, key_hash=key_hash, key_is_own=own, key_usage_pusd=usage_pusd)
        self.ledger.commit(command)
        self.ledger.account_state(name).key = Secret(secret)

    def restart(self, boot_id: str = "one") -> None:
        """Stop the proxy without a settlement, and start it again; another boot id is another boot of the machine."""
        self.store.close()
        self.begin(boot_id)

    async def call(self, name: str = "a", reserved_pusd: int = RESERVED_PUSD) -> Reservation:
        """Reserve a call."""
        await self.foreign.ready(name)
        key_base = self.ledger.key_base(name)
        reserve = Reserve(f"r{next(self._ids)}", name, reserved_pusd, "chat", "m/x", ("t",), 9, key_base=key_base)
        change = self.ledger.commit(reserve)
        assert isinstance(change, Change)
        assert change.reservation is not None
        return change.reservation

    def bill(
        self,
        cost_pusd: int,
        *,
        lag_s: float = 0.0,
        visible_s: float | None = None,
        byok: bool = False,
        ours: bool = True,
    ) -> str:
        """Charge the key for a generation, which `/key` shows `lag_s` later; return its id."""
        self.billed_pusd += cost_pusd if ours else 0
        cost_usd = Decimal(cost_pusd) / USD
        generation = SimGeneration(
            id=f"gen-{next(self._ids)}",
            key_hash=hashlib.sha256(self.sim.inference_key.encode()).hexdigest(),
            model="m/x",
            provider="P",
            tag="t",
            api="chat",
            streamed=False,
            tokens=SimTokens(1),
            cost_usd=cost_usd,
            reported_usd=cost_usd,
            upstream_usd=cost_usd if byok else None,
            cache_discount_usd=Decimal(0),
            finish_reason="stop",
            outcome="finished",
            created_s=self.clock.epoch_s(),
            visible_s=visible_s,
        )
        self.sim.account.post(generation, lag_s=lag_s)
        return generation.id

    def post(self, call: Reservation, cost_pusd: int, *, lag_s: float = 0.0) -> None:
        """Charge a call and post its cost."""
        self.bill(cost_pusd, lag_s=lag_s)
        self.ledger.commit(Post(call.id, cost_pusd))

    def lose(self, call: Reservation, *, ended: bool = True, generation_id: str | None = None) -> None:
        """End a call whose cost was not told."""
        if generation_id is not None:
            self.ledger.commit(SetGeneration(call.id, generation_id))
        self.ledger.mark_unknown(call, CallFacts(), ended=ended)

    async def pass_s(self, seconds: float, step_s: float = 5.0) -> None:
        """Advance the clock in steps, with a look at the unknown calls after each."""
        left_s = seconds
        while left_s > 0:
            self.clock.advance(min(step_s, left_s))
            left_s -= step_s
            await self.unknown_calls.tick()

    async def until(self, holds: Callable[[], bool], within_s: float) -> float:
        """Advance the clock until `holds()`; return the seconds."""
        began_s = self.clock.monotonic_s()
        while not holds():
            assert self.clock.monotonic_s() - began_s < within_s, "it does not come to hold"
            await self.pass_s(1.0)
        return self.clock.monotonic_s() - began_s

    @property
    def pending(self) -> list[Reservation]:
        """The pending reservations."""
        return self.store.pending()

    @property
    def posted_pusd(self) -> int:
        """The posted cost of all accounts."""
        return sum(account.posted_pusd for account in self.ledger.accounts().values())

    @property
    def assumed_pusd(self) -> int:
        """The assumed part of it."""
        return sum(account.assumed_pusd for account in self.ledger.accounts().values())

    @property
    def ends(self) -> list[tuple[str, int]]:
        """Each entry's kind and cost, in order."""
        return [(entry.kind.value, entry.cost_pusd) for entry in self.store.entries()]
