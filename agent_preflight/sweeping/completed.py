"""A summary that was written before it was known what the last calls cost, completed once it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from agent_preflight.base.usd import pusd, usd
from agent_preflight.runs.result import exact
from agent_preflight.runs.trial_state import CleanUp
from preflight_proxy.base.control_messages import Balance

SETTLED_LATE = "what its last calls cost was found out by a sweep, after its end"


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of an account.

    Attributes:
        balance: As it stands; None if there never was one.
        spent_before_pusd: What was posted before the last attempt.
    """

    balance: Balance | None = None
    spent_before_pusd: int = 0


def completed(summary: Mapping[str, Any], known: Known, usage: Decimal | None) -> dict[str, Any] | None:
    """Return a summary whose trial was not settled at its end with the figures of now; None if there is nothing to complete.

    Args:
        summary: As it stands on disk.
        known: What the ledger knows of the account.
        usage: What OpenRouter had counted for the sub-key before it was deleted, dollars; None if it was not told.
    """
    extra, balance = _object(summary.get("preflight")), known.balance
    cleanup = _object(extra.get("cleanup"))
    if balance is None or balance.pending_pusd:
        return None
    late = [step.value for step in (CleanUp.SETTLE, CleanUp.ACCOUNT, CleanUp.SUB_KEY) if not _ok(cleanup, step)]
    if not late:
        return None
    figures = _figures(balance, usage, known.spent_before_pusd)
    steps = {**cleanup, **dict.fromkeys(late, "ok")}
    warnings = [*_texts(extra.get("warnings")), SETTLED_LATE]
    return {
        **summary,
        "cost_usd": float(usd(balance.posted_pusd)),
        "preflight": {**extra, **figures, "warnings": warnings, "cleanup": steps},
    }


def _ok(cleanup: Mapping[str, Any], step: CleanUp) -> bool:
    return str(cleanup.get(step.value, "ok")) == "ok"


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _figures(balance: Balance, usage: Decimal | None, spent_before_pusd: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "posted_usd": exact(balance.posted_pusd),
        "pending_usd": exact(balance.pending_pusd),
        "assumed_usd": exact(balance.assumed_pusd),
        "overrun_usd": exact(balance.overrun_pusd),
        "calls": balance.calls,
    }
    if usage is not None:
        figures["key_usage_usd"] = format(usage.normalize(), "f")
        figures["drift_usd"] = exact(pusd(usage) + spent_before_pusd - balance.posted_pusd)
    return figures


def _texts(value: object) -> list[object]:
    return value if isinstance(value, list) else []
