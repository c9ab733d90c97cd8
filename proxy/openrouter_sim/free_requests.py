"""The requests that cost nothing: keys and credits, models, the caller's key, generations, and the simulator's bill.

Source: openrouter.ai/docs/guides/overview/auth/management-api-keys, openrouter.ai/openapi.yaml, 2026.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aiohttp import web

from openrouter_sim.base.errors import USER_ID, ApiError, bad_request, read_object
from openrouter_sim.base.jsonio import JsonObject, encode
from openrouter_sim.billing.account import SimGeneration, SimKey, days_of
from openrouter_sim.billing.admission import authenticate, require_management
from openrouter_sim.catalog.models import SimModel, show_architecture, show_endpoint, show_model

if TYPE_CHECKING:
    from openrouter_sim.simulator import Simulator

WORKSPACE_ID = "0df9e665-d932-5740-b2c7-b52af166bc11"
PAGE_KEYS = 100
_UPDATABLE = {"name", "disabled", "limit", "limit_reset", "include_byok_in_limit", "workspace_id"}


def json_answer(data: object, status: int = 200) -> web.Response:
    """Return a JSON answer; its numbers are exact."""
    return web.Response(status=status, body=encode(data), content_type="application/json")


def add_routes(app: web.Application, simulator: Simulator) -> None:
    """Serve the management API and the free reads."""
    free, api = _FreeRequests(simulator), "/api/v1"
    app.add_routes(
        [
            web.get(f"{api}/keys", free.list_keys),
            web.post(f"{api}/keys", free.create_key),
            web.get(f"{api}/keys/{{hash}}", free.get_key),
            web.patch(f"{api}/keys/{{hash}}", free.update_key),
            web.delete(f"{api}/keys/{{hash}}", free.delete_key),
            web.get(f"{api}/credits", free.credits),
            web.get("/sim/bill", free.bill),
            web.get("/sim/faults", free.faults),
            web.get(f"{api}/models", free.models),
            web.get(f"{api}/models/count", free.count),
            web.get(f"{api}/embeddings/models", free.embedding_models),
            web.get(f"{api}/models/{{author}}/{{slug}}/endpoints", free.endpoints),
            web.get(f"{api}/key", free.own_key),
            web.get(f"{api}/auth/key", free.own_key),
            web.get(f"{api}/generation", free.generation),
        ]
    )


class _FreeRequests:
    """Handlers. Those of keys and credits accept management keys only."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._account = simulator.account

    async def list_keys(self, request: web.Request) -> web.Response:
        self._check(request)
        offset = request.query.get("offset", "0")
        if not offset.isdecimal():
            raise bad_request("offset: expected a number")
        shown = [key for key in self._account.keys.values() if not key.deleted and not key.management]
        if request.query.get("include_disabled", "true") == "false":
            shown = [key for key in shown if not key.disabled]
        page = sorted(shown, key=lambda key: -key.created_s)[int(offset) : int(offset) + PAGE_KEYS]
        return json_answer({"data": [self._shown(key) for key in page]})

    async def create_key(self, request: web.Request) -> web.Response:
        self._check(request)
        body = read_object(await request.read())
        name = body.get("name")
        if not isinstance(name, str) or not name:
            raise bad_request("name: required")
        changes = {**_changes(body), "expires_s": parse_utc(body.get("expires_at"))}
        secret = self._account.new_secret()
        key = self._account.add_key(secret, name)
        _apply(key, changes)
        return json_answer({"data": self._shown(key), "key": secret}, 201)

    async def get_key(self, request: web.Request) -> web.Response:
        return json_answer({"data": self._shown(self._find(request))})

    async def update_key(self, request: web.Request) -> web.Response:
        key = self._find(request)
        changes = _changes(read_object(await request.read()))
        if not changes:
            raise bad_request("No update fields provided")
        _apply(key, changes)
        key.updated_s = self._account.now()
        return json_answer({"data": self._shown(key)})

    async def delete_key(self, request: web.Request) -> web.Response:
        self._find(request).deleted = True
        return json_answer({"deleted": True})

    async def credits(self, request: web.Request) -> web.Response:
        self._check(request)
        self._account.now()
        return json_answer(
            {"data": {"total_credits": self._account.credits_usd, "total_usage": self._account.used_usd}}
        )

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

    async def own_key(self, request: web.Request) -> web.Response:
        key = self._caller(request)
        budget = None if key.limit is None else self._budget(key)
        data: JsonObject = {
            "label": key.label,
            **self._counters(key),
            "is_free_tier": False,
            "is_management_key": key.management,
            "is_provisioning_key": key.management,
            "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated."},
            "budgets": [] if budget is None else [budget],
            "effective_budget": budget,
        }
        return json_answer({"data": data})

    async def generation(self, request: web.Request) -> web.Response:
        key, now = self._caller(request), self._account.now()
        name = request.query.get("id", "")
        generation = self._account.generations.get(name)
        is_own = generation is not None and (generation.key_hash == key.hash or key.management)
        if generation is None or not is_own or generation.visible_s is None or generation.visible_s > now:
            raise ApiError(404, f"Generation {name} not found")
        return json_answer({"data": show_generation(generation)})

    def _caller(self, request: web.Request) -> SimKey:
        return authenticate(self._account, request.headers.get("Authorization"))

    def _check(self, request: web.Request) -> None:
        require_management(self._caller(request))

    def _find(self, request: web.Request) -> SimKey:
        self._check(request)
        key = self._account.keys.get(request.match_info["hash"])
        if key is None or key.deleted or key.management:
            raise ApiError(404, "API key not found")
        return key

    def _model(self, name: str) -> SimModel:
        for model in self._simulator.catalog.values():
            if name in {model.id, model.canonical_slug}:
                return model
        raise ApiError(404, f"Model {name} not found")

    def _counters(self, key: SimKey) -> JsonObject:
        """Return the limit and usage fields that `/keys` and `/key` both have."""
        today = self._account.today()
        remaining = key.remaining(today)
        windows = (("", None), ("_daily", "daily"), ("_weekly", "weekly"), ("_monthly", "monthly"))
        return {
            "limit": key.limit,
            "limit_remaining": remaining,
            "limit_reset": key.limit_reset,
            "include_byok_in_limit": key.include_byok_in_limit,
            **{f"usage{suffix}": key.spend.within(window, today) for suffix, window in windows},
            **{f"byok_usage{suffix}": key.byok_spend.within(window, today) for suffix, window in windows},
            "expires_at": iso(key.expires_s),
            "creator_user_id": USER_ID,
            "workspace_id": WORKSPACE_ID,
        }

    def _shown(self, key: SimKey) -> JsonObject:
        """Return the key as the management API shows it."""
        return {
            "hash": key.hash,
            "name": key.name,
            "label": key.label,
            "disabled": key.disabled,
            **self._counters(key),
            "created_at": iso(key.created_s),
            "updated_at": iso(key.updated_s),
            "last_used_at": None,
            "external_user": None,
        }

    def _budget(self, key: SimKey) -> JsonObject:
        """Return the key's own limit as a `KeyBudget`."""
        today = self._account.today()
        span = days_of(key.limit_reset, today)
        return {
            "scope": "key_limit",
            "limit_usd": key.limit,
            "spend_usd": key.spent(today),
            "remaining_usd": key.remaining(today),
            "reset_interval": key.limit_reset,
            "resets_at": None if span is None else f"{span[1]}T00:00:00Z",
            "include_byok": key.include_byok_in_limit,
            "guardrail_id": None,
            "budget_id": None,
        }


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


def iso(epoch_s: float | None) -> str | None:
    """Return `2026-10-01T10:30:00Z`; None for None."""
    return None if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: object) -> float | None:
    """Return the epoch second of an `expires_at`; None for None.

    Raises:
        ApiError: 400 unless it is a UTC time with seconds.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise bad_request("expires_at: expected a string")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_request("expires_at: expected an ISO 8601 moment") from None
    if moment.utcoffset() != timedelta(0) or text.count(":") < 2:
        raise bad_request("expires_at: expected UTC with seconds")
    return moment.timestamp()


def _changes(body: JsonObject) -> dict[str, Any]:
    changes = {name: value for name, value in body.items() if name in _UPDATABLE}
    limit = changes.get("limit")
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int | Decimal) or limit < 0:
            raise bad_request("limit: expected a number that is not negative, or null")
        changes["limit"] = Decimal(limit)
    if changes.get("limit_reset") not in {None, "daily", "weekly", "monthly"}:
        raise bad_request("limit_reset: expected daily, weekly, monthly or null")
    for name in ("disabled", "include_byok_in_limit"):
        if name in changes and not isinstance(changes[name], bool):
            raise bad_request(f"{name}: expected a boolean")
    return changes


def _apply(key: SimKey, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if name != "workspace_id":
            setattr(key, name, value)
