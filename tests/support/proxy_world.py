"""A proxy in this process, on real sockets, before a simulated OpenRouter; and what wire tests do with it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from openrouter_sim import Simulator
from preflight_proxy.app import RunningProxy
from preflight_proxy.control.accounts import AccountSpec
from preflight_proxy.control.standalone_accounts import new_token
from preflight_proxy.core.money import usd_text

MODEL = "openai/gpt-4.1-nano"
DEAR_MODEL = "anthropic/claude-sonnet-4.5"


@dataclass
class World:
    """A simulator, a proxy before it, a client; accounts by name."""

    sim: Simulator
    proxy: RunningProxy
    client: aiohttp.ClientSession
    data: Path
    tokens: dict[str, str] = field(default_factory=dict)
    may_differ: bool = False
    """Set by a test whose scenario makes ledger and bill differ on purpose."""

    @property
    def base_url(self) -> str:
        assert self.proxy.base_url is not None
        return self.proxy.base_url

    async def open(self, name: str = "a", limit_usd: str = "1.00", **more: Any) -> str:
        """Open an account with a sub-key of its own; returns its token."""
        async with self.client.post(
            f"{self.sim.base_url}/keys",
            json={"name": name, "limit": float(Decimal(limit_usd) + Decimal("0.01"))},
            headers={"Authorization": f"Bearer {self.sim.admin_key}"},
        ) as response:
            key = (await response.json())["key"]
        await self.reopen(name, key, limit_usd, **more)
        return self.tokens[name]

    async def open_foreign(self, name: str = "a", limit_usd: str = "1.00") -> None:
        """Open an account with a key that others may use as well, as a stand-alone proxy does."""
        token = self.tokens.setdefault(name, new_token())
        spec = AccountSpec(limit_usd=limit_usd, token=token, key=self.sim.inference_key, run="run")
        await self.proxy.accounts.open(name, spec)

    async def reopen(self, name: str, key: str, limit_usd: str = "1.00", **more: Any) -> None:
        """Open an account with a key that is there, as a runner does after the proxy died."""
        token = self.tokens.setdefault(name, new_token())
        spec = AccountSpec(limit_usd=limit_usd, token=token, key=key, key_is_own=True, run="run", **more)
        await self.proxy.accounts.open(name, spec)

    def post(
        self, path: str = "/chat/completions", *, token: str | None = None, **body: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one inference request with a token, that of account `a` unless another is given."""
        headers = {"Authorization": f"Bearer {token or self.tokens['a']}"}
        return self.client.post(self.base_url + path, json=chat(**body), headers=headers)

    async def settled(self, name: str = "a", within_s: float = 60.0) -> None:
        """Return once nothing is pending for an account."""
        async with asyncio.timeout(within_s):
            while self.proxy.ledger.account(name).pending_pusd:
                await asyncio.sleep(0.01)

    def posted_usd(self) -> Decimal:
        return sum((Decimal(usd_text(a.posted_pusd)) for a in self.proxy.ledger.accounts().values()), Decimal(0))

    def billed_usd(self) -> Decimal:
        return self.sim.bill().total_usd

    def cost_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.data / "costs.jsonl").read_text().splitlines()]


def chat(text: str = "Say OK", **fields: Any) -> dict[str, Any]:
    """A chat request; further fields replace or extend it."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}
