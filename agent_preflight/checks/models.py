"""Whether OpenRouter has the models, and whether they support what the agents need."""

import difflib
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from agent_preflight import provision
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine, counted, failed, passed, skipped, warned
from agent_preflight.openrouter.patch_points import is_replaced
from agent_preflight.openrouter.reachable import UNREACHABLE

Models = Mapping[str, Mapping[str, Any]]

FREE = ":free"
ALIKE_MAX = 3
ALIKE_MIN = 0.6
"""How alike a suggestion must be, as `difflib` measures it: a slip of the hand, not another model."""


def find_model(models: Models, model_id: str) -> Mapping[str, Any] | None:
    """Return what OpenRouter says of a model; one with a suffix that is not listed is its base model.

    Source: openrouter.ai/docs/features/model-routing, variants such as ``:online`` and ``:nitro``, read 2026-10.
    """
    return models.get(model_id) or models.get(model_id.partition(":")[0])


def name_of(model_id: str) -> str:
    """Return what the report's line of a model is called."""
    return f"Model {model_id}"


def check_models(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that each model is on OpenRouter; the line shows its prices."""
    models = facts.models()
    if models is None:
        return [_no_list("Model availability", facts, "Could not fetch model list from OpenRouter")]
    return [_model_line(models, model_id) for model_id in inputs.models]


def check_tool_support(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that each model supports the parameters that are required of it."""
    name = "Parameter support"
    if not inputs.required:
        return [skipped(name, "no required_params/common_required_params specified — skipped")]
    models = facts.models()
    if models is None:
        return [_no_list(name, facts, "Could not fetch model list from OpenRouter for parameter support")]
    return [_params_line(models, model_id, params) for model_id, params in inputs.required.items()]


def price_per_m(info: Mapping[str, Any], kind: str) -> Decimal | None:
    """Return a model's list price in dollars per million tokens; None if it has none or it varies.

    Args:
        info: what OpenRouter says of the model.
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
    if not is_replaced(provision.get_available_models) and (trouble := facts.trouble()):
        return failed(name, UNREACHABLE, trouble)
    return failed(name, "could not fetch model list", failure)


def alike(models: Iterable[str], model_id: str) -> list[str]:
    """Return ids that somebody may have meant who wrote one that is not listed, the likeliest first."""
    listed = list(models)
    name = model_id.partition(":")[0].lower()
    same = [each for each in listed if each.rpartition("/")[2].lower() == name.rpartition("/")[2]]
    by_lower = {each.lower(): each for each in listed}
    near = [by_lower[each] for each in difflib.get_close_matches(name, by_lower, n=ALIKE_MAX, cutoff=ALIKE_MIN)]
    return list(dict.fromkeys([*same, *near]))[:ALIKE_MAX]


def _model_line(models: Models, model_id: str) -> CheckLine:
    name, info = name_of(model_id), find_model(models, model_id)
    if info is None:
        meant = alike(models, model_id)
        asked = f"; did you mean {', '.join(meant)}?" if meant else ""
        return failed(name, f"not found on OpenRouter{asked}", f"Model {model_id} not on OpenRouter{asked}")
    if model_id.endswith(FREE) and model_id not in models:
        return warned(name, "no free variant is listed; its base model is")
    prompt, completion = (_price_text(price_per_m(info, kind)) for kind in ("prompt", "completion"))
    return passed(name, f"{prompt}/{completion} per M tokens in/out")


def _price_text(price: Decimal | None) -> str:
    return "no fixed price" if price is None else f"${price:.2f}"


def _params_line(models: Models, model_id: str, params: tuple[str, ...]) -> CheckLine:
    name, info = f"Params {model_id}", find_model(models, model_id)
    if info is None:
        return failed(
            name, "model not found on OpenRouter", f"Model {model_id} not on OpenRouter for parameter support check"
        )
    listed = info.get("supported_parameters")
    supported = listed if isinstance(listed, list) else []
    missing = ", ".join(param for param in params if param not in supported)
    if missing:
        detail = f"missing {missing}; supports {counted(len(supported), 'parameter')}"
        return failed(name, detail, f"Model {model_id} missing required params: {missing}")
    return passed(name, f"supports {', '.join(params)}")
