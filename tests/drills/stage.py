"""The stage of a drill: a simulator in this process, a proxy as a process, and a client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from openrouter_sim import Scenario, Simulator
from preflight_proxy.core.refusals.refusals import Code
from tests.support.proxy_world import KEY_MARGIN_USD, chat
from tests.support.sub_keys import new_sub_key
from tests.torture.proxy import Account, Proxy

SPENT = Code.SPENT.sentence.encode()
STORE = Code.STORE.sentence.encode()


@dataclass(slots=True)
class Stage:
    """A simulator, a proxy and a client."""

    sim: Simulator
    proxy: Proxy
    client: aiohttp.ClientSession

    async def open(self, name: str, limit_usd: str) -> Account:
        """Open an account with its own sub-key."""
        key_limit_usd = Decimal(limit_usd) + KEY_MARGIN_USD
        key = await new_sub_key(self.client, self.sim.base_url, self.sim.admin_key, name, key_limit_usd)
        folder = self.proxy.data / name
        folder.mkdir()
        account = Account(name, Decimal(limit_usd), key, folder / "budget.txt")
        await self.proxy.open(account)
        return account

    async def call(self, account: Account, text: str = "Say OK", **fields: Any) -> tuple[int, bytes]:
        """Make one call; return status and body."""
        async with self.start(account, text, **fields) as answer:
            return answer.status, await answer.read()

    @contextlib.asynccontextmanager
    async def start(
        self, account: Account, text: str = "Say OK", **fields: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one call; yield its answer when the head has arrived."""
        headers = {"Authorization": f"Bearer {account.token}"}
        async with self.client.post(
            self.proxy.base_url + "/chat/completions", json=chat(text, **fields), headers=headers
        ) as answer:
            yield answer

    async def balance(self, account: Account) -> dict[str, Any]:
        """Return the balance of an account."""
        balance: dict[str, Any] = await self.proxy.control("GET", f"/accounts/{account.id}")
        return balance

    def billed_usd(self, account: Account) -> Decimal:
        """Return what upstream charged for an account."""
        return self.sim.bill().named(account.id).total_usd


@contextlib.asynccontextmanager
async def stage(data: Path, scenario: Scenario | None = None, **settings: object) -> AsyncIterator[Stage]:
    """Start the simulator and prepare a proxy. End both with the block."""
    async with Simulator(scenario) as sim, aiohttp.ClientSession() as client:
        proxy = Proxy(
            data, sim.base_url, **{"key_usage_lag_s": 0.4, "generation_s_max": 1.0, "call_s_max": 1.0, **settings}
        )
        try:
            yield Stage(sim, proxy, client)
        finally:
            await proxy.close()
