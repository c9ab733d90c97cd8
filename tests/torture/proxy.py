"""The proxy of a torture run, handled as a runner does: it is started again after a kill, and its accounts are opened again."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[2]
READY_S_MAX = 60.0
STOP_S_MAX = 60.0
LAG_S = 2.0
"""Stands for the minute that a key's usage may lag."""
GENERATION_S_MAX = 3.0
"""Stands for the two minutes that a generation is waited for; upstream's records appear after a third of a second."""

CALL_S_MAX = 5.0
"""Stands for the half hour that a call may last upstream; none of the simulator's takes so long."""


class ProxyDiedError(Exception):
    """The proxy ended by itself, or did not become ready. The message has the end of its log."""


@dataclass(slots=True)
class Account:
    """An open account, as its runner has it."""

    id: str
    limit_usd: Decimal
    key: str
    budget_file: Path
    token: str = field(default_factory=lambda: f"pf-{secrets.token_urlsafe(32)}")
    key_is_own: bool = True

    def spec(self) -> dict[str, Any]:
        """Return the body of its PUT."""
        return {
            "run": "torture",
            "limit_usd": str(self.limit_usd),
            "token": self.token,
            "key": self.key,
            "key_is_own": self.key_is_own,
            "budget_file": str(self.budget_file),
        }


class Proxy:
    """The proxy of one ledger, over all its starts.

    Args:
        data: The run's directory.
        upstream: The simulator's API base.

    Attributes:
        up: Set while it serves and has all its accounts.
        accounts: The accounts that are opened at each start.
        retired: Those that make no more calls. They are opened while something of theirs is pending.
        kills_s: The epoch seconds of its deaths by SIGKILL.
        restart_s: How long each start took, to the last account.
    """

    def __init__(self, data: Path, upstream: str, **settings: object) -> None:
        self.data = data
        self.up = asyncio.Event()
        self.accounts: dict[str, Account] = {}
        self.retired: set[str] = set()
        self.kills_s: list[float] = []
        self.restart_s: list[float] = []
        self.base_url = ""
        self._ready = data / "ready.json"
        self._control = data / "c.sock"
        self._log = (data / "proxy.log").open("ab")
        self._process: Process | None = None
        self._client: aiohttp.ClientSession | None = None
        self._settings = {
            "data": str(data),
            "listen": "127.0.0.1:0",
            "upstream": upstream,
            "control": str(self._control),
            "ready_file": str(self._ready),
            "key_usage_lag_s": LAG_S,
            "generation_s_max": GENERATION_S_MAX,
            "call_s_max": CALL_S_MAX,
            "bound": "proven",  # upstream counts a token a byte, or more
            "quarantine_file": str(data / "quarantine.jsonl"),
            **settings,
        }

    async def start(self, *entry: str) -> None:
        """Serve, with every account open. `entry` is another module than the product's, with its arguments.

        Raises:
            ConnectionError: It was killed before it was ready: a step of a call may be one of the start too.
            ProxyDiedError: It ended otherwise, or is not ready after `READY_S_MAX`.
        """
        began_s = time.monotonic()
        self._ready.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *(entry or ("preflight_proxy",)),
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=self._log,
            cwd=ROOT,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._settings).encode())
        self._process.stdin.close()
        await self._until_ready()
        await self._open_accounts()
        self.restart_s.append(time.monotonic() - began_s)
        self.up.set()

    async def _until_ready(self) -> None:
        until_s = time.monotonic() + READY_S_MAX
        while not self._ready.exists():
            assert self._process is not None
            if self._process.returncode == -signal.SIGKILL:
                raise ConnectionError("killed before it was ready")
            if self._process.returncode is not None or time.monotonic() > until_s:
                raise ProxyDiedError(self._last_words())
            await asyncio.sleep(0.01)
        self.base_url = json.loads(self._ready.read_text())["base_url"]
        if self._client is not None:
            await self._client.close()
        self._client = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(self._control)))

    async def _open_accounts(self) -> None:
        known = {row["id"]: row for row in (await self.control("GET", "/accounts"))["accounts"]}
        for name, account in list(self.accounts.items()):
            if name not in self.retired or name not in known or Decimal(known[name]["pending_usd"]):
                await self.open(account)

    async def open(self, account: Account) -> None:
        """Open an account, now and after each start."""
        self.accounts[account.id] = account
        await self.control("PUT", f"/accounts/{account.id}", account.spec())

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """Call its control socket.

        Raises:
            aiohttp.ClientError: It died meanwhile.
        """
        assert self._client is not None
        async with self._client.request(method, f"http://proxy{path}", json=body) as answer:
            document = await answer.json()
            assert answer.status == 200, f"{method} {path}: {document}"
            return document

    async def died(self) -> None:
        """Return once it has ended by SIGKILL.

        Raises:
            ProxyDiedError: It ended otherwise.
        """
        assert self._process is not None
        code = await self._process.wait()
        self.up.clear()
        self.kills_s.append(time.time())
        if code != -signal.SIGKILL:
            raise ProxyDiedError(self._last_words())

    def _last_words(self) -> str:
        assert self._process is not None
        log = (self.data / "proxy.log").read_text(errors="replace")
        code = self._process.returncode
        state = "not ready in time" if code is None else f"exit code {code}"
        return f"{state}; its log ends with:\n{log[-4000:]}"

    def kill(self) -> None:
        """Send SIGKILL if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def hurry(self) -> None:
        """Make the clock of its ledger run faster. Only for a proxy started as `tests.torture.hurry`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)

    async def stop(self) -> int:
        """Stop it in order; return its exit code."""
        assert self._process is not None
        self.up.clear()
        self._process.terminate()
        code = await asyncio.wait_for(self._process.wait(), STOP_S_MAX)
        await self.close()
        return code

    async def close(self) -> None:
        """End the process and the connections."""
        self.kill()
        if self._process is not None:
            await self._process.wait()
        if self._client is not None:
            await self._client.close()
        self._log.close()
