"""The world of a client's test: a tap between client and proxy, and the control socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from openrouter_sim import Rule, Scenario
from preflight_proxy.core.money import usd_text
from preflight_proxy.core.refusals.refusals import Code
from tests.clients import program
from tests.clients.tap import Tap
from tests.support.proxy_world import World

WORDS = Rule(text="Each line of the plan was read and held true.")
"""The reply of the model by default."""
LONG = Scenario(replies=(Rule(tokens=150),), tokens_per_s=60.0)
"""An answer that lasts two and a half seconds, so that a freeze finds it in flight."""
ENDED = Code.FROZEN.sentence
REFUSED = (Code.SPENT.sentence, Code.DOES_NOT_FIT.sentence)
RETRIES_MAX = 2
"""Requests that an agent may send after the first refusal."""
POOR_USD = "0.0000001"
"""Less than any call can cost."""


@dataclass
class Stage(World):
    """A world whose clients connect through a tap.

    Attributes:
        tap: Between the clients and the proxy.
        control: Path of the proxy's control socket.
        homes: The folder of the programs' homes.
    """

    tap: Tap = field(kw_only=True)
    control: str = field(kw_only=True)
    homes: Path = field(kw_only=True)

    @property
    def v1(self) -> str:
        """The API base for clients in OpenAI's shapes."""
        return f"http://127.0.0.1:{self.tap.port}{urlsplit(self.base_url).path}"

    @property
    def anthropic(self) -> str:
        """The API base for clients in Anthropic's shape, which add the version themselves."""
        return self.v1.removesuffix("/v1")

    def home(self) -> Path:
        """Return a new, empty folder as the home of a program."""
        home = self.homes / str(len(list(self.homes.iterdir())))
        home.mkdir()
        return home

    def run(
        self, argv: Sequence[str], env: Mapping[str, str], home: Path | None = None
    ) -> AbstractAsyncContextManager[program.Program]:
        """Run a client as a program with its own home."""
        return program.running(argv, home or self.home(), env)

    async def freeze(self, name: str = "a") -> None:
        """Freeze an account as a runner does: over the control socket."""
        url = f"http://control/accounts/{name}/freeze"
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(self.control)) as control:
            response = await control.post(url, json={})
            assert response.status == 200

    async def freeze_once_heard(self, text: bytes, name: str = "a") -> None:
        """Freeze an account when this text has gone to a client."""
        await self.tap.heard(text)
        await self.freeze(name)

    def refused(self, name: str = "a") -> int:
        """Return how many calls of an account the proxy refused."""
        return self.proxy.ledger.account(name).refused

    def check_refusal(self, result: program.ProgramResult, name: str) -> None:
        """Check that an agent stopped soon after it was refused, with an error that says why."""
        assert result.code == 1, result.said
        assert any(sentence in result.said for sentence in REFUSED), result.said
        assert 1 <= self.refused(name) <= 1 + RETRIES_MAX

    async def posted_as_billed(self, name: str = "a") -> int:
        """Check that each call was posted at what the simulator billed; return the number of calls."""
        await self.settled(name)
        billed = {each.id: each.cost_usd for key in self.sim.bill().keys.values() for each in key.generations}
        posted = {line["generation_id"]: Decimal(line["cost_usd"]) for line in self.cost_lines()}
        assert posted == billed
        assert Decimal(usd_text(self.proxy.ledger.account(name).posted_pusd)) == sum(billed.values())
        assert all(cost > 0 for cost in billed.values())
        return len(billed)
