"""How a person stops a run, and how one that is not complete goes on: lines to copy, with nothing in them that is not needed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from agent_preflight.artifacts import RUNS_DIR
from agent_preflight.runner.request import Finished, Request
from agent_preflight.runner.resume import begins_again


def elsewhere(request: Request) -> str:
    """Return the option that names the runs' folder, with a space before it; nothing for the usual one."""
    return "" if request.runs_dir == RUNS_DIR else f" --runs-dir {shlex.quote(str(request.runs_dir))}"


def how_to_stop(request: Request, run_id: str) -> str:
    """Return which run it is and how to stop it, in a line."""
    stop = f"agent-preflight stop {shlex.quote(run_id)}{elsewhere(request)}"
    return f"{run_id}: press Ctrl-C to stop it, or from another terminal: {stop}"


def stopping(again: str) -> str:
    """Return what the first Ctrl-C does; `again` is how a person asks for no wait."""
    return f"Stopping: no new trial starts, each trial is ended in order; {again} to not wait for the last costs."


def go_on(request: Request, run_id: str, *, retry_failed: bool = False) -> str:
    """Return the command that goes on with a run, quoted for a shell; for a script's run the call."""
    if request.origin is None:
        more = ", retry_failed=True" if retry_failed else ""
        return f"run_multi(..., run_id={run_id!r}, resume=True{more})"
    more = " --retry-failed" if retry_failed else ""
    return f"agent-preflight run --resume {shlex.quote(run_id)}{elsewhere(request)}{more}"


def farewell(request: Request, finished: Finished) -> Iterator[str]:
    """Yield how a run goes on whose trials are not all complete; nothing if they are.

    Trials that did not begin, were cut off or had no credit begin with a resume; those that failed only if that is asked for.
    """
    if request.single:
        return
    run_id, count = finished.run_dir.name, len(request.models)
    summaries = [{"preflight": result.preflight} for result in finished.results]
    again = sum(map(begins_again, summaries))
    failed = sum(begins_again(summary, retry_failed=True) for summary in summaries) - again
    due = count - len(summaries) + again
    if not (finished.run_dir / "plan.json").is_file():
        yield "No trial was started. Start the run anew."
        return
    if not due and not failed:
        return
    if due:
        yield f"{due} of {_trials(count)} {'is' if due == 1 else 'are'} not complete. What is left of the budget serves to go on:"
    else:
        yield f"{failed} of {_trials(count)} failed. What is left of the budget serves to run {_them(failed)} again:"
    yield f"  {go_on(request, run_id, retry_failed=not due)}"
    if due and failed:
        more = "retry_failed=True" if request.origin is None else "--retry-failed"
        yield f"  ({more} runs the {failed} that failed again too)"
    if request.origin is not None and (names := request.origin.given_values):
        values = " ".join(f"-e {shlex.quote(name)}=VALUE" for name in names)
        yield f"  (add {values}: values given on the command line are not kept)"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
