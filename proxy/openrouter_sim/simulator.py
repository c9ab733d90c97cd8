"""The simulator: its state, its server, and its start and stop."""

from __future__ import annotations

import asyncio
import string
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from random import Random

import msgspec
from aiohttp import web

from openrouter_sim import free_requests
from openrouter_sim.base.errors import ApiError, envelope
from openrouter_sim.billing.account import Bill, SimAccount
from openrouter_sim.calls.prompt_cache import PromptCache
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.catalog.models import Catalog, load_catalog
from openrouter_sim.director import Director
from openrouter_sim.free_requests import json_answer
from openrouter_sim.inference import infer
from openrouter_sim.shapes import SHAPES

ADMIN_KEY = f"sk-or-v1-{'ad' * 32}"
"""The default management key. It has the form of a real one and is easy to recognise."""
BODY_BYTES_MAX = 64 << 20
REQUESTS_MAX = 10_000
REQUEST_BYTES_MAX = 64 << 20
"""Bytes of all bodies in `requests` together, so that long runs use little memory."""
STOP_S = 0.2
"""How long a stop waits for calls in flight before it ends them."""
_ALPHABET = string.ascii_letters + string.digits

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ReceivedRequest(msgspec.Struct, frozen=True):
    """An inference request as it arrived: raw path, headers, body bytes."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Simulator:
    """An OpenRouter of one account, on one port.

    Attributes:
        base_url: `http://HOST:PORT/api/v1`, once started.
        admin_key: The management key.
        inference_key: A key without limit.
        catalog: The models by id; tests may change it.
        requests: The last inference requests as they arrived, oldest first.
        strikes: How many calls each fault changed, by its name.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        admin_key: str = ADMIN_KEY,
        seed: int = 0,
        credits_usd: Decimal = Decimal(100),
        clock: Callable[[], float] = time.time,  # noqa: TID251 - the default; all parts use this clock
    ) -> None:
        self.random = Random(f"{seed}:routing")
        self.account = SimAccount(clock, Random(f"{seed}:keys"), credits_usd)
        self.cache = PromptCache()
        self.catalog: Catalog = load_catalog()
        self.requests: list[ReceivedRequest] = []
        self.strikes: Counter[str] = Counter()
        self.base_url = ""
        self.admin_key = admin_key
        self.inference_key = self.account.new_secret()
        self.account.add_key(admin_key, "admin", management=True)
        self.account.add_key(self.inference_key, "default")
        self._ids = Random(f"{seed}:ids:{clock()}")
        self._replies = Random(f"{seed}:replies")
        self._request_bytes = 0
        self._changed = asyncio.Event()
        self.account.on_charge = self._wake
        self._runner: web.AppRunner | None = None
        self.scenario = scenario or Scenario()

    @property
    def scenario(self) -> Scenario:
        """How the simulator answers from the next request on."""
        return self._scenario

    @scenario.setter
    def scenario(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.director = Director(scenario, self._replies, self.strikes)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes any free port.

        Raises:
            OSError: the address cannot be used.
        """
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=STOP_S)
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        self.base_url = f"http://{address[0]}:{address[1]}/api/v1"

    async def stop(self) -> None:
        """Stop listening and end each call in flight, which is charged for what was generated."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Simulator:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    def bill(self) -> Bill:
        """Return all charges so far, exactly."""
        return self.account.bill()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when `holds()` is true. It is called again after each request and each charge."""
        while not holds():
            await self._changed.wait()

    def note(self, request: web.Request, body: bytes) -> None:
        """Keep a request as it arrived."""
        self.requests.append(ReceivedRequest(request.method, request.raw_path, dict(request.headers), body))
        self._request_bytes += len(body)
        self._wake()
        while len(self.requests) > REQUESTS_MAX or self._request_bytes > REQUEST_BYTES_MAX:
            if len(self.requests) <= 1:
                self._request_bytes = 0
                break
            self._request_bytes -= len(self.requests.pop(0).body)

    def new_generation_id(self, now: float) -> str:
        """Return a new id: `gen-<epoch second>-<20 letters and digits>`."""
        return f"gen-{int(now)}-{''.join(self._ids.choices(_ALPHABET, k=20))}"

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_in_envelopes, self._with_faults])
        free_requests.add_routes(app, self)
        for path, shape in SHAPES.items():
            app.router.add_post(f"/api/v1{path}", partial(infer, self, shape))
        return app

    @web.middleware
    async def _with_faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # Inference calls draw their faults in `infer`.
        name = request.path.removeprefix("/api/v1/").partition("/")[0]
        if request.path.removeprefix("/api/v1") not in SHAPES:
            for fault in self.director.early(name, f"{request.method} {name}"):
                early = await fault.answer_early(request)
                if early is not None:
                    return early
        return await handler(request)


@web.middleware
async def _in_envelopes(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as exc:
        error = exc
    except web.HTTPException as exc:
        error = ApiError(exc.status, exc.reason)
    return json_answer(envelope(error), error.status)
