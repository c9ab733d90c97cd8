"""The simulated OpenRouter of a torture run, as a process, and its management API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from preflight_proxy.base.config import Bound
from tests.support.sub_keys import new_sub_key
from tests.torture.proxy import ROOT

LINE_BYTES_MAX = 2**30
"""The bill of a long run is one line."""


class OpenRouter:
    """The process and its API."""

    def __init__(self, process: Process, base_url: str, admin_key: str, inference_key: str) -> None:
        self._process = process
        self._admin_key = admin_key
        self.base_url = base_url
        self.inference_key = inference_key

    async def new_key(self, client: aiohttp.ClientSession, name: str, limit_usd: Decimal) -> str:
        """Make a sub-key; returns its secret."""
        return await new_sub_key(client, self.base_url, self._admin_key, name, limit_usd)

    async def set_key_limit(self, client: aiohttp.ClientSession, key: str, limit_usd: Decimal) -> None:
        """Change a sub-key's own limit."""
        url = f"{self.base_url}/keys/{hashlib.sha256(key.encode()).hexdigest()}"
        headers = {"Authorization": f"Bearer {self._admin_key}"}
        async with client.patch(url, json={"limit": float(limit_usd)}, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    async def hurry(self, client: aiohttp.ClientSession) -> None:
        """Make its clock run faster. Returns when it does."""
        self._process.send_signal(signal.SIGUSR1)
        async with client.get(
            f"{self.base_url}/models/count"
        ) as answer:  # the signal is handled before the next request
            await answer.read()

    async def end(self) -> dict[str, Any]:
        """End the process; return its bill, the calls it saw, and the count of each fault."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        report: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return report


@contextlib.asynccontextmanager
async def open_router(
    profile: str,
    rate: float,
    seed: int,
    data: Path,
    *,
    lag_s: float = 0.0,
    factor: float = 1.0,
    bound: Bound = "proven",
) -> AsyncIterator[OpenRouter]:
    """Serve until the block ends. Its errors go to a file in `data`.

    Args:
        bound: The proxy's bound; it decides how densely upstream counts.
    """
    command = [sys.executable, "-m", "tests.torture.upstream", profile, *map(str, (rate, seed, lag_s, factor, bound))]
    with (data / "upstream.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=log, cwd=ROOT, limit=LINE_BYTES_MAX
        )
    try:
        assert process.stdout is not None
        yield OpenRouter(process, **json.loads(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
