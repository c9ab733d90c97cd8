"""The path of an inference call: authenticate, read, route, admit, plan and price, answer, charge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from openrouter_sim.base.errors import ApiError, read_object
from openrouter_sim.billing.account import SimKey
from openrouter_sim.billing.admission import admit, authenticate, require_inference
from openrouter_sim.billing.prices import SimTokens, price_of, search_cost, served_tier
from openrouter_sim.calls.answer import answer, error_answer
from openrouter_sim.calls.call import SimCall, SimRequest, SimShape
from openrouter_sim.calls.prompt_cache import CacheUse
from openrouter_sim.calls.reply import SimReply, cut
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.catalog.models import SimEndpoint, SimModel
from openrouter_sim.catalog.routing import choose, eligible, find_model

if TYPE_CHECKING:
    from openrouter_sim.simulator import Simulator


async def infer(simulator: Simulator, shape: SimShape, request: web.Request) -> web.StreamResponse:
    """Answer one inference request and charge it."""
    for fault in simulator.director.early(None, shape.api):
        early = await fault.answer_early(request)
        if early is not None:
            return early
    raw = await request.read()
    simulator.note(request, raw)
    try:
        call = open_call(simulator, shape, request.headers.get("Authorization"), raw)
    except ApiError as error:
        return error_answer(shape, error, None)
    for fault in call.faults:
        refusal = fault.refuse(call)
        if refusal is not None:
            if call.charges_errors:
                call.settle(simulator.account, call.tokens.completion, "error")
            return error_answer(shape, refusal, call.id if call.shows_id else None)
    return await answer(simulator.account, call, request)


def open_call(simulator: Simulator, shape: SimShape, authorization: str | None, raw: bytes) -> SimCall:
    """Return the call, routed, admitted, planned and priced.

    Raises:
        ApiError: the call is refused.
    """
    account, scenario = simulator.account, simulator.scenario
    key = authenticate(account, authorization)
    require_inference(key)
    body = read_object(raw)
    models = body.get("models")
    name = body.get("model") or (models[0] if isinstance(models, list) and models else None)
    model, variant = find_model(simulator.catalog, name)
    request = shape.read(body, scenario, model.family)
    faults, reply = simulator.director.late(shape.api, request, model.id)
    endpoints = model.endpoints
    for fault in faults:
        endpoints = fault.offer(endpoints)
    prompt_tokens = sum(segment.tokens for segment in request.segments)
    allowed = _with_room(eligible(model, endpoints, body, request.bound), prompt_tokens)
    admit(account, key, allowed, prompt_tokens, request.bound)
    endpoint = _serving(simulator, key, model, allowed, request, variant)
    now = account.now()
    reply = _bounded(reply, request.bound, endpoint, prompt_tokens, scenario)
    used = simulator.cache.use(key.hash, model, endpoint, request.segments, now) if scenario.caching else CacheUse()
    tier, factor = served_tier(body)
    call = SimCall(
        shape=shape,
        scenario=scenario,
        request=request,
        key=key,
        id=simulator.new_generation_id(now),
        created_s=now,
        model=model,
        endpoint=endpoint,
        price=price_of(endpoint.pricing, prompt_tokens, now).times(factor),
        tokens=SimTokens(prompt_tokens, used.cached, used.write_5m, used.write_1h, reply.tokens, reply.reasoning),
        reply=reply,
        authorization=authorization or "",
        faults=tuple(faults),
        service_tier=tier,
        side_usd=search_cost(body, variant),
        lag_s=scenario.key_usage_lag_s,
    )
    for fault in faults:
        fault.arrange(call)
    return call


def _with_room(endpoints: list[SimEndpoint], prompt_tokens: int) -> list[SimEndpoint]:
    endpoints_with_room = [e for e in endpoints if prompt_tokens < (e.max_prompt_tokens or e.context_length)]
    if not endpoints_with_room:
        longest = max(endpoint.context_length for endpoint in endpoints)
        message = f"This endpoint's maximum context length is {longest} tokens. You requested about {prompt_tokens}."
        raise ApiError(400, message, metadata={"error_type": "context_length_exceeded"})
    return endpoints_with_room


def _serving(
    simulator: Simulator, key: SimKey, model: SimModel, endpoints: list[SimEndpoint], request: SimRequest, variant: str
) -> SimEndpoint:
    sticky = simulator.cache.sticky_tag(key.hash, model, request.segments, simulator.account.now())
    if sticky is not None and not (request.body.get("provider") or {}).get("order"):
        for endpoint in endpoints:
            if endpoint.tag == sticky:
                return endpoint
    return choose(endpoints, request.body, variant, simulator.random)


def _bounded(
    reply: SimReply, bound: int | None, endpoint: SimEndpoint, prompt_tokens: int, scenario: Scenario
) -> SimReply:
    room = min(endpoint.output_tokens_max, endpoint.context_length - prompt_tokens)
    return cut(reply, room if bound is None or not endpoint.honours_bound else min(room, bound), scenario)
