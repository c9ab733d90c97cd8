"""How a person stops a run, and how one that is not complete goes on: lines to copy, with nothing in them that is not needed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent_preflight.artifacts import RUNS_DIR
from agent_preflight.base.usd import cents_up, pusd, read_usd
from agent_preflight.runner.resume import FAILED, begins_again, money_was_gone
from agent_preflight.runs.request import Finished, RunRequest
from agent_preflight.runs.trial_state import unverified_line
from preflight_proxy.core.refusals.outcomes import code_of
from preflight_proxy.core.refusals.refusals import Code

SHORT = frozenset({code_of(Code.DOES_NOT_FIT), code_of(Code.SPENT)})
"""Why no call of a trial was served whose budget covers none."""


def elsewhere(request: RunRequest) -> str:
    """Return the option that names the runs' folder, with a space before it; nothing for the usual one."""
    return "" if request.runs_dir == RUNS_DIR else f" --runs-dir {shlex.quote(str(request.runs_dir))}"


def how_to_stop(request: RunRequest, run_id: str) -> str:
    """Return which run it is and how to stop it, in a line."""
    stop = f"agent-preflight stop {shlex.quote(run_id)}{elsewhere(request)}"
    return f"{run_id}: press Ctrl-C to stop it, or from another terminal: {stop}"


def stopping(again: str) -> str:
    """Return what the first Ctrl-C does; `again` is how a person asks for no wait."""
    return f"Stopping: no new trial starts, each trial is ended in order; {again} to not wait for the last costs."


def go_on(request: RunRequest, run_id: str, *, retry_failed: bool = False, budget: str = "") -> str:
    """Return the command that goes on with a run, quoted for a shell; for a script's run the call.

    Variables whose values are kept nowhere are in it, each with VALUE in the place of its value.
    """
    more = _more(request, retry_failed=retry_failed, budget=budget)
    if request.origin is None:
        return f"run_multi({', '.join(['...', f'run_id={run_id!r}', 'resume=True', *more])})"
    values = [f"-e {shlex.quote(name)}=VALUE" for name in request.origin.given_values]
    return " ".join([f"agent-preflight run --resume {shlex.quote(run_id)}{elsewhere(request)}", *more, *values])


def _more(request: RunRequest, *, retry_failed: bool, budget: str) -> list[str]:
    """The options that run failed trials again, and with more money."""
    if request.origin is None:
        return ["retry_failed=True"] * retry_failed + [f"budget_usd={budget}"] * bool(budget)
    return ["--retry-failed"] * retry_failed + [f"--budget {budget}"] * bool(budget)


def farewell(request: RunRequest, finished: Finished) -> Iterator[str]:
    """Yield what of the clean-up is not verified, and how a run goes on whose trials are not all complete; nothing if all is well.

    Trials that did not begin, were cut off or had no credit begin with a resume; those that failed only if that is asked for.
    Where a budget covered no call, a higher one is named that does. Every trial is named that the command begins.
    """
    if request.single:
        return
    run_id, count = finished.run_dir.name, len(request.models)
    summaries = {each.alias: {"preflight": each.preflight, "error": each.error} for each in finished.results}
    cleanups = [result.preflight.get("cleanup", {}) for result in finished.results]
    if (line := unverified_line(cleanups, elsewhere(request))) is not None:
        yield line
    if not (finished.run_dir / "plan.json").is_file():
        yield "No trial was started. Start the run anew."
        return
    aliases = [alias for _, alias in request.models]
    due = [alias for alias in aliases if alias not in summaries or begins_again(summaries[alias])]
    kept = [alias for alias in aliases if alias not in due]
    failed = [alias for alias in kept if begins_again(summaries[alias], retry_failed=True)]
    if not due and not failed:
        if spent := [alias for alias in kept if money_was_gone(summaries[alias])]:
            yield f"More money for {', '.join(spent)}: {go_on(request, run_id, budget='USD')}"
        return
    short = [_needed_pusd(summary) for summary in summaries.values() if _is_short(summary)]
    budget = _higher(request, finished, short)
    more_pusd = pusd(budget or 0)
    with_more = [
        each for each in kept if begins_again(summaries[each], retry_failed=True, budget_pusd=more_pusd)
    ]  # also those that are spent, where a budget is named
    if due:
        begin, are = _listed(due, summaries), "is" if len(due) == 1 else "are"
        left = f"What is left of the budget serves to go on with {begin}:"
        yield f"{len(due)} of {_trials(count)} {are} not complete. {left}"
    else:
        why = f", {len(short)} because the budget covers no call" if short else ""
        what = "A higher one" if short else "What is left of the budget"
        yield f"{len(failed)} of {_trials(count)} failed{why}. {what} serves to run again {_listed(with_more, summaries)}:"
    yield f"  {go_on(request, run_id, retry_failed=not due, budget='' if due else budget)}"
    if due and failed:
        more = (", " if request.origin is None else " ").join(_more(request, retry_failed=True, budget=budget))
        yield f"  ({more} runs again {_listed(with_more, summaries)} too)"
    if short and not budget:
        yield f"  (with a higher {'budget_usd' if request.origin is None else '--budget'})"
    if request.origin is not None and request.origin.given_values:
        yield "  (values of variables that were given on the command line are not kept)"


def _listed(aliases: Iterable[str], summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Name trials, each with how it stands."""
    return ", ".join(
        f"{alias} ({summaries[alias]['preflight'].get('status', 'ended') if alias in summaries else 'not started'})"
        for alias in aliases
    )


def _is_short(summary: Mapping[str, Any]) -> bool:
    """Whether a trial failed because its budget covered no call."""
    extra = summary["preflight"]
    return extra.get("status") == FAILED and extra.get("never_served") in SHORT


def _needed_pusd(summary: Mapping[str, Any]) -> int:
    """The budget that the first call of a trial needed; 0 if that is not known."""
    causes = summary["preflight"].get("not_served", ())
    return max((pusd(cause.get("limit_needed_usd") or 0) for cause in causes if cause.get("code") in SHORT), default=0)


def _higher(request: RunRequest, finished: Finished, short: Sequence[int]) -> str:
    """Return a budget that covers a call of each trial and is below none of those that begin again; empty if it is not known."""
    if not short or 0 in short:
        return ""
    given = request.budget
    budgets = {
        alias: pusd(read_usd(given[alias] if isinstance(given, Mapping) else given)) for _, alias in request.models
    }
    for result in finished.results:
        budgets[result.alias] = max(budgets.get(result.alias, 0), pusd(result.budget_usd))
        if not begins_again({"preflight": result.preflight}, retry_failed=True):
            budgets.pop(result.alias)
    return cents_up(max([*short, *budgets.values()]))


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"
