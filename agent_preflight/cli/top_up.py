"""`agent-preflight top-up`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_preflight.cli.group import complain
from agent_preflight.cli.options import LiveRunId, RunsDir, complete_raises

if TYPE_CHECKING:
    from preflight_proxy.base.control_messages import Balance


def top_up(
    run_id: LiveRunId = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ALIAS=USD...",
            help="A trial, and by how many dollars to raise its budget.",
            show_default=False,
            autocompletion=complete_raises,
        ),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Give trials of a live run more money.

    USD is added to the budget, for the very next call. It needs the management key in OR_ADMIN_KEY (or OPENROUTER_ADMIN_KEY),
    because the limit of the trial's key at OpenRouter must be raised too: both are, or none. Exits with 1 if none was.

    Example: agent-preflight top-up nano=0.50

    Example: agent-preflight top-up run-20270131-120000 nano=0.50
    """
    import asyncio

    from agent_preflight.base.config import Environment
    from agent_preflight.operate.live_changes import check_alias, find_planned_run
    from agent_preflight.operate.live_changes import top_up as raise_limit
    from agent_preflight.runs.choice import run_to_change

    texts = list(more or ())
    if run_id is not None and "=" in run_id:  # no run is named, and the first word is a trial's
        texts.insert(0, run_id)
        run_id = None
    if not texts:
        raise typer.BadParameter("give at least one ALIAS=USD, such as nano=0.50")
    wanted = [_named(text) for text in texts]
    plan, environment = find_planned_run(run_to_change(run_id, runs_dir).name, runs_dir), Environment.read()
    for alias, _ in wanted:
        check_alias(plan, alias)
    for alias, more_pusd in wanted:
        balance = asyncio.run(raise_limit(plan, alias, more_pusd, environment.admin_key, environment.base_url))
        _tell(balance, more_pusd)


def _tell(balance: Balance, more_pusd: int) -> None:
    """Print what was done."""
    from agent_preflight.base.console import say
    from agent_preflight.base.usd import dollars

    amounts = (balance.limit_pusd - more_pusd, balance.limit_pusd, balance.available_pusd)
    before, after, left = map(dollars, amounts)
    say(f"{balance.id}: budget {before} -> {after}, {left} available now")
    if balance.frozen is not None:
        complain(f"{balance.id} is frozen ({balance.frozen}): no call is admitted, whatever its budget.")


def _named(text: str) -> tuple[str, int]:
    from agent_preflight.base.usd import pusd, read_usd

    alias, _, amount = text.rpartition("=")
    try:
        found = pusd(read_usd(amount)) if alias else 0
    except ValueError:
        found = 0
    if not found:
        raise typer.BadParameter(f"give ALIAS=USD with more than $0, such as nano=0.50, not {text!r}")
    return alias, found
