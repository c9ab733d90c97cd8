"""`agent-preflight costs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.cli.group import emit_json
from agent_preflight.cli.options import LedgerFolder, RunId, RunsDir


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

    Reads the ledger, also while the run is going on; the sums stand at the end.

    Example: agent-preflight costs --data ./proxy-data --json

    Example: agent-preflight costs --reconcile
    """
    from agent_preflight.base.tables import show
    from agent_preflight.operate.cost_tables import cost_parts
    from agent_preflight.runs.choice import run_to_read
    from agent_preflight.runs.costs import cost_lines, sums_by_account, sums_of
    from preflight_proxy.core.errors import ConfigError

    folder = data if data is not None else run_to_read(run_id, runs_dir)
    if folder is None:
        raise ConfigError(f"No runs found in {runs_dir}/; --data names the folder of a stand-alone proxy.")
    if reconcile:
        raise typer.Exit(_reconcile(folder, as_json=as_json))
    lines = list(cost_lines(folder))
    if not as_json:
        show(*cost_parts(folder.name, lines))
        return
    for line in lines:
        emit_json(json.dumps(line))
    accounts = {name: sums.to_json() for name, sums in sums_by_account(lines).items()}
    emit_json(json.dumps({"sums": {"total": sums_of(lines).to_json(), "accounts": accounts}}))


def _reconcile(folder: Path, *, as_json: bool) -> int:
    """Print the comparison and return the exit code. Keys that still exist are read if there is a management key."""
    from agent_preflight.base.config import Environment
    from agent_preflight.base.tables import show
    from agent_preflight.operate.cost_tables import reconciled_parts
    from agent_preflight.operate.reconcile import reconcile_folder

    found_here = Environment.read()
    found = reconcile_folder(folder, found_here.admin_key, found_here.base_url)
    if as_json:
        emit_json(json.dumps(found.to_json()))
    else:
        show(*reconciled_parts(found))
    return found.exit_code
