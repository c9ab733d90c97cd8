"""`agent-preflight costs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_preflight.cli.group import emit_json
from agent_preflight.cli.options import LedgerFolder, RunId, RunsDir

if TYPE_CHECKING:
    from agent_preflight.costs import Sums


def costs(
    run_id: RunId = None,
    data: LedgerFolder = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: each call, then one line `sums`.")] = False,
    reconcile: Annotated[
        bool,
        typer.Option(
            "--reconcile", help="Compare the ledger with OpenRouter's bill. Exits with 3 on drift, 4 on overrun."
        ),
    ] = False,
) -> None:
    """Print what every call of a run cost.

    Reads the ledger; the sums stand at the end.

    Example: agent-preflight costs --data ./proxy-data --json

    Example: agent-preflight costs --reconcile
    """
    from agent_preflight.artifacts import find_run
    from agent_preflight.costs import cost_lines, sums_by_account, sums_of
    from preflight_proxy.errors import ConfigError

    folder = data if data is not None else find_run(run_id, runs_dir)
    if folder is None:
        raise ConfigError(f"No run {run_id or ''} in {runs_dir}/; use --data for a stand-alone proxy.")
    if reconcile:
        raise typer.Exit(_reconcile(folder, as_json=as_json))
    lines = list(cost_lines(folder))
    total, accounts = sums_of(lines), sums_by_account(lines)
    if as_json:
        for line in lines:
            emit_json(json.dumps(line))
        emit_json(json.dumps({"sums": {"total": total.to_json(), "accounts": _json(accounts)}}))
        return
    _print(lines, accounts, total)


def _reconcile(folder: Path, *, as_json: bool) -> int:
    """Print the comparison and return the exit code. Keys that still exist are read if there is a management key."""
    from agent_preflight.config import Environment
    from agent_preflight.console import say
    from agent_preflight.drift import reconciled_lines
    from agent_preflight.reconcile import reconcile_folder
    from agent_preflight.terminal import plain

    found_here = Environment.read()
    found = reconcile_folder(folder, found_here.admin_key, found_here.base_url)
    if as_json:
        emit_json(json.dumps(found.to_json()))
    else:
        for line in reconciled_lines(found):
            say(plain(line))
    return found.exit_code


def _json(accounts: dict[str, Sums]) -> dict[str, Any]:
    return {name: sums.to_json() for name, sums in accounts.items()}


def _print(lines: list[dict[str, Any]], accounts: dict[str, Sums], total: Sums) -> None:
    from agent_preflight.console import say
    from agent_preflight.terminal import plain

    for line in lines:
        tokens = f"{line.get('prompt_tokens') or 0:>8} in {line.get('completion_tokens') or 0:>7} out"
        cost = f"${line['cost_usd']:<18}"
        text = f"{line['time']}  {line['account']:<16} {cost} {tokens}  {line['outcome']:<9} {line['model']}"
        say(plain(text))
    say()
    for name, sums in [*accounts.items(), ("TOTAL", total)]:
        say(plain(f"{name:<16} {sums.calls:>6} calls  ${format(sums.cost_usd, 'f')}"))
