"""`agent-preflight cache-report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.cli.group import emit_json
from agent_preflight.cli.options import LedgerFolder, RunId, RunsDir


def cache_report(
    run_id: RunId = None,
    data: LedgerFolder = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with all figures.")] = False,
) -> None:
    """Show how well a run's prompts were cached.

    By trial, by model and by conversation, what it saved, and why caches missed.

    Example: agent-preflight cache-report
    """
    from agent_preflight.base.tables import show
    from agent_preflight.cache_report import cache_report_json, report_parts
    from agent_preflight.runs.choice import run_to_read
    from preflight_proxy.core.errors import ConfigError

    if data is not None and not data.is_dir():
        raise ConfigError(f"There is no folder {data}. --data names the folder of a stand-alone proxy.")
    folder = data if data is not None else run_to_read(run_id, runs_dir)
    if folder is not None and as_json:
        emit_json(json.dumps(cache_report_json(folder)))
    elif not as_json:
        show(*(report_parts(folder) if folder is not None else [f"No runs found in {runs_dir}/"]))
