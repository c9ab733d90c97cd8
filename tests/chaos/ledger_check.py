"""Compares the ledger of a run with the simulator's bill, account by account."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from agent_preflight.runs.costs import LEDGER
from openrouter_sim.billing.account import Bill
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.ledger.reader import read_snapshot

PUSD = Decimal(10) ** 12


def ledger_problems(run_dir: Path, bill: Bill) -> tuple[list[str], int]:
    """Return the differences, and how many accounts agree only within their assumed cost."""
    if not (run_dir / LEDGER).exists():
        return [], 0
    names: dict[str, list[str]] = {}
    for trial in json.loads((run_dir / "plan.json").read_text())["trials"]:
        names.setdefault(trial["alias"], []).append(trial["key_name"])
    problems, doubts = [], 0
    for account in read_snapshot(run_dir / LEDGER).accounts:
        billed_pusd = sum(
            int(key.total_usd * PUSD) for key in bill.keys.values() if key.name in names.get(account.id, [])
        )
        doubts += billed_pusd != account.posted_pusd
        problems += [f"account {account.id}: {text}" for text in _differences(account, billed_pusd)]
    return problems, doubts


def _differences(account: Account, billed_pusd: int) -> list[str]:
    differences = []
    if account.pending_pusd:
        differences.append(f"{account.pending_pusd} stays pending")
    if not account.posted_pusd - account.assumed_pusd <= billed_pusd <= account.posted_pusd:
        differences.append(
            f"upstream billed {billed_pusd}, the ledger has {account.posted_pusd} posted, {account.assumed_pusd} assumed"
        )
    if billed_pusd > account.limit_pusd:
        differences.append(f"upstream billed {billed_pusd}, more than its limit {account.limit_pusd}")
    return differences
