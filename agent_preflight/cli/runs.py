"""`agent-preflight runs`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.cli.group import emit_json
from agent_preflight.cli.options import RunsDir


def runs(
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each run.")] = False,
) -> None:
    """List the runs, the newest first.

    How each stands, how many of its trials have ended, what it has cost, and how old it is.

    Example: agent-preflight runs
    """
    from agent_preflight.base.tables import show
    from agent_preflight.runs.status import list_runs, runs_table

    found = list_runs(runs_dir)
    if as_json:
        now_s = datetime.now(UTC).timestamp()
        for run in found:
            emit_json(json.dumps(run.to_json(now_s)))
    elif found:
        show(runs_table(found))
    else:
        show(
            f"No runs found in {str(runs_dir).rstrip('/')}/. `agent-preflight run` begins one; --runs-dir names another folder."
        )
