"""Settles the last calls of a dead run from the usage of its sub-keys, then deletes the keys: M13 (a void needs proof).

The proxy that had the sub-keys' secrets is dead, but the management key still reads their usage. So a key is deleted only after
its usage includes every call. Keys are found by the names in a dead run's plan: C15 (what a sweep removes).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from agent_preflight.base.usd import pusd
from agent_preflight.openrouter.http import Key
from agent_preflight.openrouter.subkeys import KeyInfo, delete_sub_key, list_keys
from agent_preflight.runs.costs import LEDGER
from agent_preflight.runs.folder import write_private
from agent_preflight.sweeping.run_folders import SWEPT_FILE, swept_keys
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.core.errors import LedgerInUseError
from preflight_proxy.core.evidence.aftermath import EvidenceTimes, UnsettledAccount
from preflight_proxy.ledger.dead import DeadLedger

NOT_DELETED = "not seen to be deleted"
CLOSE_S_MAX = 10.0
"""A proxy that has closed its sockets may still be writing the ledger."""
SWEEP_LOCK_LOOK_S = 0.1

Usages = Callable[[], Mapping[str, Decimal | None]]
"""Reads what OpenRouter has counted, by the key's hash; None where it gave no figure. Raises UpstreamError."""


async def settle_ledger(run_dir: Path, usages: Usages, clocks: EvidenceTimes, wait_s: float) -> dict[str, str]:
    """Settle the pending calls of a dead run's ledger whose evidence is due.

    Args:
        run_dir: Its folder, which must be locked.
        usages: Reads the usage of all keys.
        clocks: How long evidence takes.
        wait_s: How long to wait for evidence at most.

    Returns:
        The hashes of the keys whose usage is still needed, with a sentence that says until when.

    Raises:
        LedgerError: The ledger cannot be used.
        UpstreamError: The figures cannot be read.
    """
    if not (run_dir / LEDGER).is_file():
        return {}
    clock = SystemClock()
    until_s = clock.epoch_s() + wait_s
    with await _open_ledger(run_dir, clocks) as ledger:
        while unsettled := ledger.unsettled():
            if unsettled[0].known_at_s > until_s:
                break
            await asyncio.sleep(max(unsettled[0].known_at_s - clock.epoch_s(), 0.0))
            due = [account for account in unsettled if account.known_at_s <= clock.epoch_s()]
            if due and not _settle(ledger, due, await asyncio.to_thread(usages)):
                break
        return {each.account.key_hash: _reason_to_keep(each) for each in ledger.unsettled()}


async def _open_ledger(run_dir: Path, clocks: EvidenceTimes) -> DeadLedger:
    """Open the ledger. A proxy that is ending may hold it for some seconds."""
    until_s = time.monotonic() + CLOSE_S_MAX
    while True:
        try:
            return DeadLedger(run_dir, clocks)
        except LedgerInUseError:
            if time.monotonic() > until_s:
                raise
        await asyncio.sleep(SWEEP_LOCK_LOOK_S)


def _settle(ledger: DeadLedger, due: list[UnsettledAccount], usages: Mapping[str, Decimal | None]) -> bool:
    """Settle the accounts whose key has a usage figure, or whose key is gone; False if there was none."""
    decided = [each for each in due if usages.get(each.account.key_hash, Decimal(0)) is not None]
    for each in decided:
        usage = usages.get(each.account.key_hash)
        ledger.settle(each, None if usage is None else pusd(usage))
    return bool(decided)


def _reason_to_keep(unsettled: UnsettledAccount) -> str:
    at = datetime.fromtimestamp(unsettled.known_at_s, UTC)
    return f"kept for its figure: what its last calls cost is known from {at:%H:%M:%S} UTC on; sweep again then"


class KeyDeletions(msgspec.Struct, frozen=True):
    """The sub-keys of one run after a sweep.

    Attributes:
        gone: Names of keys that OpenRouter does not have, with the dollars that it had counted for each; None for one that
            it did not have before.
        left: Names of the other keys, with why they are there.
    """

    gone: dict[str, Decimal | None] = {}
    left: dict[str, str] = {}

    @property
    def deleted(self) -> list[str]:
        """Names of those that this sweep deleted."""
        return [name for name, usage in self.gone.items() if usage is not None]


class SubKeys:
    """The sub-keys of one OpenRouter account, as last listed.

    Args:
        admin_key: A management key.
        base_url: The API's base, where not the usual one.
        dry_run: Delete nothing.

    Raises:
        UpstreamError: They cannot be listed.
    """

    def __init__(self, admin_key: Key, base_url: str | None, *, dry_run: bool) -> None:
        self._admin_key, self._base_url, self._dry_run = admin_key, base_url, dry_run
        self._keys: list[KeyInfo] = []
        self.usages()

    def usages(self) -> dict[str, Decimal | None]:
        """List the keys again and return the usage of each, by its hash.

        Raises:
            UpstreamError: They cannot be listed.
        """
        self._keys = list_keys(self._admin_key, self._base_url)
        return {key.hash: key.usage_usd for key in self._keys}

    def delete(self, names: Sequence[str], needed: Mapping[str, str]) -> KeyDeletions:
        """Delete the keys of these names; with `dry_run`, only say which exist.

        Args:
            names: Of the keys.
            needed: Hashes of keys that stay, because their usage is still needed, with why.
        """
        deletions = KeyDeletions()
        for name in names:
            keys = [key for key in self._keys if key.name == name]
            if reasons := [needed[key.hash] for key in keys if key.hash in needed]:
                deletions.left[name] = reasons[0]
            elif all(self._delete(key) for key in keys):
                deletions.gone[name] = sum((key.usage_usd or Decimal(0) for key in keys), Decimal(0)) if keys else None
            else:
                deletions.left[name] = NOT_DELETED
        return deletions

    def _delete(self, key: KeyInfo) -> bool:
        return self._dry_run or delete_sub_key(self._admin_key, key.hash, self._base_url)


def record_deletions(run_dir: Path, deletions: KeyDeletions) -> None:
    """Record the keys that are gone, so that later sweeps skip them, and what was counted for them, as evidence."""
    if not deletions.gone:
        return
    at = datetime.now(UTC).isoformat()
    records = {
        name: {"usage_usd": None if usage is None else format(usage, "f"), "read_at": at}
        for name, usage in deletions.gone.items()
    }
    write_private(run_dir / SWEPT_FILE, {"keys": {**swept_keys(run_dir), **records}})
