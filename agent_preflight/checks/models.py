"""Whether OpenRouter has the models, whether they support what the agents need, and how many calls their budgets pay for."""

import difflib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from agent_preflight import provision
from agent_preflight.base.tables import counted
from agent_preflight.base.usd import dollars, pusd
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.report import CheckLine, failed, passed, skipped, warned
from agent_preflight.estimates.calls_that_fit import EXPECT_TOKENS, Estimate, advice, calls_text, rounded_up
from agent_preflight.estimates.price_list import read_estimate
from agent_preflight.openrouter.patch_points import replacement

Models = Mapping[str, Mapping[str, Any]]

LIST, MODEL, PARAMETERS, ESTIMATE = "Model availability", "Model", "Parameter support", "Calls in the budget"

FREE = ":free"
SIMILAR_MAX = 3
SIMILAR_MIN = 0.6
"""The least similarity of a suggestion, as `difflib` measures it: enough for a typing error, too much for another model."""

ASSUMED = (
    f"; {EXPECT_TOKENS:,} is assumed: if your first prompt is smaller, say --expect-tokens N (Python: expect_tokens=N)"
)
NO_BOUND = " if the agent asks for no max_tokens"
READS_AT_ONCE = 8
"""With as many, a long list of models is read within the time of a check, even if OpenRouter does not answer."""


def find_model(models: Models, model_id: str) -> Mapping[str, Any] | None:
    """Return OpenRouter's entry of a model. A model with a suffix that is not listed has the entry of its base model.

    Source: openrouter.ai/docs/features/model-routing, variants such as ``:online`` and ``:nitro``, read 2026-10.
    """
    return models.get(model_id) or models.get(model_id.partition(":")[0])


def check_models(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that each model is on OpenRouter; the line shows its prices."""
    models = facts.models()
    if models is None:
        return [_no_list(LIST, facts, "Could not fetch model list from OpenRouter")]
    return [_model_line(models, model_id) for model_id in inputs.models]


def check_tool_support(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that each model supports the parameters that are required of it."""
    if not inputs.required:
        return [skipped(PARAMETERS, "no required_params/common_required_params specified — skipped")]
    models = facts.models()
    if models is None:
        return [_no_list(PARAMETERS, facts, "Could not fetch model list from OpenRouter for parameter support")]
    return [_params_line(models, model_id, params) for model_id, params in inputs.required.items()]


def price_per_m(info: Mapping[str, Any], kind: str) -> Decimal | None:
    """Return a model's list price in dollars per million tokens; None if it has none or it varies.

    Args:
        info: OpenRouter's entry of the model.
        kind: ``prompt`` or ``completion``.
    """
    pricing = info.get("pricing")
    text = pricing.get(kind) if isinstance(pricing, Mapping) else None
    try:
        price = Decimal(str(text)[:40])
    except InvalidOperation:
        return None
    return price * 1_000_000 if price.is_finite() and 0 <= price <= 1 else None


def _no_list(name: str, facts: Facts, failure: str) -> CheckLine:
    unreachable = facts.unreachable() if replacement(provision.get_available_models) is None else None
    return unreachable or failed(name, "could not fetch model list", failure)


def similar(models: Iterable[str], model_id: str) -> list[str]:
    """Return listed ids that may be meant by one that is not listed, the most likely first."""
    name = model_id.partition(":")[0].lower()
    by_lower = {listed.lower(): listed for listed in models}
    same = [listed for lower, listed in by_lower.items() if lower.rpartition("/")[2] == name.rpartition("/")[2]]
    near = [by_lower[lower] for lower in difflib.get_close_matches(name, by_lower, SIMILAR_MAX, SIMILAR_MIN)]
    return list(dict.fromkeys([*same, *near]))[:SIMILAR_MAX]


def _model_line(models: Models, model_id: str) -> CheckLine:
    name, info = f"{MODEL} {model_id}", find_model(models, model_id)
    if info is None:
        suggestions = ", ".join(similar(models, model_id))
        question = f"; did you mean {suggestions}?" if suggestions else ""
        return failed(name, f"not found on OpenRouter{question}", f"Model {model_id} not on OpenRouter{question}")
    if model_id.endswith(FREE) and model_id not in models:
        return warned(name, "no free variant is listed; its base model is")
    prices = [price_per_m(info, kind) for kind in ("prompt", "completion")]
    prompt, completion = ("no fixed price" if price is None else f"${price:.2f}" for price in prices)
    return passed(name, f"{prompt}/{completion} per M tokens in/out")


def _params_line(models: Models, model_id: str, params: tuple[str, ...]) -> CheckLine:
    name, info = f"Params {model_id}", find_model(models, model_id)
    if info is None:
        failure = f"Model {model_id} not on OpenRouter for parameter support check"
        return failed(name, "model not found on OpenRouter", failure)
    listed = info.get("supported_parameters")
    supported = listed if isinstance(listed, list) else []
    missing = ", ".join(param for param in params if param not in supported)
    if missing:
        detail = f"missing {missing}; supports {counted(len(supported), 'parameter')}"
        return failed(name, detail, f"Model {model_id} missing required params: {missing}")
    return passed(name, f"supports {', '.join(params)}")


def check_estimate(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Estimate how many calls each budget pays for, by the public prices. Spends nothing.

    A budget that does not pay for one call is a failure only if the user has stated the prompt's size. If OpenRouter cannot be
    reached, that is one failure for all models.
    """
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        estimates = list(pool.map(partial(_estimate, inputs), inputs.models))
    if estimates and all(each.why_unread for each in estimates) and (unreachable := facts.unreachable()) is not None:
        return [unreachable]
    return [_estimate_line(inputs, estimate) for estimate in estimates]


def _estimate(inputs: Inputs, model: str) -> Estimate:
    return read_estimate(
        model,
        pusd(inputs.budget_of(model)),
        inputs.or_key or None,
        inputs.base_url,
        expect_tokens=EXPECT_TOKENS if inputs.expect_tokens is None else inputs.expect_tokens,
        byok=inputs.byok,
    )


def _estimate_line(inputs: Inputs, estimate: Estimate) -> CheckLine:
    name, detail = f"{ESTIMATE} {estimate.model}", estimate_text(estimate)
    if estimate.why_unread:
        return warned(name, detail)
    if not estimate.is_low:
        return passed(name, detail)
    is_assumed = inputs.expect_tokens is None
    hint = advice(estimate) + (ASSUMED if is_assumed and not estimate.why_none else "")
    if is_assumed or estimate.calls:
        return warned(name, detail, hint)
    return failed(name, detail, f"{estimate.model}: {detail}", hint)


def estimate_text(estimate: Estimate) -> str:
    """Return what the budget pays for, what one call can cost, and how long the answer of a clamped first call can be."""
    if estimate.why_unknown:
        return estimate.why_unknown
    no_bound = NO_BOUND if estimate.is_low and estimate.bound > estimate.floor else ""
    text = (
        f"{dollars(estimate.budget_pusd)} affords {calls_text(estimate)} of {estimate.expect_tokens:,} prompt tokens; "
        f"one can cost up to {rounded_up(estimate.worst_pusd)}{no_bound}"
    )
    if estimate.first_bound is None:
        return f"{text} ({rounded_up(estimate.least_pusd)} with an answer of {estimate.floor:,} tokens)"
    if estimate.first_bound < estimate.bound:
        return f"{text}, so the first answer is cut from {estimate.bound:,} to {estimate.first_bound:,} tokens"
    return text
