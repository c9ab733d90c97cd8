"""Reads that cost nothing: models, the caller's key, generations, and the simulator's bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from openrouter_sim.base.errors import ApiError
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.base.times import iso
from openrouter_sim.billing.admission import authenticate
from openrouter_sim.billing.bill import SimGeneration
from openrouter_sim.catalog.models import SimModel, show_architecture, show_endpoint, show_model
from openrouter_sim.management import WORKSPACE_ID, counters, json_answer, show_budget

if TYPE_CHECKING:
    from openrouter_sim.simulator import Simulator


def add_routes(app: web.Application, simulator: Simulator) -> None:
    """Serve the free reads."""
    reads = _Reads(simulator)
    app.router.add_get("/sim/bill", reads.bill)
    app.router.add_get("/sim/faults", reads.faults)
    app.router.add_get("/api/v1/models", reads.models)
    app.router.add_get("/api/v1/models/count", reads.count)
    app.router.add_get("/api/v1/embeddings/models", reads.embedding_models)
    app.router.add_get("/api/v1/models/{author}/{slug}/endpoints", reads.endpoints)
    app.router.add_get("/api/v1/key", reads.key)
    app.router.add_get("/api/v1/auth/key", reads.key)
    app.router.add_get("/api/v1/generation", reads.generation)


class _Reads:
    """Handlers."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def bill(self, request: web.Request) -> web.Response:
        is_summary = request.query.get("summary", "0") not in {"", "0", "false"}
        return json_answer(self._simulator.bill().to_json(summary=is_summary))

    async def faults(self, request: web.Request) -> web.Response:
        return json_answer(dict(self._simulator.strikes))

    async def models(self, request: web.Request) -> web.Response:
        wanted = request.query.get("output_modalities", "text").split(",")
        shown = [m for m in self._simulator.catalog.values() if "all" in wanted or m.output in wanted]
        return _listed(shown)

    async def embedding_models(self, request: web.Request) -> web.Response:
        return _listed([m for m in self._simulator.catalog.values() if m.output == "embeddings"])

    async def count(self, request: web.Request) -> web.Response:
        count = sum(model.output == "text" for model in self._simulator.catalog.values())
        return json_answer({"data": {"count": count}})

    async def endpoints(self, request: web.Request) -> web.Response:
        model = self._model(f"{request.match_info['author']}/{request.match_info['slug']}")
        shown = [show_endpoint(model, endpoint) for endpoint in model.endpoints]
        data = {
            "id": model.id,
            "name": model.name,
            "created": model.created,
            "description": "Simulated.",
            "architecture": show_architecture(model),
            "endpoints": shown,
        }
        return json_answer({"data": data})

    async def key(self, request: web.Request) -> web.Response:
        account = self._simulator.account
        key = authenticate(account, request.headers.get("Authorization"))
        budget = None if key.limit is None else show_budget(account, key)
        data: JsonObject = {
            "label": key.label,
            **counters(account, key),
            "is_free_tier": False,
            "is_management_key": key.management,
            "is_provisioning_key": key.management,
            "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated."},
            "budgets": [] if budget is None else [budget],
            "effective_budget": budget,
        }
        return json_answer({"data": data})

    async def generation(self, request: web.Request) -> web.Response:
        account = self._simulator.account
        key = authenticate(account, request.headers.get("Authorization"))
        now = account.now()
        name = request.query.get("id", "")
        generation = account.generations.get(name)
        is_own = generation is not None and (generation.key_hash == key.hash or key.management)
        if generation is None or not is_own or generation.visible_s is None or generation.visible_s > now:
            raise ApiError(404, f"Generation {name} not found")
        return json_answer({"data": show_generation(generation)})

    def _model(self, name: str) -> SimModel:
        for model in self._simulator.catalog.values():
            if name in {model.id, model.canonical_slug}:
                return model
        raise ApiError(404, f"Model {name} not found")


def show_generation(generation: SimGeneration) -> JsonObject:
    """Return the `data` of `GET /generation`. Source: openrouter.ai/openapi.yaml, 2026."""
    tokens = generation.tokens
    return {
        "id": generation.id,
        "request_id": f"req-{generation.id[4:]}",
        "upstream_id": f"up-{generation.id[-20:]}",
        "session_id": None,
        "total_cost": generation.reported_usd,
        "usage": generation.reported_usd,
        "upstream_inference_cost": generation.upstream_usd or 0,
        "cache_discount": generation.cache_discount_usd,
        "is_byok": generation.upstream_usd is not None,
        "created_at": iso(generation.created_s),
        "model": generation.model,
        "provider_name": generation.provider,
        "api_type": "embeddings" if generation.api == "embeddings" else "completions",
        "streamed": generation.streamed,
        "cancelled": generation.outcome == "cancelled",
        "finish_reason": generation.finish_reason,
        "native_finish_reason": generation.finish_reason,
        "tokens_prompt": tokens.prompt * 19 // 20,
        "tokens_completion": tokens.completion * 19 // 20,
        "native_tokens_prompt": tokens.prompt,
        "native_tokens_completion": tokens.completion,
        "native_tokens_reasoning": tokens.reasoning,
        "native_tokens_cached": tokens.cached,
        "service_tier": None,
        "workspace_id": WORKSPACE_ID,
        "provider_responses": [{"provider_name": generation.provider, "status": 200, "is_byok": False}],
    }


def _listed(models: list[SimModel]) -> web.Response:
    data = [show_model(model) for model in models]
    return json_answer({"data": data, "total_count": len(data), "links": {"next": None}})
