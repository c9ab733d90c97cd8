"""Whether a run's books balance: its ledgers, read beside their proxy, against what OpenRouter has counted for the keys (M23)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import pusd
from agent_preflight.openrouter.http import Key
from agent_preflight.operate.drift import Figure, Reconciled, Row
from agent_preflight.provision import list_keys
from agent_preflight.runs.costs import RunLedger, read_ledgers
from preflight_proxy.core.evidence.evidence import KEY_USAGE_LAG_S
from preflight_proxy.core.ledger.rows import Account


def reconcile(ledgers: Sequence[RunLedger], figures: Mapping[tuple[Path, str], Figure]) -> Reconciled:
    """Compare the books with OpenRouter's figures.

    Args:
        ledgers: As they stand.
        figures: By a ledger's folder and an account of it. For an account whose key is not its own it is no evidence.
    """
    rows = [
        _row(account, ledger, figures.get((ledger.folder, account.id)))
        for ledger in ledgers
        for account in ledger.accounts
    ]
    quarantined = {(each.upstream, each.model, each.tag): each for ledger in ledgers for each in ledger.quarantined}
    rows.sort(key=lambda row: row.account)
    return Reconciled(tuple(rows), tuple(quarantined[key] for key in sorted(quarantined)))


def reconcile_folder(data: Path, admin_key: Key | None = None, base_url: str | None = None) -> Reconciled:
    """Reconcile a run's folder, or that of a stand-alone proxy, whether its proxy still runs or not.

    Keys that still exist are read now, if there is a management key to read them with; of the others, the figure counts that
    the trial's end has read.

    Raises:
        ConfigError: There is no ledger.
        LedgerError: One cannot be read.
        UpstreamError: The list of keys cannot be read.
    """
    live = {} if admin_key is None else _live_figures(admin_key, base_url)
    ledgers = read_ledgers(data)  # after the figures: a call that ends in between is then in the books
    figures: dict[tuple[Path, str], Figure] = {}
    for ledger in ledgers:
        for account in ledger.accounts:
            figure = live.get(account.key_hash) or _summary_figure(ledger.folder, account.id)
            if figure is not None:
                figures[ledger.folder, account.id] = figure
    return reconcile(ledgers, figures)


def _row(account: Account, ledger: RunLedger, figure: Figure | None) -> Row:
    entries = [entry for entry in ledger.entries if entry.account == account.id]
    if not account.key_is_own:
        figure = None
    since_s = None if figure is None else figure.read_at_s - KEY_USAGE_LAG_S
    return Row(
        account=account.id,
        posted_pusd=account.posted_pusd,
        entries_pusd=sum(entry.cost_pusd for entry in entries),
        pending_pusd=account.pending_pusd,
        assumed_pusd=account.assumed_pusd,
        overrun_pusd=account.overrun_pusd,
        upstream_pusd=None if figure is None else figure.usage_pusd - (account.key_usage_base_pusd or 0),
        recent_pusd=sum(max(entry.cost_pusd, 0) for entry in entries if since_s is not None and entry.at_s > since_s),
        source="" if figure is None else figure.source,
    )


def _live_figures(admin_key: Key, base_url: str | None) -> dict[str, Figure]:
    """The figures of all keys that still exist, by the key's hash."""
    read_at_s = datetime.now(UTC).timestamp()
    return {
        key.hash: Figure(pusd(key.usage_usd), read_at_s, "live")
        for key in list_keys(admin_key, base_url)
        if key.usage_usd is not None
    }


def _summary_figure(folder: Path, account_id: str) -> Figure | None:
    """The figure that the trial's end has read; a trial's folder is named like its account, or holds the ledger itself."""
    trials = [folder / account_id] if Path(account_id).name == account_id else []
    for trial in (*trials, folder):
        summary = read_json_object(trial, "summary.json")
        if summary is not None and (figure := _figure_in(summary)) is not None:
            return figure
    return None


def _figure_in(summary: Mapping[str, Any]) -> Figure | None:
    match summary:
        case {"finished_at": str(finished_at), "preflight": {"key_usage_usd": str(text)}}:
            try:
                usage = Decimal(text[:40])
                read_at_s = datetime.fromisoformat(finished_at).timestamp()
            except (InvalidOperation, ValueError):
                return None
            return Figure(pusd(usage), read_at_s, "summary") if usage.is_finite() else None
    return None
