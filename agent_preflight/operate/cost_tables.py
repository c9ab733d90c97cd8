"""The tables of `costs`: every call, the sums, and the comparison with OpenRouter's figures. Amounts are exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_preflight.base.tables import TableColumn, TextTable
from agent_preflight.base.usd import dollars, pusd
from agent_preflight.runs.costs import sums_by_account, sums_of
from agent_preflight.runs.reconciliation import TOLERANCE_PUSD, ReconciledAccount, Reconciliation
from preflight_proxy.core.evidence.evidence import KEY_USAGE_LAG_S

DAY_CHARS = len("2027-01-31")
CLOCK = slice(len("2027-01-31T"), len("2027-01-31T12:00:00"))
DAY_AND_CLOCK = slice(len("2027-"), len("2027-01-31T12:00:00"))


def cost_parts(name: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[TextTable | str]:
    """Yield every call and later correction in the order of the ledger, then the sums.

    Args:
        name: Of the run, or of the folder.
        lines: Those of costs.jsonl.
    """
    days = sorted({str(line.get("time", ""))[:DAY_CHARS] for line in lines})
    since = f", {days[0]}" if len(days) == 1 else f", {days[0]} to {days[-1]}" if days else ""
    yield f"Costs of {name}{since} (UTC)" if days else f"Costs of {name}: no calls yet."
    if not lines:
        return
    clock = CLOCK if len(days) == 1 else DAY_AND_CLOCK
    decimals = _decimals([pusd(str(line["cost_usd"])) for line in lines])
    usual = all(line.get("outcome") == "posted" for line in lines)
    columns = (
        TableColumn("time", spare=2),
        TableColumn("trial"),
        TableColumn("model", spare=1),
        TableColumn("in", right=True),
        TableColumn("out", right=True),
        TableColumn("cost", right=True),
        *([] if usual else [TableColumn("outcome")]),
    )
    yield ""
    yield TextTable(columns, [_call(line, clock, decimals)[: len(columns)] for line in lines])
    yield ""
    yield _sums_table(lines)


def _call(line: Mapping[str, Any], clock: slice, decimals: int) -> tuple[str, ...]:
    return (
        str(line.get("time", ""))[clock].replace("T", " "),
        str(line["account"]),
        str(line.get("model") or "-"),
        f"{int(line.get('prompt_tokens') or 0):,}",
        f"{int(line.get('completion_tokens') or 0):,}",
        dollars(pusd(str(line["cost_usd"])), decimals),
        str(line.get("outcome", "")),
    )


def _sums_table(lines: Sequence[Mapping[str, Any]]) -> TextTable:
    accounts, total = sums_by_account(lines), sums_of(lines)
    decimals = _decimals([pusd(sums.cost_usd) for sums in (*accounts.values(), total)])
    rows = [
        (name, f"{sums.calls:,}", dollars(pusd(sums.cost_usd), decimals))
        for name, sums in [*accounts.items(), ("TOTAL", total)]
    ]
    return TextTable(
        (TableColumn("trial"), TableColumn("calls", right=True), TableColumn("cost", right=True)),
        rows[:-1],
        total=rows[-1],
    )


def reconciled_parts(reconciliation: Reconciliation) -> Iterator[TextTable | str]:
    """Yield the table of a comparison, the quarantined endpoints, and how exact the figures are."""
    columns = (
        TableColumn("trial"),
        TableColumn("posted", right=True),
        TableColumn("OpenRouter", right=True),
        TableColumn("difference", right=True),
    )
    rows = (*reconciliation.rows, reconciliation.total)
    amounts = [(row.posted_pusd, row.upstream_pusd, row.drift_pusd) for row in rows]
    decimals = _decimals([amount for each in amounts for amount in each if amount is not None])
    texts = [["-" if amount is None else dollars(amount, decimals) for amount in each] for each in amounts]
    cells = [(row.account, *text) for row, text in zip(rows, texts, strict=True)]
    yield TextTable(columns, cells, notes=list(map(_verdict, rows)))
    yield ""
    for endpoint in reconciliation.quarantined:
        yield f"quarantined: {endpoint.model} on {endpoint.tag}: {endpoint.reason}"
    yield f"Up to {dollars(TOLERANCE_PUSD)} for each trial is rounding; OpenRouter's figure for a key"
    yield f"may lack calls of the last {KEY_USAGE_LAG_S:.0f} s before it was read."


def _verdict(row: ReconciledAccount) -> str:
    """Return a row's verdict, and its amounts that are not usually there."""
    unusual = (("pending", row.pending_pusd), ("assumed", row.assumed_pusd), ("overrun", row.overrun_pusd))
    return "; ".join([row.verdict, *(f"{dollars(amount)} {word}" for word, amount in unusual if amount)])


def _decimals(amounts_pusd: Sequence[int]) -> int:
    """Return how many decimals show all of the amounts exactly."""
    return max((len(dollars(amount).partition(".")[2]) for amount in amounts_pusd), default=2)
