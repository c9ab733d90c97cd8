"""Calls that are answered with an error. Some are charged.

Source: openrouter.ai/docs/api_reference/{limits,errors-and-debugging} and public reports of 402 and 403, 2026-10.
"""

from __future__ import annotations

from typing import ClassVar

from aiohttp import web

from openrouter_sim.base.errors import ApiError, envelope
from openrouter_sim.base.jsonio import JsonObject, encode
from openrouter_sim.calls.call import SimCall
from openrouter_sim.calls.scenario import Fault

_MORE_CREDIT = "To increase, visit https://openrouter.ai/settings/credits and add more credits"

_MORE_LIMIT = "To increase, visit https://openrouter.ai/settings/keys and create a key with a higher daily limit"

_SPENT = "Manage it using https://openrouter.ai/workspaces/default/keys/3f"

_TOO_DEAR = (
    "This request requires more credits, or fewer max_tokens. You requested up to {asked} tokens, but can only afford "
)

_CAUSES: dict[str, tuple[int, str, dict[str, object]]] = {
    "credit": (
        402,
        "Insufficient credits. Add more using https://openrouter.ai/credits",
        {"limit_source": "openrouter_credits"},
    ),
    "credit_bare": (402, "Insufficient credits. Add more using https://openrouter.ai/credits", {}),
    "affords": (
        402,
        _TOO_DEAR + "{tokens}. " + _MORE_CREDIT,
        {"limit_source": "openrouter_credits", "provider_name": None, "remedy_hint": "Lower max_tokens."},
    ),
    "key_affords": (402, _TOO_DEAR + "{tokens}. " + _MORE_LIMIT, {"limit_source": "openrouter_key_limit"}),
    "key_affords_bare": (402, _TOO_DEAR + "{tokens}. " + _MORE_LIMIT, {}),
    "prompt": (402, "Prompt tokens limit exceeded: 15000 > {tokens}. " + _MORE_CREDIT, {}),
    "weight": (
        402,
        "This request is larger than the in-flight budget of the account",
        {"limit_source": "openrouter_credits", "reason": "weight_exceeds_budget"},
    ),
    "key_limit": (
        403,
        "Key limit exceeded (daily limit): $20.05 of $20.00 used. " + _SPENT,
        {"limit_source": "openrouter_key_limit", "scope": "key_limit", "resets_at": "2026-10-02T00:00:00Z"},
    ),
    "key_limit_bare": (403, "Key limit exceeded (total limit). " + _SPENT, {}),
    "guardrail": (403, "Guardrail budget exceeded", {"limit_source": "openrouter_guardrail_budget"}),
    "workspace": (403, "Workspace budget exceeded", {"limit_source": "openrouter_workspace_budget"}),
}


class HttpError(Fault, frozen=True):
    """Answer with an HTTP error. The call is charged only if `charge` is set.

    Attributes:
        status: The HTTP status.
        message: The error's sentence.
        envelope: The body is OpenRouter's error envelope; else it is an HTML page, as a web server sends.
        retry_after: The `Retry-After` header, as text.
        resets_at: The `X-RateLimit-Reset` header, as text: epoch milliseconds.
        error_type: `error.metadata.error_type`; empty for the status's usual one.
        limit_source: `error.metadata.limit_source`, as on money refusals; empty for none.
        reason: `error.metadata.reason`; empty for none.
        provider_name: `error.metadata.provider_name`, the provider that refused; empty for none.
        edge: The answer has the headers of Cloudflare, which answers in place of OpenRouter.
        availability: `error.availability.code`; empty for no `error.availability`.
        charge: The provider had generated the whole completion, and it is charged.
        shows_id: `X-Generation-Id` is sent.
    """

    status: int = 500
    message: str = "Internal Server Error"
    envelope: bool = True
    retry_after: str = ""
    resets_at: str = ""
    error_type: str = ""
    limit_source: str = ""
    reason: str = ""
    provider_name: str = ""
    edge: bool = False
    availability: str = ""
    charge: bool = False
    shows_id: bool = True

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the error."""
        names = ("error_type", "limit_source", "reason", "provider_name")
        metadata = {name: value for name in names if (value := getattr(self, name))}
        times = {"Retry-After": self.retry_after, "X-RateLimit-Reset": self.resets_at}
        headers = {name: value for name, value in times.items() if value}
        if self.edge:
            headers |= {"Server": "cloudflare", "CF-RAY": "8f00aa11bb22cc33-FRA"}
        extra: JsonObject = {"availability": {"code": self.availability}} if self.availability else {}
        call.shows_id = self.shows_id
        call.charges_errors = self.charge
        is_page = not self.envelope
        return ApiError(self.status, self.message, metadata=metadata, extra=extra, headers=headers, is_page=is_page)


class NoMoney(Fault, frozen=True):
    """Refuse the call because money is missing. A call that fits the affordable tokens is served.

    Attributes:
        cause: One of `credit`, `affords`, `key_affords`, `prompt`, `weight`, `key_limit`, `guardrail`, `workspace`; with
            `_bare` behind three of them, the text comes without its metadata.
        tokens: The output tokens that are affordable, for `affords` and `key_affords`.
        for_ever: A call that fits is refused as well.
    """

    cause: str = "credit"
    tokens: int = 1200
    for_ever: bool = False

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the refusal; None if the call fits."""
        asked = call.endpoint.output_tokens_max if call.request.bound is None else call.request.bound
        if "affords" in self.cause and asked <= self.tokens and not self.for_ever:
            return None
        status, message, metadata = _CAUSES[self.cause]
        return ApiError(status, message.format(asked=asked, tokens=self.tokens), metadata=dict(metadata))


class Redirect(Fault, frozen=True):
    """Answer with a redirect. A client that follows it sends its key there."""

    status: int = 307
    location: str = "http://127.0.0.1:9/elsewhere"

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the redirect."""
        return ApiError(self.status, "Moved", headers={"Location": self.location})


class LateCharge(Fault, frozen=True):
    """Answer with the error `status`, and charge the full cost `delay_s` later."""

    status: int = 504
    delay_s: float = 5.0

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the error, after the charge was scheduled."""
        call.charges_errors = True
        call.late_s = self.delay_s
        return ApiError(self.status, "The operation was aborted")


class EarlyAnswer(Fault, frozen=True):
    """Answer before the request body is read, and close the connection. Nothing is charged.

    Attributes:
        status: The HTTP status.
        retry_after: The `Retry-After` header, as text.
    """

    is_early: ClassVar[bool] = True
    status: int = 503
    retry_after: str = ""

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Return the answer."""
        error = ApiError(self.status, "Service unavailable")
        response = web.Response(status=self.status, body=encode(envelope(error)), content_type="application/json")
        if self.retry_after:
            response.headers["Retry-After"] = self.retry_after
        response.force_close()
        return response
