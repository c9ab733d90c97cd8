"""Reads the results of a run: the proxy's files, with its own SQL, and the simulator's report."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.torture.verdict import Account, Charge, Entry, Ledger, Reservation, UpstreamCall, billed_pusd

_ACCOUNTS = """SELECT id, limit_pusd, json_extract(document, '$.posted_pusd'), json_extract(document, '$.pending_pusd'),
    json_extract(document, '$.assumed_pusd'), json_extract(document, '$.overrun_pusd')
    FROM accounts JOIN projection ON account = id"""
_RESERVATIONS = """SELECT id, reservations.account,
    CASE kind WHEN 'voided' THEN 'voided' WHEN 'posted' THEN 'posted' WHEN 'assumed' THEN 'posted' ELSE 'pending' END,
    reserved_pusd, model, tags, coalesce(json_extract(line, '$.tag'), generations.tag, unknowns.tag, ''),
    ifnull(generation_id, ''), created_at_s, since_s, exposure_pusd
    FROM reservations LEFT JOIN generations USING (seq) LEFT JOIN unknowns USING (seq)
    LEFT JOIN entries ON reservation_id = id"""
_ENTRIES = """SELECT entry_id, ifnull(reservation_id, ''), account, kind, cost_pusd, at_s, line FROM entries ORDER BY entry_id"""


def read_ledger(
    data: Path, quarantined: frozenset[tuple[str, str]], cleared_s: Mapping[tuple[str, str], Sequence[float]]
) -> Ledger:
    """Return what the proxy wrote, which has stopped: its last projection has every entry."""
    connection = sqlite3.connect(f"file:{data / 'ledger.sqlite3'}?mode=ro", uri=True)
    try:
        accounts = [_account(data, *row) for row in connection.execute(_ACCOUNTS)]
        reservations = [_reservation(*row) for row in connection.execute(_RESERVATIONS)]
        entries = connection.execute(_ENTRIES).fetchall()
    finally:
        connection.close()
    lines = (data / "costs.jsonl").read_text().splitlines()
    return Ledger(
        accounts={each.id: each for each in accounts},
        reservations={each.id: each for each in reservations},
        entries=[Entry(*row[:6]) for row in entries],
        cost_lines_agree=lines == [row[6] for row in entries],
        quarantined=quarantined,
        cleared_s=cleared_s,
    )


def _account(data: Path, name: str, *amounts: int) -> Account:
    limit_pusd, posted_pusd, pending_pusd, assumed_pusd, overrun_pusd = amounts
    budget = _text(data / name / "budget.txt")
    return Account(name, limit_pusd, posted_pusd, pending_pusd, assumed_pusd, overrun_pusd, budget)


def _reservation(
    name: str, account: str, state: str, reserved_pusd: int, model: str, tags: str, *rest: Any
) -> Reservation:
    return Reservation(name, account, state, reserved_pusd, model, tuple(json.loads(tags)), *rest)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def read_bill(report: dict[str, Any]) -> list[Charge]:
    """Return the charges. A key has the name of its account."""
    return [
        Charge(row["id"], key["name"], billed_pusd(row["cost_usd"]))
        for key in report["bill"]["keys"].values()
        for row in key["generations"]
    ]


def read_seen(report: dict[str, Any]) -> list[UpstreamCall]:
    """Return the calls that reached upstream."""
    names = {key: row["name"] for key, row in report["bill"]["keys"].items()}
    return [
        UpstreamCall(
            row["id"],
            names.get(row["key"], ""),
            row["at_s"],
            row["hides"],
            row["lies"],
            tuple(row["faults"]),
            row["is_other"],
        )
        for row in report["seen"]
    ]
