"""What a run says to a person: what starts, how to stop it, and how to continue a run that is not complete."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from agent_preflight.artifacts import RUNS_DIR
from agent_preflight.base.tables import counted
from agent_preflight.base.usd import cents_up, dollars, pusd, usd
from agent_preflight.docker.container_config import privileges_text
from agent_preflight.docker.mounts import tmpfs_warning
from agent_preflight.environment.network_access import network_warnings
from agent_preflight.models import RunResult
from agent_preflight.options.container_options import SEALED
from agent_preflight.options.settings import RunSettings
from agent_preflight.runner.progress import TrialProgress
from agent_preflight.runner.resume import FAILED, begins_again, money_was_gone
from agent_preflight.runs.plan import TrialPlan, network_access, output_policy
from agent_preflight.runs.request import Finished, RunRequest
from agent_preflight.runs.trial_state import unverified_line
from preflight_proxy.core.refusals.outcomes import code_of
from preflight_proxy.core.refusals.refusals import Code

SHORT = frozenset({code_of(Code.DOES_NOT_FIT), code_of(Code.SPENT)})
"""Causes of a trial whose budget covers no call."""


def elsewhere(request: RunRequest) -> str:
    """Return the option that names the runs' folder, with a space before it; nothing for the usual one."""
    return "" if request.runs_dir == RUNS_DIR else f" --runs-dir {shlex.quote(str(request.runs_dir))}"


def announce(request: RunRequest, run_dir: Path, run_id: str, due: Sequence[TrialPlan]) -> None:
    """Say which trials start, where, and what to mind. Of a single trial, say only if its network is open.

    Of a resumed run, name each trial that begins, with its budget and how much of it is spent.
    """
    say, settings, where = request.say, request.settings, f"{run_id}{elsewhere(request)}"
    in_container = settings.sandbox == "docker"
    network = network_line(settings)
    if request.single:
        if is_open(settings):
            say(f"  {network}")
        return
    say(f"Starting {counted(len(due), 'trial')} in {run_dir}")
    if settings.resume:
        say(f"  these begin: {', '.join(map(_with_budget, due))}")
    say(f"  {network}")
    if in_container:
        say(f"  containers: {privileges_text(settings.memory, settings.cpus)}")
        if (lost := tmpfs_warning(output_policy(settings), settings.engine_options.agent)) is not None:
            say(f"  warning: {lost}")
    else:
        say("  agents reach OpenRouter by the base URL in their variables; https://openrouter.ai is not the proxy")
    for warning in network_warnings(network_access(settings), settings.env or {}, in_container=in_container):
        say(f"  {warning}")
    say(f"  watch with: agent-preflight status --watch {where}")
    say(f"  stop with: Ctrl-C, or agent-preflight stop {where}")


def _with_budget(trial: TrialPlan) -> str:
    spent = f", {dollars(trial.spent_before_pusd)} of it spent" if trial.spent_before_pusd else ""
    return f"{trial.alias} (budget {dollars(trial.limit_pusd)}{spent})"


def is_open(settings: RunSettings) -> bool:
    """Return whether agents in containers reach more than the proxy and the places that the user named."""
    return settings.sandbox == "docker" and settings.agents_network != SEALED


def network_line(settings: RunSettings) -> str:
    """Return a line about a run's network: what agents reach, that the budget holds, how to seal it."""
    if not is_open(settings):
        return f"network: {settings.agents_network}; budgets hold whatever the agents do"
    reached = (
        "the internet and your network"
        if settings.agents_network == "bridge"
        else f"what the network {settings.agents_network} reaches"
    )
    return (
        f"network: {settings.agents_network}; agents reach {reached}. The budget holds, because no real key is in the container. "
        f'To leave them nothing but the proxy: network="{SEALED}"'
    )


def no_credit(rows: Sequence[TrialProgress], request: RunRequest, run_id: str) -> str:
    """Return the message after OpenRouter refused a call because the account has no credit."""
    left_pusd = sum(max(row.limit_pusd - row.balance.posted_pusd, 0) for row in rows)
    what = (
        f"OpenRouter refused a call: the account has no credit left. This run's budget still has ${usd(left_pusd):.4f}."
    )
    if request.single:
        return f"{what} Add credit, then run it again."
    return (
        f"{what} Running trials continue; no other trial starts. Add credit, then `{resume_command(request, run_id)}`."
    )


def how_to_stop(request: RunRequest, run_id: str) -> str:
    """Return which run it is and how to stop it, in a line."""
    stop = f"agent-preflight stop {shlex.quote(run_id)}{elsewhere(request)}"
    return f"{run_id}: press Ctrl-C to stop it, or from another terminal: {stop}"


def stopping(again: str) -> str:
    """Return the message of the first Ctrl-C; `again` is how a person skips the wait for costs."""
    return f"Stopping: no new trial starts, each trial is ended in order; {again} to not wait for the last costs."


def resume_command(request: RunRequest, run_id: str, *, retry_failed: bool = False, budget: str = "") -> str:
    """Return the command that resumes a run, quoted for a shell; for a script's run, the call.

    Variables whose values are not stored are in it with VALUE instead of the value.
    """
    more = _more(request, retry_failed=retry_failed, budget=budget)
    if request.origin is None:
        return f"run_multi({', '.join(['...', f'run_id={run_id!r}', 'resume=True', *more])})"
    values = [f"-e {shlex.quote(name)}=VALUE" for name in request.origin.given_values]
    return " ".join([f"agent-preflight run --resume {shlex.quote(run_id)}{elsewhere(request)}", *more, *values])


def _more(request: RunRequest, *, retry_failed: bool, budget: str) -> list[str]:
    """Return the options that run failed trials again, and that give a higher budget."""
    if request.origin is None:
        return ["retry_failed=True"] * retry_failed + [f"budget_usd={budget}"] * bool(budget)
    return ["--retry-failed"] * retry_failed + [f"--budget {budget}"] * bool(budget)


def farewell(request: RunRequest, finished: Finished) -> Iterator[str]:
    """Yield which clean-up is not verified, and how to resume a run that is not complete; nothing if all is well.

    A resume begins trials that did not begin, were interrupted or had no credit; failed ones only with an option. If a budget
    covered no call, a sufficient one is named. Every trial that the command begins is named.
    """
    if request.single:
        return
    run_id = finished.run_dir.name
    results = {result.alias: result for result in finished.results}
    cleanups = [result.preflight.get("cleanup", {}) for result in finished.results]
    if (line := unverified_line(cleanups, elsewhere(request))) is not None:
        yield line
    if not (finished.run_dir / "plan.json").is_file():
        yield "No trial was started. Start the run anew."
        return
    aliases = [alias for _, alias in request.settings.pairs]
    due = [alias for alias in aliases if alias not in results or begins_again(results[alias])]
    kept = [alias for alias in aliases if alias not in due]
    failed = [alias for alias in kept if begins_again(results[alias], retry_failed=True)]
    if not due and not failed:
        if spent := [alias for alias in kept if money_was_gone(results[alias])]:
            yield f"More money for {', '.join(spent)}: {resume_command(request, run_id, budget='USD')}"
        return
    short = [needed_pusd for result in finished.results if (needed_pusd := _needed_pusd(result)) is not None]
    budgets = [_budget_pusd(request, alias, results) for alias in (*due, *failed)]
    budget = cents_up(max([*short, *budgets])) if short and 0 not in short else ""
    more_pusd = pusd(budget or 0)
    with_more = [alias for alias in kept if begins_again(results[alias], retry_failed=True, budget_pusd=more_pusd)]
    trials, left = counted(len(aliases), "trial"), "what is left of the budget"
    if due:
        are = "is" if len(due) == 1 else "are"
        yield f"{len(due)} of {trials} {are} not complete. To resume {_listed(due, results)} with {left}:"
    else:
        why = f", {len(short)} because the budget covers no call" if short else ""
        money = "a higher budget" if short else left
        yield f"{len(failed)} of {trials} failed{why}. To run {_listed(with_more, results)} again with {money}:"
    yield f"  {resume_command(request, run_id, retry_failed=not due, budget='' if due else budget)}"
    if due and failed:
        more = (", " if request.origin is None else " ").join(_more(request, retry_failed=True, budget=budget))
        yield f"  ({more} runs again {_listed(with_more, results)} too)"
    if short and not budget:
        yield f"  (with a higher {'budget_usd' if request.origin is None else '--budget'})"
    if request.origin is not None and request.origin.given_values:
        yield "  (values of variables that were given on the command line are not kept)"


def _listed(aliases: Iterable[str], results: Mapping[str, RunResult]) -> str:
    """Return the names of trials, each with its status."""
    return ", ".join(
        f"{alias} ({results[alias].preflight.get('status', 'ended') if alias in results else 'not started'})"
        for alias in aliases
    )


def _needed_pusd(result: RunResult) -> int | None:
    """Return the budget that the first call of a trial needed, if it failed because its budget covered no call; 0 if not known."""
    extra = result.preflight
    if extra.get("status") != FAILED or extra.get("never_served") not in SHORT:
        return None
    causes = [cause for cause in extra.get("not_served", ()) if cause.get("code") in SHORT]
    return max((pusd(cause.get("limit_needed_usd") or 0) for cause in causes), default=0)


def _budget_pusd(request: RunRequest, alias: str, results: Mapping[str, RunResult]) -> int:
    """Return the budget of a trial, which a top-up may have raised."""
    budget = request.settings.budget_usd
    budget_pusd = pusd(budget[alias] if isinstance(budget, Mapping) else budget)
    return max(budget_pusd, pusd(results[alias].budget_usd)) if alias in results else budget_pusd
