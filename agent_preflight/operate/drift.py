"""What is posted for each account beside what OpenRouter has counted for its key: the difference, and what explains it (M23).

A key's figure lags, and some calls are pending or assumed. So the figure must lie between

    posted - assumed - what was posted within the lag before the figure was read
    posted + pending

and what lies outside, beyond the precision of the figure, is drift that nothing explains. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent_preflight.base.usd import pusd, usd
from preflight_proxy.core.evidence.evidence import KEY_USAGE_LAG_S
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint

TOLERANCE_PUSD = pusd("0.000001")
"""OpenRouter's figure for a key is rounded at about this."""
EXIT_DRIFT, EXIT_OVERRUN = 3, 4


@dataclass(frozen=True, slots=True)
class Figure:
    """What OpenRouter counted for a key, in all.

    Attributes:
        usage_pusd: The figure.
        read_at_s: When it was read, seconds since the epoch.
        source: `live`, or `summary` where a trial's end read it before the key was deleted.
    """

    usage_pusd: int
    read_at_s: float
    source: str


@dataclass(frozen=True, slots=True)
class Row:
    """One account's books, or the sum of them all.

    Attributes:
        account: Its name.
        posted_pusd: What the ledger has posted.
        entries_pusd: What its entries add up to: the same, unless the ledger is damaged.
        upstream_pusd: What OpenRouter counted since the account was opened; None where its key is shared or not to be read.
        recent_pusd: What was posted so shortly before that was read that it may not hold it yet.
        source: See `Figure`; empty without one.
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
        """The part of the drift that neither what is pending, assumed, nor the lag explains; 0 without a figure."""
        if self.upstream_pusd is None:
            return 0
        least_pusd = self.posted_pusd - self.assumed_pusd - self.recent_pusd
        most_pusd = self.posted_pusd + self.pending_pusd
        return max(self.upstream_pusd - most_pusd, 0) + min(self.upstream_pusd - least_pusd, 0)

    @property
    def balances(self) -> bool:
        """Whether the entries make up what is posted, to the pico-dollar, and the figure agrees, as far as it can."""
        return self.entries_pusd == self.posted_pusd and abs(self.unexplained_pusd) <= TOLERANCE_PUSD

    @property
    def verdict(self) -> str:
        """In a few words, what is to be thought of it."""
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
        drift_pusd, upstream_pusd = self.drift_pusd, self.upstream_pusd
        return {
            "account": self.account,
            "posted_usd": _exact(self.posted_pusd),
            "upstream_usd": None if upstream_pusd is None else _exact(upstream_pusd),
            "drift_usd": None if drift_pusd is None else _exact(drift_pusd),
            "unexplained_usd": _exact(self.unexplained_pusd),
            "pending_usd": _exact(self.pending_pusd),
            "assumed_usd": _exact(self.assumed_pusd),
            "overrun_usd": _exact(self.overrun_pusd),
            "source": self.source,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class Reconciled:
    """All accounts of a run, and the endpoints that are not used again."""

    rows: tuple[Row, ...]
    quarantined: tuple[QuarantinedEndpoint, ...] = ()

    @property
    def total(self) -> Row:
        """All accounts as one; OpenRouter's figure only if there is one for each of them."""
        told = [row.upstream_pusd for row in self.rows if row.upstream_pusd is not None]
        return Row(
            account="TOTAL",
            posted_pusd=sum(row.posted_pusd for row in self.rows),
            entries_pusd=sum(row.entries_pusd for row in self.rows),
            pending_pusd=sum(row.pending_pusd for row in self.rows),
            assumed_pusd=sum(row.assumed_pusd for row in self.rows),
            overrun_pusd=sum(row.overrun_pusd for row in self.rows),
            upstream_pusd=sum(told) if self.rows and len(told) == len(self.rows) else None,
            recent_pusd=sum(row.recent_pusd for row in self.rows),
        )

    @property
    def exit_code(self) -> int:
        """4 if upstream billed above a reservation, 3 if an account does not balance, else 0."""
        if any(row.overrun_pusd for row in self.rows):
            return EXIT_OVERRUN
        return 0 if all(row.balances for row in self.rows) else EXIT_DRIFT

    def to_json(self) -> dict[str, Any]:
        """Return everything for machines."""
        return {
            "tolerance_usd": _exact(TOLERANCE_PUSD),
            "lag_s": KEY_USAGE_LAG_S,
            "accounts": [row.to_json() for row in self.rows],
            "total": self.total.to_json(),
            "quarantined": [{"model": each.model, "tag": each.tag, "reason": each.reason} for each in self.quarantined],
            "exit_code": self.exit_code,
        }


def _exact(amount_pusd: int) -> str:
    return format(usd(amount_pusd), "f")
