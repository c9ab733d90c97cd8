"""Settles the last calls of a dead run from the usage of its sub-keys: M13 (a void needs proof), M21 (the ledger file).

The proxy that had the sub-keys' secrets is dead, but the management key still reads their usage. So a key is deleted only after
its usage includes every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from agent_preflight.base.usd import pusd
from agent_preflight.runs.costs import LEDGER
from preflight_proxy.base.clock import Clock, SystemClock
from preflight_proxy.core.errors import LedgerInUseError
from preflight_proxy.core.evidence.aftermath import EvidenceTimes, UnsettledAccount
from preflight_proxy.ledger.dead import DeadLedger

CLOSE_S_MAX = 10.0
"""A proxy that has closed its sockets may still be writing the ledger."""
LOOK_EVERY_S = 0.1

Usages = Callable[[], Mapping[str, Decimal | None]]
"""Reads what OpenRouter has counted, by the key's hash; None where it gave no figure. Raises UpstreamError."""


@dataclass(frozen=True, slots=True)
class UnsettledReport:
    """An account of which something is open still.

    Attributes:
        key_hash: The hash of its sub-key, whose usage is still needed.
        account: Its name.
        known_at_s: When that usage will tell, seconds since the epoch.
    """

    key_hash: str
    account: str
    known_at_s: float

    @property
    def note(self) -> str:
        """For a person: what is waited for."""
        at = datetime.fromtimestamp(self.known_at_s, UTC)
        return f"kept for its figure: what its last calls cost is known from {at:%H:%M:%S} UTC on; sweep again then"


async def settle_ledger(run_dir: Path, usages: Usages, clocks: EvidenceTimes, wait_s: float) -> list[UnsettledReport]:
    """Settle the pending calls of a dead run's ledger whose evidence is due; returns the accounts that are not settled.

    Args:
        run_dir: Its folder, which must be locked.
        usages: Reads the usage of all keys.
        clocks: How long evidence takes.
        wait_s: How long to wait for evidence at most.

    Raises:
        LedgerError: The ledger cannot be used.
        UpstreamError: The figures cannot be read.
    """
    if not (run_dir / LEDGER).is_file():
        return []
    clock = SystemClock()
    until_s = clock.epoch_s() + wait_s
    with await _opened(run_dir, clocks, clock) as ledger:
        while unsettled := ledger.loose_ends():
            if unsettled[0].known_at_s > until_s:
                break
            await asyncio.sleep(max(unsettled[0].known_at_s - clock.epoch_s(), 0.0))
            due = [each for each in unsettled if each.known_at_s <= clock.epoch_s()]
            if due and not _settle(ledger, due, await asyncio.to_thread(usages)):
                break
        return [
            UnsettledReport(each.account.key_hash, each.account.id, each.known_at_s) for each in ledger.loose_ends()
        ]


async def _opened(run_dir: Path, clocks: EvidenceTimes, clock: Clock) -> DeadLedger:
    """Open the ledger. A proxy that is ending may hold it for some seconds."""
    until_s = clock.monotonic_s() + CLOSE_S_MAX
    while True:
        try:
            return DeadLedger(run_dir, clocks, clock)
        except LedgerInUseError:
            if clock.monotonic_s() > until_s:
                raise
        await asyncio.sleep(LOOK_EVERY_S)


def _settle(ledger: DeadLedger, due: list[UnsettledAccount], usages: Mapping[str, Decimal | None]) -> bool:
    """Settle the accounts whose key has a usage figure, or whose key is gone; False if there was none."""
    decided = [each for each in due if usages.get(each.account.key_hash, Decimal(0)) is not None]
    for each in decided:
        usage = usages.get(each.account.key_hash)
        ledger.settle(each, None if usage is None else pusd(usage))
    return bool(decided)
