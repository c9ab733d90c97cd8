"""A stage for drills: a simulator in this process, a proxy of its own before it, and agents."""

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
    """What a drill plays with."""

    sim: Simulator
    proxy: Proxy
    client: aiohttp.ClientSession

    async def open(self, name: str, limit_usd: str) -> Account:
        """Open an account with a sub-key of its own."""
        key_limit_usd = Decimal(limit_usd) + KEY_MARGIN_USD
        key = await new_sub_key(self.client, self.sim.base_url, self.sim.admin_key, name, key_limit_usd)
        folder = self.proxy.data / name
        folder.mkdir()
        account = Account(name, Decimal(limit_usd), key, folder / "budget.txt")
        await self.proxy.open(account)
        return account

    async def call(self, account: Account, text: str = "Say OK", **fields: Any) -> tuple[int, bytes]:
        """Make one call; status and body."""
        async with self.start(account, text, **fields) as answer:
            return answer.status, await answer.read()

    @contextlib.asynccontextmanager
    async def start(
        self, account: Account, text: str = "Say OK", **fields: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one call; its answer's head is there, its body is still to come."""
        headers = {"Authorization": f"Bearer {account.token}"}
        async with self.client.post(
            self.proxy.base_url + "/chat/completions", json=chat(text, **fields), headers=headers
        ) as answer:
            yield answer

    async def balance(self, account: Account) -> dict[str, Any]:
        """An account as it stands."""
        told: dict[str, Any] = await self.proxy.control("GET", f"/accounts/{account.id}")
        return told

    def billed_usd(self, account: Account) -> Decimal:
        """What upstream charged it."""
        return self.sim.bill().named(account.id).total_usd


@contextlib.asynccontextmanager
async def stage(data: Path, scenario: Scenario | None = None, **settings: object) -> AsyncIterator[Stage]:
    """Everything up; nothing is left behind."""
    async with Simulator(scenario) as sim, aiohttp.ClientSession() as client:
        proxy = Proxy(
            data, sim.base_url, **{"key_usage_lag_s": 0.4, "generation_s_max": 1.0, "call_s_max": 1.0, **settings}
        )
        try:
            yield Stage(sim, proxy, client)
        finally:
            await proxy.close()
