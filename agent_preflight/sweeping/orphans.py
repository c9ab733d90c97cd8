"""The proxy of a dead run: it outlives its runner, because it may be the only one that learns what the last calls cost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_preflight.base.usd import usd
from agent_preflight.runs.folder import going_on
from agent_preflight.runs.lock import RunState, lock_if_dead
from agent_preflight.sandboxes import strays
from agent_preflight.sidecar.control_client import ControlClient, ControlUnreachableError
from agent_preflight.sweeping.leftovers import leftovers_of
from agent_preflight.sweeping.report import SweepReport
from preflight_proxy.core.errors import ConfigError, OperatingError

PROXY_END_S_MAX = 35.0
"""A proxy gives running streams 30 s after SIGTERM; those of a dead run were cut before."""
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class OrphanProxy:
    """A proxy without a runner.

    Attributes:
        name: Its process id; its socket where it does not tell that.
        gone: It is seen to have ended; with `dry_run`, it can be ended.
        note: Why it is still there.
    """

    name: str
    gone: bool
    note: str = ""


async def end_orphan(socket: Path, settle_s: float, *, dry_run: bool) -> OrphanProxy | None:
    """End a proxy that outlived its runner, once it knows what its calls cost; None if nobody listens.

    Args:
        socket: Its control socket.
        settle_s: How long it may take to find out.
        dry_run: Only look.
    """
    client = ControlClient(socket)
    try:
        pid = (await client.health()).pid
        return OrphanProxy(str(pid), gone=True) if dry_run else await _end(client, pid, settle_s)
    except ControlUnreachableError:
        return None
    except (OperatingError, ProcessLookupError) as exc:
        return OrphanProxy(str(socket), gone=False, note=str(exc))
    finally:
        await client.close()


async def _end(client: ControlClient, pid: int, settle_s: float) -> OrphanProxy:
    await client.stop(None)
    if pending_pusd := await _settle(client, settle_s):
        note = f"still finding out what ${usd(pending_pusd):f} of calls cost; sweep again in a few minutes"
        return OrphanProxy(str(pid), gone=False, note=note)
    os.kill(pid, signal.SIGTERM)
    return OrphanProxy(str(pid), gone=await _until_silent(client), note="")


async def _settle(client: ControlClient, settle_s: float) -> int:
    """Wait until nothing is pending, or the time is over; returns what is.

    A proxy that was started again when its runner died never got the keys back: what is pending there it cannot find out.
    """
    until_s = time.monotonic() + settle_s
    while True:
        pending_pusd = sum(balance.pending_pusd for balance in await client.accounts() if balance.keyed)
        if not pending_pusd or time.monotonic() > until_s:
            return pending_pusd
        await asyncio.sleep(LOOK_EVERY_S)


async def _until_silent(client: ControlClient) -> bool:
    """Wait until nobody answers on a control socket; False if that takes too long."""
    until_s = time.monotonic() + PROXY_END_S_MAX
    while time.monotonic() < until_s:
        try:
            await client.health()
        except ControlUnreachableError:
            return True
        await asyncio.sleep(LOOK_EVERY_S)
    return False


SETTLE_S_MAX = 240.0
"""How long the earlier proxy may take to find out what its last calls cost (M17): only it has the keys to ask with."""
IN_THE_WAY = frozenset({"agent", "gate", "proxy"})


async def end_orphans(run_dir: Path, aliases: Sequence[str], say: Callable[[str], None]) -> None:
    """End the agents and the proxy that outlived a run's runner; what the agents spent is settled when this returns.

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
        orphan = None if control is None else await end_orphan(control.socket, SETTLE_S_MAX, dry_run=False)
    if orphan is None:
        return
    if not orphan.gone:
        raise ConfigError(f"The proxy {orphan.name} of {run_dir.name} is still there: {orphan.note}")
    say(f"ended the proxy {orphan.name}, which had outlived its runner")


async def _end_agent(run_dir: Path, alias: str, say: Callable[[str], None]) -> None:
    count, step = await strays.end_orphans(run_dir / alias / "budget" / "budget.txt")
    if step == "failed":
        raise ConfigError(f"The agent {alias} of {run_dir.name} outlived its runner and could not be ended.")
    if count:
        say(f"[{alias}] ended the agent, which had outlived its runner")


def check_gone(run_dir: Path, swept: SweepReport) -> None:
    """Accept that nothing of the run acts any more.

    Raises:
        ConfigError: Something could not be seen to be gone.
    """
    there = [item.line() for item in swept.left if item.kind in IN_THE_WAY and item.run_dir == run_dir.resolve()]
    if there:
        raise ConfigError(f"The run {run_dir.name} cannot go on while this is still there: {'; '.join(there)}")
