"""`agent-preflight stop`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_preflight.cli.group import complain
from agent_preflight.cli.options import LiveRunId, RunsDir, complete_aliases

if TYPE_CHECKING:
    from agent_preflight.operate.live_changes import PlannedRun, TrialStop

WAIT_S_MAX = 300.0
"""A trial's end waits for costs that are not known yet, for four minutes at the most."""


def stop(
    run_id: LiveRunId = None,
    alias: Annotated[
        str | None,
        typer.Argument(
            metavar="ALIAS",
            help="One of its trials.  [default: all]",
            show_default=False,
            autocompletion=complete_aliases,
        ),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once no further call is sent.")] = False,
) -> None:
    """Stop a live run, or one of its trials.

    The run may be left out where no other is live: `stop` ends it, `stop ALIAS` one of its trials.

    No call is admitted from now on; then the agent is ended, what is in flight is settled, its key is deleted, its summary says
    `stopped`, also of a named trial that has not begun. Exits with 5 if a step of that could not be verified.

    Example: agent-preflight stop run-20270131-120000 nano
    """
    import asyncio

    from agent_preflight.base.console import say
    from agent_preflight.operate.live_changes import stop as ask_to_end
    from agent_preflight.operate.live_changes import until_over

    plan, alias = _meant(run_id, alias, runs_dir)
    asyncio.run(ask_to_end(plan, alias))
    say("No further call is sent. Agents are ended, and the costs of calls in flight are settled.")
    if no_wait:
        return
    ended = asyncio.run(until_over(plan, alias, WAIT_S_MAX))
    if ended is None:
        complain(
            f"The end was not seen within {WAIT_S_MAX:.0f} s. No further call is sent. "
            f"Look at it with `agent-preflight status {plan.run_dir.name}`."
        )
        raise typer.Exit(5)
    lines = [_line(each) for each in ended]
    for line in lines:
        say(line)
    raise typer.Exit(0 if all(each.verified or each.summary is None for each in ended) else 5)


def _meant(run_id: str | None, alias: str | None, runs_dir: Path) -> tuple[PlannedRun, str | None]:
    """Return the run and the trial that are meant: one word alone that names no run names a trial of the only live one."""
    from agent_preflight.artifacts import find_run
    from agent_preflight.operate.live_changes import find_planned_run
    from agent_preflight.runs.choice import live_runs, run_to_change

    if run_id is not None and alias is None and find_run(run_id, runs_dir) is None:
        live = live_runs(runs_dir)
        if len(live) == 1:
            return find_planned_run(live[0].name, runs_dir), run_id
    return find_planned_run(run_to_change(run_id, runs_dir).name, runs_dir), alias


def _line(ended: TrialStop) -> str:
    from agent_preflight.base.terminal import plain

    if ended.summary is None:
        return f"{ended.alias}: not started"
    extra = ended.summary.get("preflight", {})
    if ended.never_began:
        spent = extra.get("posted_usd")
        return plain(
            f"{ended.alias}: stopped before it began; nothing was spent"
            if spent == "0"
            else f"{ended.alias}: stopped before it began again; ${spent} was spent before"
        )
    clean = (
        "container and key removed"
        if ended.verified
        else "it could not be verified that all was removed: see its summary.json, then run `agent-preflight sweep`"
    )
    return plain(f"{ended.alias}: {extra.get('ended_by')}, ${extra.get('posted_usd')} spent, {clean}")
