"""Settles the ledger of a dead run by the usage that a management key reads (M13, void needs proof; M21, ledger file)."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from preflight_proxy.base.clock import Clock, SystemClock
from preflight_proxy.core.evidence.aftermath import EvidenceTimes, UnsettledAccount, settle, unsettled_account
from preflight_proxy.ledger.store import Store


class DeadLedger:
    """The ledger in the folder of a dead run. It is locked while the context lasts; at its end costs.jsonl has every entry.

    Args:
        folder: The run's.
        clocks: How long evidence takes.
        clock: The system's if None.

    Raises:
        LedgerError: A proxy has it, or it cannot be opened.
    """

    def __init__(self, folder: Path, clocks: EvidenceTimes, clock: Clock | None = None) -> None:
        self._clocks = clocks
        self._store = Store(folder / "ledger.sqlite3", durability="power", clock=clock or SystemClock())

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Complete costs.jsonl and release the ledger."""
        try:
            self._store.complete_costs()
        finally:
            self._store.close()

    def unsettled(self) -> list[UnsettledAccount]:
        """Return the accounts that are not settled yet; those first whose cost is known first."""
        accounts = (
            unsettled_account(account, self._store.pending(account.id), self._clocks)
            for account in self._store.state.accounts.values()
        )
        return sorted((account for account in accounts if account is not None), key=lambda account: account.known_at_s)

    def settle(self, account: UnsettledAccount, usage_pusd: int | None) -> None:
        """End the pending reservations of an account; see `core.evidence.aftermath.settle`.

        Raises:
            LedgerError: The ledger cannot be written; what was committed before stays.
        """
        for command in settle(account, usage_pusd):
            self._store.commit(command)
