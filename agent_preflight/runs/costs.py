"""What calls cost, from a run's ledger: its cost lines and their sums."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from agent_preflight.artifacts import trial_dirs
from agent_preflight.base.usd import pusd, usd
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.rows import Account, Entry
from preflight_proxy.ledger.reader import Snapshot, read_entries, read_snapshot, read_whole

LEDGER = "ledger.sqlite3"
TOKENS = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")


class CostSums(msgspec.Struct, frozen=True):
    """The sums of some cost lines; `cost_usd` is exact."""

    calls: int
    cost_usd: Decimal
    tokens: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the sums for machines."""
        return {"calls": self.calls, "cost_usd": format(self.cost_usd, "f"), **self.tokens}


def ledgers_of(data: Path) -> list[Path]:
    """Return the paths of a run's ledgers: its own, or those of trials that are runs by themselves.

    Raises:
        ConfigError: There is none.
    """
    candidates = [data / LEDGER, *(trial / LEDGER for trial in trial_dirs(data))]
    ledgers = [path for path in candidates if path.is_file()]
    if not ledgers:
        raise ConfigError(
            f"{data} is a file: name the folder that holds the ledger."
            if data.is_file()
            else f"{data} holds no ledger."
        )
    return ledgers


def read_ledgers(data: Path) -> list[tuple[Path, Snapshot, list[Entry]]]:
    """Return each ledger of a run: its folder, its accounts and quarantined endpoints, and its entries, which add up.

    Raises:
        ConfigError: There is none.
        LedgerError: One cannot be read, or does not balance.
    """
    return [(path.parent, *read_whole(path)) for path in ledgers_of(data)]


def accounts_of(data: Path) -> dict[str, Account]:
    """Return the accounts of a run by name. The time does not depend on the number of calls.

    Raises:
        ConfigError: There is no ledger.
        LedgerError: One cannot be read.
    """
    return {account.id: account for path in ledgers_of(data) for account in read_snapshot(path).accounts}


def entries_of(data: Path) -> Iterator[Entry]:
    """Yield the entries of a run's ledgers in order, without holding them all.

    Raises:
        ConfigError: There is no ledger.
        LedgerError: One cannot be read.
    """
    for ledger in ledgers_of(data):
        yield from read_entries(ledger)


def cost_lines(data: Path) -> Iterator[dict[str, Any]]:
    """Return an object for each ended reservation and each later entry, as in costs.jsonl. Raises as `entries_of`."""
    return (json.loads(entry.line) for entry in entries_of(data))


def sums_of(lines: Sequence[Mapping[str, Any]]) -> CostSums:
    """Return the sums of some lines. A call is a line of the agent that has a cost; a weighing is none: M3 (prompt tokens)."""
    return CostSums(
        calls=sum(line.get("outcome") in ("posted", "assumed") and not line.get("purpose") for line in lines),
        cost_usd=usd(sum(pusd(str(line["cost_usd"])) for line in lines)),
        tokens={name: sum(int(line.get(name) or 0) for line in lines) for name in TOKENS},
    )


def sums_by_account(lines: Sequence[Mapping[str, Any]]) -> dict[str, CostSums]:
    """Return each account's sums, sorted by its name."""
    by_account: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for line in lines:
        by_account[str(line["account"])].append(line)
    return {name: sums_of(by_account[name]) for name in sorted(by_account)}
