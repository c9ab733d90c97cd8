"""`agent-preflight preflight`."""

from __future__ import annotations

import typer

from agent_preflight.cli.group import complain


def preflight() -> None:
    """Check money, models, keys and caching before a run.

    Reads OR_ADMIN_KEY (or OPENROUTER_ADMIN_KEY), OPENROUTER_API_KEY, PREFLIGHT_MODELS (ids, separated by commas) and
    PREFLIGHT_BUDGET (dollars per model, 0.25 if unset). Exits with 0 if all checks passed, with 1 otherwise.

    Example: PREFLIGHT_MODELS=openai/gpt-4.1-nano agent-preflight preflight
    """
    from agent_preflight.base.config import Environment
    from agent_preflight.preflight import PreflightError
    from agent_preflight.preflight import preflight as check

    inputs = Environment.read().preflight_inputs()
    try:
        check(inputs.admin_key.reveal(), inputs.api_key.reveal(), list(inputs.models), float(inputs.budget_usd))
    except PreflightError as exc:
        complain(exc.below_report)
        raise typer.Exit(1) from exc
