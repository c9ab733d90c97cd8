"""Answers the reads that spend nothing: those about the account from the ledger, those about models from the price list."""

from __future__ import annotations

import re

import msgspec

from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.money import usd_text
from preflight_proxy.core.refusals.refusals import budget_headers, error_body
from preflight_proxy.core.shapes.paths import MODEL_NAME
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.server.response import JSON_HEADER, Answer
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import BusyError, Prices

_MODEL_PATH = re.compile(rf"/models/({MODEL_NAME})/endpoints")
_GENERATION_QUERY = re.compile(r"id=([A-Za-z0-9_.:-]{1,128})")


class FreeReads:
    """Serves the paths that spend nothing.

    Args:
        ledger: Accounts and entries.
        prices: The price list.
        upstream: Asked for an account's own generations alone.
    """

    def __init__(self, ledger: Ledger, prices: Prices, upstream: Upstream) -> None:
        self._ledger = ledger
        self._prices = prices
        self._upstream = upstream

    async def serve(self, path: str, query: str, account_id: str) -> Answer | None:
        """Answer `GET path` for an account; None if the path is not one of these."""
        match path:
            case "/key" | "/auth/key":
                return self._json(account_id, {"data": self._key(account_id)})
            case "/credits":
                return self._json(account_id, {"data": self._credits(account_id)})
            case "/budget":
                return self._json(account_id, self._budget(account_id))
            case "/generation":
                return await self._generation(query, account_id)
        return await self.serve_models(path, has_token=True)

    async def serve_models(self, path: str, *, has_token: bool) -> Answer | None:
        """Answer a read about models; None for every other path. Without a token it is limited to one read a second."""
        model = _MODEL_PATH.fullmatch(path)
        if path != "/models" and model is None:
            return None
        try:
            if model is None:
                body = await self._prices.models(for_anyone=not has_token)
                return 200, [JSON_HEADER], body
            listed = await (self._prices.of(model[1]) if has_token else self._prices.of_anyone(model[1]))
        except BusyError:
            text = "This list is read at most once a second without a token. Send the token, or ask again in a second."
            status, headers, body = failure(503, text, "provider_overloaded")
            return status, [*headers, ("Retry-After", "1")], body
        except UpstreamError:
            return failure(502, "OpenRouter's list cannot be read.", "provider_unavailable")
        if listed is None or not listed.endpoints:
            return failure(404, "This model has no endpoint with a known price.", "not_found")
        return 200, [JSON_HEADER], listed.raw

    def _json(self, account_id: str, document: object) -> Answer:
        headers = budget_headers(self._ledger.account(account_id))
        return 200, [JSON_HEADER, *headers], msgspec.json.encode(document)

    def _key(self, account_id: str) -> dict[str, object]:
        """The shape of upstream's `/key`: `usage` is what is posted, `limit_remaining` what is available."""
        account = self._ledger.account(account_id)
        usage = _figure(account.posted_pusd)
        return {
            "label": account.id,
            "limit": _figure(account.limit_pusd),
            "limit_remaining": _figure(max(0, account.available_pusd)),
            "limit_reset": None,
            "usage": usage,
            "usage_daily": usage,
            "usage_weekly": usage,
            "usage_monthly": usage,
            "byok_usage": 0,
            "include_byok_in_limit": True,
            "is_free_tier": False,
            "is_management_key": False,
            "is_provisioning_key": False,
            "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
        }

    def _credits(self, account_id: str) -> dict[str, object]:
        account = self._ledger.account(account_id)
        return {
            "total_credits": _figure(account.limit_pusd),
            "total_usage": _figure(account.posted_pusd),
        }

    def _budget(self, account_id: str) -> dict[str, object]:
        account = self._ledger.account(account_id)
        return {
            "limit_usd": usd_text(account.limit_pusd),
            "spent_usd": usd_text(account.posted_pusd),
            "reserved_usd": usd_text(account.pending_pusd),
            "available_usd": usd_text(account.available_pusd),
            "frozen": account.frozen is not None,
            "spent": self._ledger.spent(account_id),
        }

    async def _generation(self, query: str, account_id: str) -> Answer:
        generation = _GENERATION_QUERY.fullmatch(query)
        key = self._ledger.account_state(account_id).key
        if generation is None or key is None or self._ledger.store.generation(account_id, generation[1]) is None:
            return failure(404, "This generation is not one of this key's.", "not_found")
        try:
            status, body = await self._upstream.get(f"/generation?id={generation[1]}", key.reveal())
        except UpstreamError:
            return failure(502, "OpenRouter did not answer. Nothing is charged for this read.", "provider_unavailable")
        if key.reveal().encode() in body:
            return failure(502, "OpenRouter's answer is not fit to pass on.", "provider_unavailable")
        return status, [JSON_HEADER], body


def _figure(pusd: int) -> msgspec.Raw:
    """An amount as a JSON number, exact to the last digit."""
    return msgspec.Raw(usd_text(pusd).encode())


def failure(status: int, message: str, error_type: str) -> Answer:
    """An error in OpenRouter's envelope."""
    return status, [JSON_HEADER], error_body(None, status, message, error_type)
