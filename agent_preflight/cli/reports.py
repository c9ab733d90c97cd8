"""Commands that read runs and change nothing: `runs`, `status`, `costs` and `cache-report`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_preflight.base.config import Environment
from agent_preflight.base.tables import show
from agent_preflight.cli.shared import RunId, RunsDir, complain, emit_json, option
from preflight_proxy.core.errors import ConfigError

if TYPE_CHECKING:
    from agent_preflight.runs.record import TrialRecord

LedgerFolder = Annotated[Path | None, option("DIR", "The folder of a stand-alone proxy instead of a run.", "--data")]


def runs(
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each run.")] = False,
) -> None:
    """List the runs, the newest first.

    How each stands, how many of its trials have ended, what it has cost, and how old it is.

    Example: agent-preflight runs
    """
    from agent_preflight.runs.status import list_runs, runs_table

    rows = list_runs(runs_dir)
    if as_json:
        now_s = datetime.now(UTC).timestamp()
        for row in rows:
            emit_json(row.to_json(now_s))
    elif rows:
        show(runs_table(rows))
    else:
        show(
            f"No runs found in {str(runs_dir).rstrip('/')}/. `agent-preflight run` begins one; --runs-dir names another folder."
        )


def status(
    run_id: RunId = None,
    runs_dir: RunsDir = Path("runs"),
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the run until it ends; `q` leaves, and the run goes on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each trial.")] = False,
) -> None:
    """Show how a run stands, trial by trial.

    Costs, calls and what is reserved come from its ledger, also while it runs.

    Example: agent-preflight status run-20270131-120000

    Example: agent-preflight status --watch
    """
    from agent_preflight.runs.record import read_record
    from agent_preflight.status import status_parts

    if watch and as_json:
        raise typer.BadParameter("--watch and --json exclude each other")
    folder = folder_to_read(run_id, None, runs_dir)
    if as_json:
        trials = read_record(folder).trials if folder is not None else ()
        for trial in trials:
            emit_json(_trial_json(trial))
        if folder is not None and not trials:
            complain(f"{folder.name} has no trials.")
    elif not watch or folder is None or _watched(folder):
        show(*(status_parts(folder) if folder is not None else [none_in(runs_dir)]))


def _trial_json(trial: TrialRecord) -> dict[str, Any]:
    """Return a trial's state for machines, with what its output is worth."""
    score = trial.score
    scored = {
        "score": score and score.value,
        "success": score and score.success,
        "score_reason": score and score.reason,
    }
    return {**trial.status.to_json(), "base": trial.base, "repeat": trial.repeat, **scored}


def _watched(folder: Path) -> bool:
    """Follow a run. Return whether it has ended."""
    from agent_preflight.cli.run import interruptible
    from agent_preflight.views.live_view import watch

    with interruptible():
        return watch(folder)


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
    from agent_preflight.operate.cost_tables import cost_parts
    from agent_preflight.runs.costs import cost_lines, sums_by_account, sums_of

    folder = folder_to_read(run_id, data, runs_dir)
    if folder is None:
        raise ConfigError(f"{none_in(runs_dir)}; --data names the folder of a stand-alone proxy.")
    if reconcile:
        raise typer.Exit(_reconcile(folder, as_json=as_json))
    lines = list(cost_lines(folder))
    if not as_json:
        show(*cost_parts(folder.name, lines))
        return
    for line in lines:
        emit_json(line)
    accounts = {name: sums.to_json() for name, sums in sums_by_account(lines).items()}
    emit_json({"sums": {"total": sums_of(lines).to_json(), "accounts": accounts}})


def _reconcile(folder: Path, *, as_json: bool) -> int:
    """Print the comparison and return the exit code. With a management key, keys that still exist are read."""
    from agent_preflight.operate.cost_tables import reconciled_parts
    from agent_preflight.operate.reconcile import reconcile_folder

    environment = Environment.read()
    comparison = reconcile_folder(folder, environment.admin_key, environment.base_url)
    if as_json:
        emit_json(comparison.to_json())
    else:
        show(*reconciled_parts(comparison))
    return comparison.exit_code


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
    from agent_preflight.cache_report import cache_report_json, report_parts

    folder = folder_to_read(run_id, data, runs_dir)
    if folder is not None and as_json:
        emit_json(cache_report_json(folder))
    elif not as_json:
        show(*(report_parts(folder) if folder is not None else [none_in(runs_dir)]))


def folder_to_read(run_id: str | None, data: Path | None, runs_dir: Path) -> Path | None:
    """Return the folder that a command reads: that of `--data`, else of the run. None if there is no run."""
    from agent_preflight.runs.choice import run_to_read

    if data is None:
        return run_to_read(run_id, runs_dir)
    if run_id is not None:
        raise typer.BadParameter("a run and --data exclude each other")
    if not data.is_dir():
        raise ConfigError(f"There is no folder {data}. --data names the folder of a stand-alone proxy.")
    return data


def none_in(runs_dir: Path) -> str:
    """Return the sentence for a folder without runs."""
    return f"No runs found in {runs_dir}/"
