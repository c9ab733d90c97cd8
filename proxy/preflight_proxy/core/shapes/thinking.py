"""Lowers the bound on reasoning together with the bound on the output (M9).

Source: docs.anthropic.com/en/docs/build-with-claude/extended-thinking, 2026-10: a budget is at least 1024 and below
`max_tokens`; clearing thinking needs thinking turned on. openrouter.ai/docs/guides/best-practices/reasoning-tokens, 2026-10.
"""

from __future__ import annotations

from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.body import Json, Number
from preflight_proxy.core.shapes.fields import whole_value
from preflight_proxy.core.shapes.parsed_request import ParsedRequest
from preflight_proxy.core.shapes.shape import Request

BUDGET_MIN = 1024
"""The least thinking budget that a provider takes, and the room left for the answer beside it."""


def lower_reasoning(reasoning: dict[str, Json], bound: int) -> dict[str, Json]:
    """`reasoning` with its `max_tokens` at most `bound` - 1024; turned off where that is below 1024."""
    budget = whole_value(reasoning.get("max_tokens"), "reasoning.max_tokens")
    if budget is None or budget <= bound - BUDGET_MIN:
        return reasoning
    rest = {key: item for key, item in reasoning.items() if key not in ("max_tokens", "effort", "enabled")}
    lowered = bound - BUDGET_MIN
    if lowered < BUDGET_MIN:
        return {**rest, "enabled": False}
    return {**reasoning, "max_tokens": Number(lowered)}


def lower_thinking(thinking: dict[str, Json], bound: int) -> dict[str, Json]:
    """`thinking` with its `budget_tokens` at most `bound` - 1024; disabled where that is below 1024."""
    budget = whole_value(thinking.get("budget_tokens"), "thinking.budget_tokens")
    if budget is None or budget <= bound - BUDGET_MIN:
        return thinking
    lowered = bound - BUDGET_MIN
    if lowered < BUDGET_MIN:
        return {"type": "disabled"}
    return {**thinking, "budget_tokens": Number(lowered)}


def without_thinking_edits(context_management: Json) -> Json:
    """`context_management` for a call whose thinking was turned off: its edits that clear thinking would be an error."""
    if not isinstance(context_management, dict) or not isinstance(edits := context_management.get("edits"), list):
        return context_management
    kept: list[Json] = [
        edit for edit in edits if not (isinstance(edit, dict) and str(edit.get("type")).startswith("clear_thinking"))
    ]
    return {**context_management, "edits": kept}


def reasoning_bound(opened: ParsedRequest) -> int | None:
    """The bound on reasoning tokens that a request asks for, the larger if it asks twice.

    Raises:
        BadRequest: It is no whole number.
    """
    told = ((name, key, opened.decoded(name)) for name, key in _BUDGETS.items())
    budgets = [whole_value(asked.get(key), f"{name}.{key}") for name, key, asked in told if isinstance(asked, dict)]
    return max((budget for budget in budgets if budget is not None), default=None)


def reasoning_slices(request: Request, bound: int | None) -> dict[str, bytes]:
    """`reasoning`, `thinking` and `context_management` as they were read, lowered if the bound was (M9).

    A budget that is not inside the bound is lowered in any case: upstream could take it for the bound.
    """
    read = {name: body.value(request.fields[name]) for name in _REWRITTEN if name in request.fields}
    if bound is not None and (lower_bound(request, bound) is not None or (request.reasoning_bound or 0) >= bound):
        if isinstance(reasoning := read.get("reasoning"), dict):
            read["reasoning"] = lower_reasoning(reasoning, bound)
        if isinstance(thinking := read.get("thinking"), dict):
            read["thinking"] = lowered = lower_thinking(thinking, bound)
            if lowered.get("type") == "disabled" and "context_management" in read:
                read["context_management"] = without_thinking_edits(read["context_management"])
    return {name: body.encode(decoded) for name, decoded in read.items()}


_BUDGETS = {"reasoning": "max_tokens", "thinking": "budget_tokens"}
_REWRITTEN = (*_BUDGETS, "context_management")


def lower_bound(request: Request, bound: int | None) -> int | None:
    """`bound` if it is less than the request asked for, or it asked for none."""
    return None if bound is None or (request.bound is not None and bound >= request.bound) else bound
