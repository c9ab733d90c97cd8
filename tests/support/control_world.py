"""A world whose proxy has a control socket, and a client on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from openrouter_sim import Simulator
from preflight_proxy.app import running
from tests.support.proxy_world import World, quick_config

RUN = "run"


@dataclass
class Controlled(World):
    """What a runner has: the control socket, and sub-keys of its own."""

    control: aiohttp.ClientSession = None  # type: ignore[assignment]

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, dict[str, Any]]:
        """One request on the control socket: status and document."""
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else json.dumps(body)
        async with self.control.request(method, f"http://control{path}", **options) as response:
            return response.status, await response.json()

    async def put(self, name: str, limit_usd: str = "1.00", **more: Any) -> dict[str, Any]:
        """Open an account over the control socket; its balance."""
        token = self.tokens.setdefault(name, f"pf-{name}-0123456789abcdef0123456789")
        key = await self.sub_key(name)
        spec = {"run": RUN, "limit_usd": limit_usd, "token": token, "key": key, "key_is_own": True}
        status, balance = await self.ask("PUT", f"/accounts/{name}", {**spec, **more})
        assert status == 200, balance
        return balance

    def follow(self, run: str = RUN, cursor: int = 0) -> contextlib.AbstractAsyncContextManager[Follower]:
        """Hold a run's control connection."""
        return _follower(self.control, run, cursor)

    async def frozen(self, name: str, reason: str | None) -> None:
        """Return once an account is frozen for this reason."""
        async with asyncio.timeout(30):
            while self.proxy.ledger.account(name).frozen != reason:
                await asyncio.sleep(0.005)


class Follower:
    """The stream of events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, kind: str | None = None) -> dict[str, Any]:
        """The next event, or the next of a kind."""
        async with asyncio.timeout(30):
            while True:
                event = json.loads(await self._response.content.readline())
                if kind is None or event["type"] == kind:
                    return dict(event)


@contextlib.asynccontextmanager
async def _follower(control: aiohttp.ClientSession, run: str, cursor: int) -> AsyncIterator[Follower]:
    async with control.get(f"http://control/events?run={run}&cursor={cursor}") as response:
        assert response.status == 200
        yield Follower(response)


@contextlib.asynccontextmanager
async def controlled(data: Path, *, grace_s: float = 600.0, portal: str | None = None) -> AsyncIterator[Controlled]:
    """A proxy of the run `run`, without any account yet; at the end the ledger equals the bill."""
    socket_path = data / "c.sock"
    async with Simulator() as sim:
        config = quick_config(data, sim.base_url, control=str(socket_path), portal=portal, run=RUN, grace_s=grace_s)
        connector = aiohttp.UnixConnector(str(socket_path), force_close=True)
        async with (
            running(config) as proxy,
            aiohttp.ClientSession() as client,
            aiohttp.ClientSession(connector=connector, read_bufsize=2**20) as control,
        ):
            made = Controlled(sim, proxy, client, data, control=control)
            yield made
            await made.all_settled()
        made.check_bill()
