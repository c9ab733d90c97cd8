"""A simulator on a free port, and a client that keeps the bytes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from openrouter_sim import FaultRule, Scenario, SimGeneration, Simulator, make_fault
from openrouter_sim.base.jsonio import encode
from tests.support.fake_clock import FakeClock

MODEL = "openai/gpt-4.1-nano"
TAG = {"only": ["openai"]}


@dataclass(frozen=True)
class Answer:
    """An answer as it came; `broken` says that the connection ended before it did."""

    status: int
    headers: dict[str, str]
    body: bytes
    broken: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal)

    @property
    def events(self) -> list[Any]:
        lines = self.body.decode().replace("\r\n", "\n").split("\n")
        data = [line[6:] for line in lines if line.startswith("data: ")]
        return [text if text == "[DONE]" else json.loads(text, parse_float=Decimal) for text in data]


class Caller:
    """Calls a simulator with its inference key, or another."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    async def call(
        self, path: str, body: Any = None, *, key: str | None = None, method: str | None = None, **options: Any
    ) -> Answer:
        method = method or ("GET" if body is None else "POST")
        headers = {"Authorization": f"Bearer {key or self.sim.inference_key}"}
        url = f"{self.sim.base_url}{path}"
        data = None if body is None else encode(body)
        async with self.session.request(method, url, data=data, headers=headers, **options) as answer:
            got, broken = b"", False
            try:
                async for chunk in answer.content.iter_any():
                    got += chunk
            except (aiohttp.ClientError, ConnectionError):
                broken = True
            return Answer(answer.status, dict(answer.headers), got, broken)

    async def chat(self, text: str = "hi", *, key: str | None = None, **fields: Any) -> Answer:
        body = {"model": MODEL, "provider": TAG, "messages": [{"role": "user", "content": text}], **fields}
        return await self.call("/chat/completions", body, key=key)

    async def admin(self, path: str, body: Any = None, method: str | None = None) -> Answer:
        return await self.call(path, body, key=self.sim.admin_key, method=method)

    async def new_key(self, limit: Any, **fields: Any) -> tuple[str, str]:
        made = (await self.admin("/keys", {"name": "run", "limit": limit, **fields})).json
        return made["key"], made["data"]["hash"]

    @property
    def billed(self) -> SimGeneration:
        """The only generation that the inference key was charged for."""
        (generation,) = self.sim.bill().named("default").generations
        return generation

    def suffer(self, name: str, **parameters: Any) -> None:
        """From now on every call suffers that fault."""
        self.sim.scenario = Scenario(faults=(FaultRule(make_fault(name, parameters)),))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def sim(clock: FakeClock) -> AsyncIterator[Simulator]:
    async with Simulator(clock=clock.epoch_s) as simulator:
        yield simulator


@pytest.fixture
async def caller(sim: Simulator) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(sim, session)
