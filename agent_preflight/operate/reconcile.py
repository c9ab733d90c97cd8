"""Reconciles a run's ledgers with OpenRouter's figures, read from its folder and, with a management key, from OpenRouter."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import pusd
from agent_preflight.openrouter.http import Key
from agent_preflight.provision import list_keys
from agent_preflight.runs.costs import read_ledgers
from agent_preflight.runs.reconciliation import (
    KeyFigure,
    ReconciledAccount,
    Reconciliation,
    reconcile_account,
    summary_figure,
)
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint


def reconcile_folder(data: Path, admin_key: Key | None = None, base_url: str | None = None) -> Reconciliation:
    """Reconcile the folder of a run or of a stand-alone proxy, whether its proxy runs or not.

    With a management key, the figures of keys that exist are read from OpenRouter. For the others, the figure in the trial's
    summary is used.

    Raises:
        ConfigError: There is no ledger.
        LedgerError: One cannot be read.
        UpstreamError: The list of keys cannot be read.
    """
    live = {} if admin_key is None else _live_figures(admin_key, base_url)
    rows, quarantined = list[ReconciledAccount](), dict[tuple[str, str, str], QuarantinedEndpoint]()
    for folder, snapshot, entries in read_ledgers(data):  # after the figures, so a call that ends in between is in it
        quarantined |= {(each.upstream, each.model, each.tag): each for each in snapshot.quarantined}
        for account in snapshot.accounts:
            costs = ((entry.at_s, entry.cost_pusd) for entry in entries if entry.account == account.id)
            figure = live.get(account.key_hash) or folder_figure(folder, account.id)
            rows.append(reconcile_account(account, costs, figure))
    return Reconciliation(
        tuple(sorted(rows, key=lambda row: row.account)), tuple(quarantined[key] for key in sorted(quarantined))
    )


def _live_figures(admin_key: Key, base_url: str | None) -> dict[str, KeyFigure]:
    """Return the figures of all keys that exist, by the key's hash."""
    read_at_s = datetime.now(UTC).timestamp()
    return {
        key.hash: KeyFigure(pusd(key.usage_usd), read_at_s, "live")
        for key in list_keys(admin_key, base_url)
        if key.usage_usd is not None
    }


def folder_figure(folder: Path, account_id: str) -> KeyFigure | None:
    """Return the figure in the trial's summary. A trial's folder has its account's name, or is the ledger's own folder."""
    trials = [folder / account_id] if Path(account_id).name == account_id else []
    figures = (summary_figure(read_json_object(trial, "summary.json")) for trial in (*trials, folder))
    return next(filter(None, figures), None)
