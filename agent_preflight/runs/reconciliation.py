"""Compares accounts of a ledger with what OpenRouter has counted for their keys: M23 (two checks of the ledger). Pure.

OpenRouter's figure for a key lags, and some calls are pending or assumed. So it must lie between

    posted - assumed - what was posted within the lag before the figure was read
    posted + pending

What lies outside, by more than the figure's precision, is drift that nothing explains.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from agent_preflight.base.usd import exact, pusd
from agent_preflight.runs.status import exact_or_none
from preflight_proxy.core.evidence.evidence import KEY_USAGE_LAG_S
from preflight_proxy.core.ledger.rows import Account, QuarantinedEndpoint

TOLERANCE_PUSD = pusd("0.000001")
"""OpenRouter rounds its figure for a key at about this."""
EXIT_DRIFT, EXIT_OVERRUN = 3, 4
AMOUNTS = ("posted", "upstream", "drift", "unexplained", "pending", "assumed", "overrun")
"""The amounts of an account in the JSON output."""
SUMMED = ("posted_pusd", "entries_pusd", "pending_pusd", "assumed_pusd", "overrun_pusd", "recent_pusd")
"""The amounts that are summed for the total."""


class KeyFigure(msgspec.Struct, frozen=True):
    """OpenRouter's total usage of a key.

    Attributes:
        usage_pusd: The figure.
        read_at_s: When it was read, seconds since the epoch.
        source: `live`; `summary` if the runner read it at the trial's end, before it deleted the key.
    """

    usage_pusd: int
    read_at_s: float
    source: str


class ReconciledAccount(msgspec.Struct, frozen=True):
    """One account compared with OpenRouter's figure, or the sum of all accounts.

    Attributes:
        account: Its name.
        posted_pusd: What the ledger has posted.
        entries_pusd: The sum of its entries: the same, unless the ledger is damaged.
        upstream_pusd: What OpenRouter counted since the account was opened; None if its key is shared or cannot be read.
        recent_pusd: What was posted within the lag before that figure was read: the figure may lack it.
        source: That of the `KeyFigure`; empty without one.
    """

    account: str
    posted_pusd: int
    entries_pusd: int
    pending_pusd: int = 0
    assumed_pusd: int = 0
    overrun_pusd: int = 0
    upstream_pusd: int | None = None
    recent_pusd: int = 0
    source: str = ""

    @property
    def drift_pusd(self) -> int | None:
        """OpenRouter's figure minus what is posted."""
        return None if self.upstream_pusd is None else self.upstream_pusd - self.posted_pusd

    @property
    def unexplained_pusd(self) -> int:
        """The part of the drift that pending calls, assumed costs and the lag do not explain; 0 without a figure."""
        if self.upstream_pusd is None:
            return 0
        least_pusd = self.posted_pusd - self.assumed_pusd - self.recent_pusd
        most_pusd = self.posted_pusd + self.pending_pusd
        return max(self.upstream_pusd - most_pusd, 0) + min(self.upstream_pusd - least_pusd, 0)

    @property
    def balances(self) -> bool:
        """Whether the entries add up to what is posted, exactly, and the figure agrees within its precision."""
        return self.entries_pusd == self.posted_pusd and abs(self.unexplained_pusd) <= TOLERANCE_PUSD

    @property
    def verdict(self) -> str:
        """The result of the comparison, in a few words."""
        if self.entries_pusd != self.posted_pusd:
            return "the entries do not add up to what is posted"
        if self.drift_pusd is None:
            return "no figure: the key is shared, or is not to be read"
        if not self.balances:
            return "drift"
        if abs(self.drift_pusd) <= TOLERANCE_PUSD:
            return "balances"
        return "balances with what is pending, assumed, or posted within the figure's lag"

    def to_json(self) -> dict[str, Any]:
        """Return the row for machines; amounts are exact decimal text."""
        amounts = {f"{name}_usd": exact_or_none(getattr(self, f"{name}_pusd")) for name in AMOUNTS}
        return {"account": self.account, **amounts, "source": self.source, "verdict": self.verdict}


class Reconciliation(msgspec.Struct, frozen=True):
    """All accounts of a run, compared, and the quarantined endpoints."""

    rows: tuple[ReconciledAccount, ...]
    quarantined: tuple[QuarantinedEndpoint, ...] = ()

    @property
    def total(self) -> ReconciledAccount:
        """The sum of all accounts. It has OpenRouter's figure only if each account has one."""
        figures = [row.upstream_pusd for row in self.rows if row.upstream_pusd is not None]
        sums = {name: sum(getattr(row, name) for row in self.rows) for name in SUMMED}
        upstream_pusd = sum(figures) if self.rows and len(figures) == len(self.rows) else None
        return ReconciledAccount("TOTAL", upstream_pusd=upstream_pusd, source="", **sums)

    @property
    def exit_code(self) -> int:
        """4 if upstream billed above a reservation, 3 if an account does not balance, else 0."""
        if any(row.overrun_pusd for row in self.rows):
            return EXIT_OVERRUN
        return 0 if all(row.balances for row in self.rows) else EXIT_DRIFT

    def to_json(self) -> dict[str, Any]:
        """Return everything for machines."""
        return {
            "tolerance_usd": exact(TOLERANCE_PUSD),
            "lag_s": KEY_USAGE_LAG_S,
            "accounts": [row.to_json() for row in self.rows],
            "total": self.total.to_json(),
            "quarantined": [{"model": each.model, "tag": each.tag, "reason": each.reason} for each in self.quarantined],
            "exit_code": self.exit_code,
        }


def summary_figure(summary: Mapping[str, Any] | None) -> KeyFigure | None:
    """Return the figure in a trial's summary, which the runner read at its end; None without one."""
    match summary:
        case {"finished_at": str(finished_at), "preflight": {"key_usage_usd": str(text)}}:
            with contextlib.suppress(InvalidOperation, ValueError):
                usage, read_at_s = Decimal(text[:40]), datetime.fromisoformat(finished_at).timestamp()
                if usage.is_finite():
                    return KeyFigure(pusd(usage), read_at_s, "summary")
    return None


def reconcile_account(
    account: Account, costs: Iterable[tuple[float, int]], figure: KeyFigure | None
) -> ReconciledAccount:
    """Compare an account with its key's figure. That of a key which other accounts or programs use is ignored.

    Args:
        account: The account.
        costs: When each of its entries was posted (seconds since the epoch), and its signed amount in pico-USD.
        figure: OpenRouter's; None if it is not known.
    """
    entries = list(costs)
    figure = figure if account.key_is_own else None
    since_s = None if figure is None else figure.read_at_s - KEY_USAGE_LAG_S
    return ReconciledAccount(
        account=account.id,
        posted_pusd=account.posted_pusd,
        entries_pusd=sum(cost_pusd for _, cost_pusd in entries),
        pending_pusd=account.pending_pusd,
        assumed_pusd=account.assumed_pusd,
        overrun_pusd=account.overrun_pusd,
        upstream_pusd=None if figure is None else figure.usage_pusd - (account.key_usage_base_pusd or 0),
        recent_pusd=sum(max(cost_pusd, 0) for at_s, cost_pusd in entries if since_s is not None and at_s > since_s),
        source="" if figure is None else figure.source,
    )
