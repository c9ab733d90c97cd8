"""A proxy in this process, on real sockets, in front of a simulated OpenRouter."""

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
from preflight_proxy.base.config import Config
from preflight_proxy.base.control_messages import AccountSpec
from preflight_proxy.control.standalone_accounts import new_token
from preflight_proxy.core.money import limit_pusd, usd_text
from preflight_proxy.core.secret import Secret
from tests.support.sub_keys import new_sub_key

MODEL = "openai/gpt-4.1-nano"
DEAR_MODEL = "anthropic/claude-sonnet-4.5"
KEY_MARGIN_USD = Decimal("0.01")
"""How much the limit of a sub-key is above that of its account."""


def quick_config(data: Path, upstream: str, **settings: Any) -> Config:
    """Return the configuration of a proxy at any free port, which waits for evidence of a cost for a second at most.

    Args:
        data: The folder of its ledger.
        upstream: The API base of OpenRouter.
        settings: Fields of `Config`, instead of or besides these.
    """
    usual = {"listen": "127.0.0.1:0", "key_usage_lag_s": 0.3, "generation_s_max": 1.0, "call_s_max": 0.5}
    return Config(data=str(data), upstream=upstream, **{**usual, **settings})


@dataclass
class World:
    """A proxy, its simulator, and a client that calls. Accounts have names.

    Attributes:
        tokens: The token of each account.
        may_differ: Set by a test in which ledger and bill differ on purpose.
    """

    sim: Simulator
    proxy: RunningProxy
    client: aiohttp.ClientSession
    data: Path
    tokens: dict[str, str] = field(default_factory=dict)
    may_differ: bool = False

    @property
    def base_url(self) -> str:
        assert self.proxy.base_url is not None
        return self.proxy.base_url

    async def open(self, name: str = "a", limit_usd: str = "1.00", **more: Any) -> str:
        """Open an account with a sub-key of its own; returns its token."""
        key = await self.sub_key(name, Decimal(limit_usd) + KEY_MARGIN_USD)
        await self.reopen(name, key, limit_usd, **more)
        return self.tokens[name]

    async def sub_key(self, name: str, limit_usd: Decimal = Decimal(2)) -> str:
        """Make a sub-key; returns its secret."""
        return await new_sub_key(self.client, self.sim.base_url, self.sim.admin_key, name, limit_usd)

    async def open_foreign(self, name: str = "a", limit_usd: str = "1.00") -> None:
        """Open an account with a key that others may use as well, as a stand-alone proxy does."""
        token = self.tokens.setdefault(name, new_token())
        spec = AccountSpec(
            limit_pusd=limit_pusd(limit_usd), token=Secret(token), key=Secret(self.sim.inference_key), run="run"
        )
        await self.proxy.accounts.open(name, spec)

    async def reopen(self, name: str, key: str, limit_usd: str = "1.00", **more: Any) -> None:
        """Open an account with an existing key, as a runner does after the proxy died."""
        token = self.tokens.setdefault(name, new_token())
        spec = AccountSpec(
            limit_pusd=limit_pusd(limit_usd), token=Secret(token), key=Secret(key), key_is_own=True, run="run", **more
        )
        await self.proxy.accounts.open(name, spec)

    def post(
        self, path: str = "/chat/completions", *, token: str | None = None, **body: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one inference request, with the token of account `a` unless another is given."""
        headers = {"Authorization": f"Bearer {token or self.tokens['a']}"}
        return self.client.post(self.base_url + path, json=chat(**body), headers=headers)

    async def settled(self, name: str = "a", within_s: float = 60.0) -> None:
        """Return once nothing is pending for an account."""
        async with asyncio.timeout(within_s):
            while self.proxy.ledger.account(name).pending_pusd:
                await asyncio.sleep(0.01)

    async def all_settled(self) -> None:
        """Return once nothing is pending for any account that has a key."""
        for name in list(self.proxy.ledger.accounts()):
            if self.proxy.ledger.account_state(name).key is not None:
                await self.settled(name)

    def check_bill(self) -> None:
        """Fail if ledger and bill differ, unless the test wants them to."""
        assert self.may_differ or self.posted_usd() == self.billed_usd()

    def posted_usd(self) -> Decimal:
        return sum((Decimal(usd_text(a.posted_pusd)) for a in self.proxy.ledger.accounts().values()), Decimal(0))

    def billed_usd(self) -> Decimal:
        return self.sim.bill().total_usd

    def cost_lines(self) -> list[dict[str, Any]]:
        self.proxy.ledger.files.flush()
        return [json.loads(line) for line in (self.data / "costs.jsonl").read_text().splitlines()]


def chat(text: str = "Say OK", **fields: Any) -> dict[str, Any]:
    """A chat request; further fields replace or extend it."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}
