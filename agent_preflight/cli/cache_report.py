"""`agent-preflight cache-report`."""

from __future__ import annotations

from pathlib import Path

from agent_preflight.cli.status import RunId, RunsDir


def cache_report(run_id: RunId = None, runs_dir: RunsDir = Path("runs")) -> None:
    """Show how well a run's prompts were cached.

    Example: agent-preflight cache-report
    """
    from agent_preflight.cache_report import main

    main(run_id, runs_dir)
