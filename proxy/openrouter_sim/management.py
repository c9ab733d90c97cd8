"""The management API, for keys and credits.

Source: openrouter.ai/docs/guides/overview/auth/management-api-keys, openrouter.ai/openapi.yaml, 2026.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aiohttp import web

from openrouter_sim.base.errors import ApiError, bad_request
from openrouter_sim.base.jsonio import JsonObject, encode, loads
from openrouter_sim.base.times import iso, next_reset_s, parse_utc
from openrouter_sim.billing.account import SimAccount, SimKey
from openrouter_sim.billing.admission import authenticate, require_management

if TYPE_CHECKING:
    from openrouter_sim.simulator import Simulator

WORKSPACE_ID = "0df9e665-d932-5740-b2c7-b52af166bc11"
PAGE_KEYS = 100
_UPDATABLE = {"name", "disabled", "limit", "limit_reset", "include_byok_in_limit", "workspace_id"}


def json_answer(data: object, status: int = 200) -> web.Response:
    """Return a JSON answer; its numbers are exact."""
    return web.Response(status=status, body=encode(data), content_type="application/json")


def add_routes(app: web.Application, simulator: Simulator) -> None:
    """Serve `/keys` and `/credits`."""
    keys = _Keys(simulator.account)
    app.router.add_get("/api/v1/keys", keys.list_all)
    app.router.add_post("/api/v1/keys", keys.create)
    app.router.add_get("/api/v1/keys/{hash}", keys.get)
    app.router.add_patch("/api/v1/keys/{hash}", keys.update)
    app.router.add_delete("/api/v1/keys/{hash}", keys.delete)
    app.router.add_get("/api/v1/credits", keys.credits)


class _Keys:
    """Handlers. Each accepts management keys only."""

    def __init__(self, account: SimAccount) -> None:
        self._account = account

    async def list_all(self, request: web.Request) -> web.Response:
        self._check(request)
        offset = request.query.get("offset", "0")
        if not offset.isdecimal():
            raise bad_request("offset: expected a number")
        shown = [key for key in self._account.keys.values() if not key.deleted and not key.management]
        if request.query.get("include_disabled", "true") == "false":
            shown = [key for key in shown if not key.disabled]
        page = sorted(shown, key=lambda key: -key.created_s)[int(offset) : int(offset) + PAGE_KEYS]
        return json_answer({"data": [show_key(self._account, key) for key in page]})

    async def create(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await _body(request)
        name = body.get("name")
        if not isinstance(name, str) or not name:
            raise bad_request("name: required")
        expires_at = body.get("expires_at")
        expires_s = None if expires_at is None else parse_utc(expires_at)
        changes = _changes(body)
        secret = self._account.new_secret()
        key = self._account.add_key(secret, name)
        key.expires_s = expires_s
        _apply(key, changes)
        return json_answer({"data": show_key(self._account, key), "key": secret}, 201)

    async def get(self, request: web.Request) -> web.Response:
        return json_answer({"data": show_key(self._account, self._find(request))})

    async def update(self, request: web.Request) -> web.Response:
        key = self._find(request)
        changes = _changes(await _body(request))
        if not changes:
            raise bad_request("No update fields provided")
        _apply(key, changes)
        key.updated_s = self._account.now()
        return json_answer({"data": show_key(self._account, key)})

    async def delete(self, request: web.Request) -> web.Response:
        self._find(request).deleted = True
        return json_answer({"deleted": True})

    async def credits(self, request: web.Request) -> web.Response:
        self._check(request)
        self._account.now()
        return json_answer(
            {"data": {"total_credits": self._account.credits_usd, "total_usage": self._account.used_usd}}
        )

    def _check(self, request: web.Request) -> None:
        require_management(authenticate(self._account, request.headers.get("Authorization")))

    def _find(self, request: web.Request) -> SimKey:
        self._check(request)
        key = self._account.keys.get(request.match_info["hash"])
        if key is None or key.deleted or key.management:
            raise ApiError(404, "API key not found")
        return key


def counters(account: SimAccount, key: SimKey) -> JsonObject:
    """Return the limit and usage fields that `/keys` and `/key` both have."""
    today = account.today()
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
        "creator_user_id": "user_2simulated",
        "workspace_id": WORKSPACE_ID,
    }


def show_key(account: SimAccount, key: SimKey) -> JsonObject:
    """Return the key as the management API shows it."""
    return {
        "hash": key.hash,
        "name": key.name,
        "label": key.label,
        "disabled": key.disabled,
        **counters(account, key),
        "created_at": iso(key.created_s),
        "updated_at": iso(key.updated_s),
        "last_used_at": None,
        "external_user": None,
    }


def show_budget(account: SimAccount, key: SimKey) -> JsonObject:
    """Return the key's own limit as a `KeyBudget`."""
    today = account.today()
    return {
        "scope": "key_limit",
        "limit_usd": key.limit,
        "spend_usd": key.spent(today),
        "remaining_usd": key.remaining(today),
        "reset_interval": key.limit_reset,
        "resets_at": iso(next_reset_s(key.limit_reset, account.now())),
        "include_byok": key.include_byok_in_limit,
        "guardrail_id": None,
        "budget_id": None,
    }


async def _body(request: web.Request) -> JsonObject:
    try:
        body = loads(await request.read())
    except ValueError:
        raise bad_request("Request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise bad_request("Request body is not a JSON object")
    return body


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
