"""How many calls each model's budget affords: read from the public prices, nothing is spent."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from agent_preflight.base.usd import dollars, pusd
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine, failed, passed, warned
from agent_preflight.estimates.calls_that_fit import EXPECT_TOKENS, Estimate, advice, calls_text, estimate, rounded_up
from agent_preflight.estimates.price_list import read_endpoints
from agent_preflight.openrouter.reachable import UNREACHABLE
from preflight_proxy.core.errors import UpstreamError

NAME = "Calls in the budget"
ASSUMED = (
    f"; {EXPECT_TOKENS:,} is assumed: if your first prompt is smaller, say --expect-tokens N (Python: expect_tokens=N)"
)
UNASKED = " if the agent asks for no max_tokens"
READS_AT_ONCE = 8
"""So that a field of models is through within the time of a check, also where OpenRouter does not answer."""


def check_estimate(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Estimate each model; a budget without one call fails only where the user has stated the prompt's size.

    Where OpenRouter cannot be reached, that is one failure for all models.
    """
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        found = list(pool.map(partial(_look, inputs), inputs.models))
    if found and all(isinstance(each, UpstreamError) for each in found) and (trouble := facts.trouble()):
        return [failed(NAME, UNREACHABLE, trouble)]
    return [_line(inputs, model, each) for model, each in zip(inputs.models, found, strict=True)]


def name_of(model: str) -> str:
    """Return what the report's line of a model is called."""
    return f"{NAME} {model}"


def _look(inputs: Inputs, model: str) -> Estimate | UpstreamError:
    try:
        endpoints = read_endpoints(model, inputs.or_key or None, inputs.base_url)
    except UpstreamError as exc:
        return exc
    return estimate(
        model,
        pusd(inputs.budget_of(model)),
        endpoints,
        expect_tokens=EXPECT_TOKENS if inputs.expect_tokens is None else inputs.expect_tokens,
        byok=inputs.byok,
    )


def _line(inputs: Inputs, model: str, found: Estimate | UpstreamError) -> CheckLine:
    name = name_of(model)
    if isinstance(found, UpstreamError):
        return warned(name, f"not estimated: {found}")
    detail = told(found)
    if not found.is_low:
        return passed(name, detail)
    is_failure = not found.calls and inputs.expect_tokens is not None
    return CheckLine(
        ok=False if is_failure else None,
        name=name,
        detail=detail,
        failure=f"{model}: {detail}" if is_failure else "",
        hint=advice(found) + (ASSUMED if inputs.expect_tokens is None and not found.why_none else ""),
    )


def told(found: Estimate) -> str:
    """Return what the budget affords, what one call can cost, and what a clamped first call gets."""
    if found.why_none:
        return f"every call is refused: {found.why_none}"
    what = (
        f"{dollars(found.budget_pusd)} affords {calls_text(found)} of {found.expect_tokens:,} prompt tokens; "
        f"one can cost up to {rounded_up(found.worst_pusd)}{UNASKED if found.is_low and found.bound > found.floor else ''}"
    )
    if found.first_bound is None:
        return f"{what} ({rounded_up(found.least_pusd)} with an answer of {found.floor:,} tokens)"
    if found.first_bound < found.bound:
        return f"{what}, so the first answer is cut from {found.bound:,} to {found.first_bound:,} tokens"
    return what
