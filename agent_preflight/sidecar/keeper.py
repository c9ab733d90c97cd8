"""Keeps a run's proxy: starts it, starts it again when it dies, and stops it at the end.

The proxy is a process in a session of its own, so that a Ctrl-C for the runner does not reach it. It reads its settings from
standard input. Keys go over the control socket only, and again after a restart, because the proxy never writes them to disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
from msgspec.structs import replace

from agent_preflight.base.config import ADMIN_KEY_VARIABLES, child_environment
from agent_preflight.sandboxes.interface import Step
from agent_preflight.sidecar.control_client import ControlClient, ControlError, ControlUnreachableError
from preflight_proxy.base.config import Config
from preflight_proxy.base.control_messages import AccountSpec, Balance, LedgerEvent
from preflight_proxy.base.data_folder import CONTROL_SOCKET
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.core.errors import OperatingError

READY_S_MAX = 30.0
"""From the start of the process to its ready file; a cold start on a busy machine takes about two seconds."""
READY_LOOK_S = 0.025
OUR_KEYS = frozenset({*ADMIN_KEY_VARIABLES, "OPENROUTER_API_KEY"})
"""Variables that no process of ours needs: keys go over the control socket."""
STOP_S_MAX = 35.0
"""After SIGTERM the proxy gives running streams 30 s."""
RESTARTS_MAX = 5
"""A proxy that dies more often than this in one run is not started again."""
ANSWER_S_MAX = 30.0
"""How long a call to the proxy is repeated while it is being started again."""
AGAIN_S = 0.1
T = TypeVar("T")
OnEvent = Callable[[LedgerEvent], None]


class SidecarError(OperatingError):
    """The proxy does not start, or died too often."""


class Sidecar:
    """One run's proxy.

    Args:
        config: The settings of the proxy. Its control socket and its ready file are added here.
        short_dir: A private directory with a short path, for its sockets.
        on_event: Called for each event of the ledger, on the loop.
        on_dead: Called once, with the reason, if the proxy has died too often.
        log: Takes a line for a person.

    Attributes:
        base_url: The API base of its TCP listener; None if it has none, or before the start.
        served: It has become ready once. Before that it has no account and admits no call.
        not_opened: Accounts that the proxy refused to open.
    """

    def __init__(
        self,
        config: Config,
        short_dir: Path,
        on_event: OnEvent,
        on_dead: Callable[[str], None],
        log: Callable[[str], None],
    ) -> None:
        self._control, self._ready_file = short_dir / CONTROL_SOCKET, short_dir / "ready.json"
        self._config = replace(config, control=str(self._control), ready_file=str(self._ready_file))
        self._on_event = on_event
        self._on_dead = on_dead
        self._log = log
        self._accounts: dict[str, AccountSpec] = {}
        self.not_opened: set[str] = set()
        self._process: Process | None = None
        self._client: ControlClient | None = None
        self._tasks = Tasks()
        self._cursor = 0
        self._stopping = False
        self._dead: str | None = None
        self._started = asyncio.Event()
        self.served = False
        self.base_url: str | None = None

    @property
    def portal(self) -> str | None:
        """Where forwarders of portable gates connect, as `HOST:PORT`; None if it has no such address."""
        return self._config.portal

    async def start(self, *, portal_host: str | None = None) -> None:
        """Start the proxy and follow its events; it serves when this returns. Calls that are made meanwhile wait for that.

        Args:
            portal_host: The address where forwarders of portable gates connect; `portal` has the port afterwards.

        Raises:
            SidecarError: It did not become ready. The text has the last line of its log.
        """
        self._client = ControlClient(self._control)
        if portal_host is not None:
            self._config = replace(self._config, portal=f"{portal_host}:0")
        try:
            await self._launch()
            self.served = True
        except SidecarError as exc:
            self._dead = str(exc)
            raise
        finally:
            self._started.set()
        self._tasks.spawn(self._supervise(), "proxy")
        self._tasks.spawn(self._follow(), "proxy events")

    async def open(self, account_id: str, spec: AccountSpec) -> Balance:
        """Open an account, and again after each restart of the proxy.

        Raises:
            OperatingError: The proxy refused, or cannot be reached.
        """
        self._accounts[account_id] = spec
        try:
            return await self._repeat(lambda client: client.open(account_id, spec))
        except ControlError:
            del self._accounts[account_id]
            self.not_opened.add(account_id)
            raise

    async def balance(self, account_id: str) -> Balance:
        """Return the balance of an account. Raises as `open`."""
        return await self._repeat(lambda client: client.balance(account_id))

    async def freeze(self, account_id: str, reason: str) -> Balance:
        """Refuse new calls and end running streams; both have happened when this returns. Raises as `open`."""
        return await self._repeat(lambda client: client.freeze(account_id, reason))

    async def unfreeze(self, account_id: str) -> Balance:
        """Admit calls again. Raises as `open`."""
        return await self._repeat(lambda client: client.unfreeze(account_id))

    async def close(self, account_id: str, *, force: bool = False) -> Balance:
        """Let the proxy forget an account's key and token. Raises as `open`."""
        self._accounts.pop(account_id, None)
        return await self._repeat(lambda client: client.close_account(account_id, force=force))

    async def stop(self, *, within_s: float = STOP_S_MAX) -> Step:
        """End the proxy; `"ok"` if it ended by itself, `"unverified"` if it had to be killed; its ledger is on disk."""
        self._stopping = True
        await self._tasks.cancel()
        if self._client is not None:
            await self._client.close()
        if self._process is None or self._process.returncode is not None:
            return "ok"
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            return "unverified"
        return "ok"

    async def _launch(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with os.fdopen(os.open(self._config.data_dir / "proxy.log", flags, 0o600), "ab") as log:
            self._process = await own_process("preflight_proxy", config=msgspec.json.encode(self._config), stderr=log)
        try:
            ready = await until_ready(self._process, self._ready_file)
        except SidecarError as exc:
            raise SidecarError(f"{exc}: {self._last_words()}") from exc
        # Agents and forwarders have these addresses, so a restarted proxy must listen there again.
        self._config = replace(self._config, portal=ready.get("portal"))
        self.base_url = ready.get("base_url")
        if self.base_url is not None:
            self._config = replace(self._config, listen=self.base_url.removeprefix("http://").partition("/")[0])

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._config.data_dir / "proxy.log").read_text(errors="replace").splitlines()
            return (lines[-1] if lines else "its log is empty")[:500]
        return "it has no log"

    async def _supervise(self) -> None:
        """Start the proxy again whenever it ends, and give it its accounts back."""
        for restart in range(RESTARTS_MAX + 1):
            assert self._process is not None
            code = await self._process.wait()
            if self._stopping:
                return
            self._log(f"the proxy ended with {code}; starting it again")
            if restart == RESTARTS_MAX:
                break
            try:
                self._cursor = 0
                await self._launch()
                for account_id, spec in list(self._accounts.items()):
                    # A person may have topped it up.
                    await self.open(account_id, replace(spec, keep_limit=True))
            except OperatingError as exc:
                self._log(f"the proxy could not be started again: {exc}")
        self._dead = f"the proxy ended {RESTARTS_MAX + 1} times; the last time it said: {self._last_words()}"
        self._on_dead(self._dead)

    async def _follow(self) -> None:
        """Keep the control connection, without which the proxy freezes the accounts."""
        assert self._client is not None
        while self._dead is None:
            with contextlib.suppress(OperatingError):
                async for event in self._client.follow(self._config.run or "", self._cursor):
                    self._cursor = max(self._cursor, event.seq)
                    if event.type != "heartbeat":
                        self._on_event(event)
            await asyncio.sleep(AGAIN_S)

    async def _repeat(self, call: Callable[[ControlClient], Awaitable[T]]) -> T:
        """Make one call, and repeat it while nothing answers: the proxy may be starting. Every call may be repeated."""
        await self._started.wait()
        assert self._client is not None
        loop = asyncio.get_running_loop()
        until_s = loop.time() + ANSWER_S_MAX
        while True:
            if self._dead is not None:
                raise SidecarError(self._dead)
            try:
                return await call(self._client)
            except ControlUnreachableError:
                if loop.time() > until_s:
                    raise
            await asyncio.sleep(AGAIN_S)


async def own_process(module: str, *arguments: str, config: bytes = b"", stderr: BinaryIO | None = None) -> Process:
    """Start one of our own modules, without any key of ours in its environment, in a session of its own.

    Args:
        module: Run as `python -m MODULE`.
        arguments: Its arguments.
        config: Its standard input, complete.
        stderr: Where its log is written; our own stderr if None.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=stderr,
        env={name: value for name, value in child_environment().items() if name not in OUR_KEYS},
        start_new_session=True,
        umask=0o077,
    )
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(config)
        await process.stdin.drain()
    process.stdin.close()
    return process


async def until_ready(process: Process, ready_file: Path) -> dict[str, str]:
    """Return what a process writes into its ready file once it serves.

    Raises:
        SidecarError: It ended before, or was not ready in `READY_S_MAX` seconds and has been killed.
    """
    try:
        async with asyncio.timeout(READY_S_MAX):
            while not ready_file.exists():
                if process.returncode is not None:
                    raise SidecarError(f"a process of ours did not start (exit code {process.returncode})")
                await asyncio.sleep(READY_LOOK_S)
    except TimeoutError as exc:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise SidecarError(f"a process of ours is not ready after {READY_S_MAX:.0f} s") from exc
    ready: dict[str, str] = json.loads(ready_file.read_text())
    return ready
