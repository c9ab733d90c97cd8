"""What several commands share: their output, the reading of values, options, and the completion of values in a shell."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_preflight.artifacts import find_run, run_dirs, trial_dirs
from agent_preflight.options.kinds import read_value
from preflight_proxy.core.terminal import plain

if TYPE_CHECKING:
    from agent_preflight.options.kinds import OptionKind


def complain(text: str) -> None:
    """Print a line on standard error, without escapes that came from elsewhere."""
    sys.stderr.write(plain(text, keep_lines=True) + "\n")
    sys.stderr.flush()


def emit_json(document: object) -> None:
    """Print a document for machines, as one line on standard output."""
    sys.stdout.write(json.dumps(document) + "\n")


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Raise a ValueError as BadParameter: the message names the command, and the exit code is 2."""
    try:
        yield
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def read_flag(kind: OptionKind, value: object, flag: str) -> Any:  # noqa: ANN401 - whatever the kind makes
    """Return the value of an option or argument.

    Raises:
        BadParameter: The value is not of this kind. The message names the option and says what it must be.
    """
    with usage_errors():
        return read_value(kind, value, flag)


def complete_run_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the runs below `--runs-dir` that begin with what is typed, the newest first."""
    return [run.name for run in run_dirs(_runs_dir(ctx)) if run.name.startswith(incomplete)]


def complete_live(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of live runs. If only one is live, add the aliases of its trials, because the run may be left out then."""
    from agent_preflight.runs.choice import live_runs

    live = live_runs(_runs_dir(ctx))
    names = [run.name for run in live] + [trial.name for trial in (trial_dirs(live[0]) if len(live) == 1 else ())]
    return [name for name in names if name.startswith(incomplete)]


def complete_aliases(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the aliases of the trials of the run that the command line names, else of the only live one or the latest."""
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


def option(metavar: str, text: str, *flags: str) -> Any:  # noqa: ANN401 - what Typer reads
    """Return the declaration of an option without a default of its own: the help says what holds without it."""
    return typer.Option(*flags, metavar=metavar, help=text, show_default=False)


def argument(metavar: str, text: str, complete: Callable[[typer.Context, str], list[str]] | None = None) -> Any:  # noqa: ANN401
    """Return the declaration of an argument in the same way. A shell completes it by a function."""
    return typer.Argument(metavar=metavar, help=text, show_default=False, autocompletion=complete)


RunId = Annotated[
    str | None, argument("RUN_ID", "The run.  [default: the only live one, else the latest]", complete_run_ids)
]
"""A run for a command that reads."""

LiveRunId = Annotated[
    str | None, argument("RUN_ID", "A run that is going on.  [default: the only live one]", complete_live)
]
"""A run for a command that changes it."""

RunsDir = Annotated[Path, typer.Option(metavar="DIR", help="The folder that holds the runs.")]
