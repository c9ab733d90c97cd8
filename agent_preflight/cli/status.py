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

    Example: agent-preflight status run-20270131-120000
    """
    from agent_preflight.artifacts import find_run, trial_dirs
    from agent_preflight.status import status_main, summarise_model

    if not as_json:
        status_main(run_id, runs_dir)
        return
    run_dir = find_run(run_id, runs_dir)
    for trial in trial_dirs(run_dir) if run_dir is not None else ():
        emit_json(json.dumps(summarise_model(trial), default=str))
