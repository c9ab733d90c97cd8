"""Writes the request that leaves: unchanged fields byte for byte, the output bound, the bounds on reasoning, the provider object.

A clamp lowers the bound on reasoning together with the bound on the output (M9 (clamp)).

Source: docs.anthropic.com/en/docs/build-with-claude/extended-thinking, 2026-10: a budget is at least 1024 and below
`max_tokens`; clearing thinking needs thinking turned on. openrouter.ai/docs/guides/best-practices/reasoning-tokens, 2026-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.body import Json, Number, Slice
from preflight_proxy.core.shapes.fields import REASONING_BUDGETS, whole_value
from preflight_proxy.core.shapes.provider import provider_bytes
from preflight_proxy.core.shapes.shape import Request

LAYOUTS_MAX = 4
"""Layouts of one frame that are kept: it is usually sent with one bound to the same endpoints."""
COPIED_BYTES_MAX = 256
"""A field that is not longer is part of the layout; others, and the prompt, are named in it."""
BUDGET_MIN = 1024
"""The least thinking budget that a provider takes, and the room left for the answer beside it."""


def write_request(
    request: Request, *, bound: int | None, only: Sequence[str], max_price: Mapping[str, Decimal]
) -> bytes:
    """Return the body that leaves.

    Args:
        request: As read.
        bound: The output bound to write, in every spelling that leaves; None to write none.
        only: The endpoint tags that were quoted.
        max_price: The price caps, USD per million tokens.
    """
    key = (bound, tuple(only), tuple(max_price.items()))
    layout = request.layouts.get(key)
    if layout is None:
        layout = _layout(request, bound, only, max_price)
        if len(request.layouts) >= LAYOUTS_MAX:
            request.layouts.clear()
        request.layouts[key] = layout
    return b"".join([part if isinstance(part, bytes) else request.fields[part] for part in layout])


def _layout(
    request: Request, bound: int | None, only: Sequence[str], max_price: Mapping[str, Decimal]
) -> tuple[bytes | str, ...]:
    """The body in parts: texts, and the names of the fields that stand between them as they came."""
    fields: dict[str, Slice] = {**request.fields, **_reasoning(request, bound)}
    if bound is not None:
        fields |= dict.fromkeys(request.bound_fields, b"%d" % bound)
    provider = provider_bytes(request, only, max_price)
    if provider != b"{}":
        fields["provider"] = provider
    parts: list[bytes | str] = []
    written = b"{"
    for position, (name, raw) in enumerate(fields.items()):
        written += (b"," if position else b"") + body.encode(name) + b":"
        is_long = raw is request.fields.get(name) and memoryview(raw).nbytes > COPIED_BYTES_MAX
        if name == request.prompt_field or is_long:  # the prompt differs between the requests that share a layout
            parts += [written, name]
            written = b""
        else:
            written += bytes(raw)
    return (*parts, written + b"}")


def _reasoning(request: Request, bound: int | None) -> dict[str, bytes]:
    """The fields about reasoning, written again; lowered where the output bound was lowered.

    A budget that is not inside the bound is lowered in any case: upstream could take it for the bound.
    """
    names = (*REASONING_BUDGETS, "context_management")
    settings = {name: body.value(bytes(request.fields[name])) for name in names if name in request.fields}
    if bound is not None and (
        request.bound is None or bound < request.bound or (request.reasoning_bound or 0) >= bound
    ):
        for name in REASONING_BUDGETS:
            if isinstance(value := settings.get(name), dict):
                settings[name] = _lowered(name, value, bound)
        match settings:
            case {"thinking": {"type": "disabled"}, "context_management": {"edits": list() as edits}}:
                settings["context_management"] = {"edits": [edit for edit in edits if not _clears_thinking(edit)]}
    return {name: body.encode(value) for name, value in settings.items()}


def _lowered(name: str, settings: dict[str, Json], bound: int) -> dict[str, Json]:
    """`reasoning` or `thinking` with a budget of at most `bound` - 1024 tokens; turned off where that is below 1024."""
    key = REASONING_BUDGETS[name]
    budget, budget_max = whole_value(settings.get(key), f"{name}.{key}"), bound - BUDGET_MIN
    if budget is None or budget <= budget_max:
        return settings
    if budget_max >= BUDGET_MIN:
        return {**settings, key: Number(budget_max)}
    if name == "thinking":
        return {"type": "disabled"}
    rest = {name: value for name, value in settings.items() if name not in ("max_tokens", "effort", "enabled")}
    return {**rest, "enabled": False}


def _clears_thinking(edit: Json) -> bool:
    """True for an edit that upstream refuses while thinking is off."""
    return isinstance(edit, dict) and str(edit.get("type")).startswith("clear_thinking")
