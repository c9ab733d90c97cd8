"""Ends the processes of a dead run: its proxy, and the agents of the process sandbox.

A proxy outlives its runner, because only it has the keys to find out what the last calls cost. Before a run is resumed, its
orphans are ended: else an agent would run twice, or two proxies would use one ledger.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from agent_preflight.base.usd import usd
from agent_preflight.runs.folder import RunState, going_on, lock_if_dead
from agent_preflight.sandboxes.process import end_orphan_processes
from agent_preflight.sidecar.control_client import ControlClient, ControlUnreachableError
from agent_preflight.sweeping.run_folders import leftovers_of
from preflight_proxy.core.errors import ConfigError, OperatingError

PROXY_END_S_MAX = 35.0
"""A proxy gives running streams 30 s after SIGTERM; those of a dead run were cut before."""
SETTLED_LOOK_EVERY_S = 0.1


class OrphanProxy(msgspec.Struct, frozen=True):
    """A proxy whose runner died.

    Attributes:
        name: Its process id; its socket if that is not known.
        gone: It has ended; with `dry_run`, it can be ended.
        note: Why it is still there.
    """

    name: str
    gone: bool
    note: str = ""


async def end_orphan(socket: Path, settle_s: float, *, dry_run: bool) -> OrphanProxy | None:
    """End the proxy of a dead run, once no cost is pending. Returns None if no proxy listens.

    Args:
        socket: Its control socket.
        settle_s: How long to wait until no cost is pending.
        dry_run: Only look.
    """
    try:
        async with ControlClient(socket) as client:
            pid = (await client.health()).pid
            return OrphanProxy(str(pid), gone=True) if dry_run else await _end(client, pid, settle_s)
    except ControlUnreachableError:
        return None
    except (OperatingError, ProcessLookupError) as exc:
        return OrphanProxy(str(socket), gone=False, note=str(exc))


async def _end(client: ControlClient, pid: int, settle_s: float) -> OrphanProxy:
    await client.stop(None)
    if pending_pusd := await _settle(client, settle_s):
        note = f"still finding out what ${usd(pending_pusd):f} of calls cost; sweep again in a few minutes"
        return OrphanProxy(str(pid), gone=False, note=note)
    os.kill(pid, signal.SIGTERM)
    return OrphanProxy(str(pid), gone=await _until_silent(client))


async def _settle(client: ControlClient, settle_s: float) -> int:
    """Wait until nothing is pending, for at most `settle_s`; returns what is pending then.

    Accounts without a key are not counted: a proxy that restarted after its runner's death has no keys to find out with.
    """
    until_s = time.monotonic() + settle_s
    while True:
        pending_pusd = sum(balance.pending_pusd for balance in await client.accounts() if balance.keyed)
        if not pending_pusd or time.monotonic() > until_s:
            return pending_pusd
        await asyncio.sleep(SETTLED_LOOK_EVERY_S)


async def _until_silent(client: ControlClient) -> bool:
    """Wait until the control socket does not answer; False if that takes too long."""
    until_s = time.monotonic() + PROXY_END_S_MAX
    while time.monotonic() < until_s:
        try:
            await client.health()
        except ControlUnreachableError:
            return True
        await asyncio.sleep(SETTLED_LOOK_EVERY_S)
    return False


ORPHAN_SETTLE_S_MAX = 240.0
"""How long the earlier proxy may take to find out what its last calls cost (M17, how long an answer is read)."""


async def end_orphans(run_dir: Path, aliases: Sequence[str], say: Callable[[str], None]) -> None:
    """End the agents and the proxy of a run that is to be resumed. Afterwards, what the agents spent is settled.

    Raises:
        ConfigError: The run is alive, or something of it could not be ended.
    """
    run_dir = run_dir.resolve()
    with lock_if_dead(run_dir) as state:
        if state is RunState.LIVE:
            raise ConfigError(going_on(run_dir))
        if state is RunState.UNREADABLE:
            return  # opening the folder says why
        for alias in aliases:
            await _end_agent(run_dir, alias, say)
        control = leftovers_of(run_dir).control
        orphan = None if control is None else await end_orphan(control.socket, ORPHAN_SETTLE_S_MAX, dry_run=False)
    if orphan is None:
        return
    if not orphan.gone:
        raise ConfigError(f"The proxy {orphan.name} of {run_dir.name} is still there: {orphan.note}")
    say(f"ended the proxy {orphan.name}, which had outlived its runner")


async def _end_agent(run_dir: Path, alias: str, say: Callable[[str], None]) -> None:
    count, step = await end_orphan_processes(run_dir / alias / "budget" / "budget.txt")
    if step == "failed":
        raise ConfigError(f"The agent {alias} of {run_dir.name} outlived its runner and could not be ended.")
    if count:
        say(f"[{alias}] ended the agent, which had outlived its runner")
