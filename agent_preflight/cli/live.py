"""Commands that change what runs now: `stop` and `top-up` a run, `quarantine` the endpoints that its proxy uses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_preflight.artifacts import find_run
from agent_preflight.base.config import Environment
from agent_preflight.base.console import say
from agent_preflight.base.usd import dollars, exact, read_amounts
from agent_preflight.cli.shared import (
    LiveRunId,
    RunsDir,
    argument,
    complain,
    complete_aliases,
    complete_raises,
    emit_json,
    option,
    usage_errors,
)
from preflight_proxy.core.terminal import plain

if TYPE_CHECKING:
    from agent_preflight.operate.live_changes import PlannedRun, TrialStop
    from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
    from preflight_proxy.ledger.shared_counts_file import CarriedFactor

STOP_WAIT_S_MAX = 300.0
"""At its end a trial waits for costs that are not known yet, for at most four minutes."""


def stop(
    run_id: LiveRunId = None,
    alias: Annotated[str | None, argument("ALIAS", "One of its trials.  [default: all]", complete_aliases)] = None,
    runs_dir: RunsDir = Path("runs"),
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once no further call is sent.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each trial, at its end.")] = False,
) -> None:
    """Stop a live run, or one of its trials.

    The run may be left out where no other is live: `stop` ends it, `stop ALIAS` one of its trials.

    No call is admitted from now on; then the agent is ended, what is in flight is settled, its key is deleted, its summary says
    `stopped`, also of a named trial that has not begun. Exits with 5 if a step of that could not be verified.

    Example: agent-preflight stop run-20270131-120000 nano
    """
    import asyncio

    from agent_preflight.operate import live_changes

    plan, alias = _run_and_trial(run_id, alias, runs_dir)
    asyncio.run(live_changes.stop(plan, alias))
    if not as_json:
        say("No further call is sent. Agents are ended, and the costs of calls in flight are settled.")
    if no_wait:
        return
    stops = asyncio.run(live_changes.until_over(plan, alias, STOP_WAIT_S_MAX))
    if stops is None:
        complain(
            f"The end was not seen within {STOP_WAIT_S_MAX:.0f} s. No further call is sent. "
            f"Look at it with `agent-preflight status {plan.run_dir.name}`."
        )
        raise typer.Exit(5)
    for trial in stops:
        emit_json(trial.to_json()) if as_json else say(plain(f"{trial.alias}: {_stop_text(trial)}"))
    raise typer.Exit(0 if all(trial.verified or trial.summary is None for trial in stops) else 5)


def _run_and_trial(run_id: str | None, alias: str | None, runs_dir: Path) -> tuple[PlannedRun, str | None]:
    """Return the run and the trial to stop. A single word that is not the name of a run is a trial of the only live run."""
    from agent_preflight.operate.live_changes import find_planned_run
    from agent_preflight.runs.choice import live_runs, run_to_change

    if run_id is not None and alias is None and find_run(run_id, runs_dir) is None and len(live_runs(runs_dir)) == 1:
        run_id, alias = None, run_id
    return find_planned_run(run_to_change(run_id, runs_dir).name, runs_dir), alias


def _stop_text(trial: TrialStop) -> str:
    """Return how a trial ended, for a person."""
    if trial.summary is None:
        return "not started"
    extra = trial.summary.get("preflight", {})
    spent = extra.get("posted_usd")
    if trial.never_began and spent == "0":
        return "stopped before it began; nothing was spent"
    if trial.never_began:
        return f"stopped before it began again; ${spent} was spent before"
    clean = (
        "container and key removed"
        if trial.verified
        else "it could not be verified that all was removed: see its summary.json, then run `agent-preflight sweep`"
    )
    return f"{extra.get('ended_by')}, ${spent} spent, {clean}"


def top_up(
    run_id: LiveRunId = None,
    more: Annotated[
        list[str] | None,
        argument("ALIAS=USD...", "A trial, and by how many dollars to raise its budget.", complete_raises),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each trial.")] = False,
) -> None:
    """Give trials of a live run more money.

    USD is added to the budget, for the very next call. It needs the management key in OR_ADMIN_KEY (or OPENROUTER_ADMIN_KEY),
    because the limit of the trial's key at OpenRouter must be raised too: both are, or none. Exits with 1 if none was.

    Example: agent-preflight top-up nano=0.50

    Example: agent-preflight top-up run-20270131-120000 nano=0.50
    """
    import asyncio

    from agent_preflight.operate import live_changes
    from agent_preflight.runs.choice import run_to_change

    texts = list(more or ())
    if run_id is not None and "=" in run_id:  # the run is left out, and the first word is for a trial
        texts.insert(0, run_id)
        run_id = None
    with usage_errors():
        raises = read_amounts(texts, "ALIAS=USD, such as nano=0.50")
    if not raises:
        raise typer.BadParameter("give at least one ALIAS=USD, such as nano=0.50")
    plan = live_changes.find_planned_run(run_to_change(run_id, runs_dir).name, runs_dir)
    environment = Environment.read()
    for alias, _ in raises:
        live_changes.check_alias(plan, alias)
    for alias, more_pusd in raises:
        balance = asyncio.run(live_changes.top_up(plan, alias, more_pusd, environment.admin_key, environment.base_url))
        amounts = (balance.limit_pusd - more_pusd, balance.limit_pusd, balance.available_pusd)
        before, after, left = map(exact if as_json else dollars, amounts)
        if as_json:
            figures = {"limit_before_usd": before, "limit_usd": after, "available_usd": left}
            emit_json({"alias": alias, **figures, "frozen": balance.frozen})
            continue
        say(f"{alias}: budget {before} -> {after}, {left} available now")
        if balance.frozen is not None:
            complain(f"{alias} is frozen ({balance.frozen}): no call is admitted, whatever its budget.")


def quarantine(
    clear: Annotated[tuple[str, str] | None, option("MODEL TAG", "Use this endpoint again.", "--clear")] = None,
    upstream: Annotated[
        str | None, option("URL", "The API base that has the endpoint.  [default: OPENROUTER_BASE_URL, or OpenRouter]")
    ] = None,
    data: Annotated[Path | None, option("DIR", "Tell the stand-alone proxy of this folder too.")] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each endpoint.")] = False,
) -> None:
    """List endpoints that billed or counted too much.

    No proxy of yours sends calls to an endpoint that billed above a reservation. Where one counted more tokens than estimated,
    more is reserved. `--clear` ends that, at once also for the runs that are going on.

    Example: agent-preflight quarantine --clear openai/gpt-4.1-nano azure
    """
    from preflight_proxy.base import log

    log.configure()
    if clear is None:
        _list_quarantined(as_json=as_json)
        return
    import asyncio

    from agent_preflight.openrouter.http import resolve_base_url
    from agent_preflight.operate.quarantine import clear as clear_endpoint
    from preflight_proxy.base.config import origin

    upstream = resolve_base_url(upstream)
    result = asyncio.run(clear_endpoint(*clear, runs_dir, data, upstream=upstream))
    if as_json:
        emit_json({"cleared": result.listed, "proxies": [str(path) for path in result.proxies]})
    else:
        proxies = f"; told the proxy of {', '.join(map(str, result.proxies))}" if result.proxies else ""
        listed = "cleared" if result.listed else f"was not on the list for {origin(upstream)}"
        say(plain(f"{clear[0]} at {clear[1]}: {listed}{proxies}"))
    raise typer.Exit(0 if result.listed or result.proxies else 1)


def _list_quarantined(*, as_json: bool) -> None:
    from agent_preflight.operate.quarantine import carried, quarantined
    from preflight_proxy.core.ledger.rows import OPENROUTER
    from preflight_proxy.core.pricing.token_factors import AS_ESTIMATED, BY_BYTES

    def list_one(row: QuarantinedEndpoint | CarriedFactor, text: str, **more: object) -> None:
        since = datetime.fromtimestamp(row.at_s, UTC).isoformat(timespec="seconds")
        where = "" if row.upstream == OPENROUTER else f"of {row.upstream}  "
        if as_json:
            emit_json({"model": row.model, "tag": row.tag, "since": since, **more, "upstream": row.upstream})
        else:
            say(plain(f"{row.model}  {row.tag}  {where}since {since}  {text}"))

    rows, factors = quarantined(), carried()
    for row in rows:
        list_one(row, row.reason, reason=row.reason)
    if not rows and not as_json:
        say("No endpoint is quarantined.")
    for each in factors:
        if each.factor >= BY_BYTES:
            list_one(each, "is counted by bytes", tokens="bytes")
        else:
            times = each.factor / AS_ESTIMATED
            list_one(each, f"counts {times:g} times the estimated tokens", tokens=times)
