"""`agent-preflight status`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.cli.group import emit_json
from agent_preflight.cli.options import RunId, RunsDir


def status(
    run_id: RunId = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each trial.")] = False,
) -> None:
    """Show how a run stands, trial by trial.

    Costs, calls and what is reserved come from its ledger, also while it runs.

    Example: agent-preflight status run-20270131-120000
    """
    from agent_preflight.base.tables import show
    from agent_preflight.runs.choice import run_to_read
    from agent_preflight.runs.status import read_run
    from agent_preflight.status import status_parts

    run_dir = run_to_read(run_id, runs_dir)
    if as_json:
        for trial in read_run(run_dir).trials if run_dir is not None else ():
            emit_json(json.dumps(trial.to_json()))
    else:
        show(*(status_parts(run_dir) if run_dir is not None else [f"No runs found in {runs_dir}/"]))
