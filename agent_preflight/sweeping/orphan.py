"""The proxy of a dead run: it outlives its runner, because it may be the only one that learns what the last calls cost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from agent_preflight.base.usd import usd
from agent_preflight.sidecar.control_client import ControlClient, ControlUnreachableError
from preflight_proxy.core.errors import OperatingError

PROXY_END_S_MAX = 35.0
"""A proxy gives running streams 30 s after SIGTERM; those of a dead run were cut before."""
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Orphan:
    """A proxy without a runner.

    Attributes:
        name: Its process id; its socket where it does not tell that.
        gone: It is seen to have ended; with `dry_run`, it can be ended.
        note: Why it is still there.
    """

    name: str
    gone: bool
    note: str = ""


async def end_orphan(socket: Path, settle_s: float, *, dry_run: bool) -> Orphan | None:
    """End a proxy that outlived its runner, once it knows what its calls cost; None if nobody listens.

    Args:
        socket: Its control socket.
        settle_s: How long it may take to find out.
        dry_run: Only look.
    """
    client = ControlClient(socket)
    try:
        pid = (await client.health()).pid
        return Orphan(str(pid), gone=True) if dry_run else await _end(client, pid, settle_s)
    except ControlUnreachableError:
        return None
    except (OperatingError, ProcessLookupError) as exc:
        return Orphan(str(socket), gone=False, note=str(exc))
    finally:
        await client.close()


async def _end(client: ControlClient, pid: int, settle_s: float) -> Orphan:
    await client.stop(None)
    if pending_pusd := await _settle(client, settle_s):
        note = f"still finding out what ${usd(pending_pusd):f} of calls cost; sweep again in a few minutes"
        return Orphan(str(pid), gone=False, note=note)
    os.kill(pid, signal.SIGTERM)
    return Orphan(str(pid), gone=await _until_silent(client), note="")


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
