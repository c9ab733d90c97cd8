"""Options and arguments that several commands share, and how a shell completes their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agent_preflight.options.kinds import OptionKind


def read_flag(kind: OptionKind, value: object, flag: str) -> Any:  # noqa: ANN401 - whatever the kind makes
    """Return the value of an option or argument.

    Raises:
        BadParameter: It is none. The message names the option and says what it must be.
    """
    from agent_preflight.options.settings import SettingError, read_value

    try:
        return read_value(kind, value, flag)
    except SettingError as exc:
        raise typer.BadParameter(str(exc)) from exc


def complete_run_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the runs below `--runs-dir` that begin with what is typed, the newest first."""
    from agent_preflight.artifacts import run_dirs

    return [run.name for run in run_dirs(_runs_dir(ctx)) if run.name.startswith(incomplete)]


def complete_live(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of live runs; where only one is live, the aliases of its trials too, which may stand alone."""
    from agent_preflight.artifacts import trial_dirs
    from agent_preflight.runs.choice import live_runs

    live = live_runs(_runs_dir(ctx))
    names = [run.name for run in live] + [trial.name for trial in (trial_dirs(live[0]) if len(live) == 1 else ())]
    return [name for name in names if name.startswith(incomplete)]


def complete_aliases(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the aliases of the trials of the run that the command line names, else of the only live one or the latest."""
    from agent_preflight.artifacts import find_run, trial_dirs
    from agent_preflight.runs.choice import run_to_read

    run_id, runs_dir = ctx.params.get("run_id"), _runs_dir(ctx)
    run_dir = find_run(run_id, runs_dir) if run_id else run_to_read(None, runs_dir)
    trials = trial_dirs(run_dir) if run_dir is not None else []
    return [trial.name for trial in trials if trial.name.startswith(incomplete)]


def complete_raises(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return `ALIAS=` for each trial of the run that the command line names."""
    return [f"{alias}=" for alias in complete_aliases(ctx, incomplete)]


def _runs_dir(ctx: typer.Context) -> Path:
    return Path(ctx.params.get("runs_dir") or "runs")


RunId = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN_ID",
        help="The run.  [default: the only live one, else the latest]",
        show_default=False,
        autocompletion=complete_run_ids,
    ),
]
"""A run that may be left out."""

LiveRunId = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN_ID",
        help="A run that is going on.  [default: the only live one]",
        show_default=False,
        autocompletion=complete_live,
    ),
]
"""A live run that may be left out where there is no other."""

RunsDir = Annotated[Path, typer.Option(metavar="DIR", help="The folder that holds the runs.")]

LedgerFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="The folder of a stand-alone proxy instead of a run.", show_default=False
    ),
]
