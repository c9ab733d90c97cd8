"""What an answer without a 2xx proves, and what the proxy does about it (M13 (unknown cost), M20 (refusals of upstream)).

Some clients retry on upstream's words about money, so the proxy answers with its own. When upstream asks to wait, the proxy waits
for all agents at once; `Retry-After` never reaches a client.

Source: openrouter.ai/docs/api_reference/errors-and-debugging and openrouter.ai/docs/use-cases/limits, 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

import msgspec

from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.shapes.answers import generation_id, read_object
from preflight_proxy.core.shapes.error_body import ErrorBody, ErrorDetail, read_error

FREE_STATUSES = frozenset({400, 401, 402, 403, 404, 409, 412, 413, 422, 429})
"""In OpenRouter's envelope and before any 2xx, these prove that nothing was charged (M13 ii)."""
RETRY_AFTER_S_DEFAULT = 2.0
"""The wait after a transient refusal without a time. It doubles each time that the same call is refused so."""
RETRY_AFTER_S_MIN = 1.0
"""The least wait. With a wait of 0 the proxy would send again as fast as it is refused."""
_PAYMENT_REQUIRED = 402
_FORBIDDEN = 403
_TOO_MANY = 429
_RESET = "X-RateLimit-Reset"
_DAILY = re.compile(r"per.day|daily|_rpd\b", re.IGNORECASE)
KEY_LIMIT = "openrouter_key_limit"
IN_FLIGHT = "openrouter_in_flight_budget"
_AFFORDS = re.compile(r"can only afford ([0-9]{1,9})(?![0-9]|[.,][0-9])")
"""The affordable output tokens, as a whole number of at most nine digits."""
_TOO_LARGE = ("can only afford", "Prompt tokens limit exceeded")
_KEYS_PAGE = re.compile(r"/(?:settings/)?keys\b")
"""A text about the size of a call has this link if the key's limit is the reason, and not the account's credit."""


class Remedy(Enum):
    """What the proxy does with a refusal."""

    PASS = "pass"  # noqa: S105 - no password
    """Pass it to the client unchanged."""
    REWRITE = "rewrite"
    """It is about money and final: answer in the proxy's words."""
    FREEZE = "freeze"
    """The key's limit was reached before the account's, so the ledger is too low. Rewrite, freeze the account, raise an alarm."""
    WAIT_MODEL = "wait_model"
    """A rate limit of this model, or of one provider of it: wait, or let another provider serve, then send again."""
    WAIT_PROCESS = "wait_process"
    """The OpenRouter account's in-flight budget: every call of this process waits."""
    REQUOTE = "requote"
    """A price is above the cap that was sent: read the prices again, and quote once more."""


class UpstreamRefusal(msgspec.Struct, frozen=True):
    """One answer without a 2xx, understood.

    Attributes:
        status: HTTP status of upstream.
        is_envelope: True if the body is an error document of OpenRouter's, in either dialect.
        proves_free: True if it proves that nothing was charged.
        remedy: What to do.
        retry_after_s: How long to wait, for the two waiting remedies.
        provider: The provider that refused, by its display name; None if upstream names none.
        cause: The proxy's sentence, if it replaces upstream's.
        names_time: True if it says how long to wait.
        free_models: True if it is about all models without a price.
        is_key_check: True if OpenRouter's check before the call finds its size above what the key's limit leaves.
        affords: The affordable output bound; None if it names none.
    """

    status: int
    is_envelope: bool
    proves_free: bool
    remedy: Remedy
    retry_after_s: float
    provider: str | None = None
    cause: Code = Code.ACCOUNT_CREDIT
    affords: int | None = None
    names_time: bool = True
    free_models: bool = False
    is_key_check: bool = False


def read_refusal(
    status: int, body: bytes, retry_after: str | None, *, resets_at: str | None = None, now_s: float = 0.0
) -> UpstreamRefusal:
    """Read an answer without a 2xx. Never raises.

    Args:
        status: HTTP status.
        body: The whole body.
        retry_after: The header of that name, if any.
        resets_at: The header `X-RateLimit-Reset`, if any.
        now_s: The time, in epoch seconds.
    """
    document = read_error(body)
    if document is None:
        return UpstreamRefusal(status, False, False, Remedy.PASS, 0.0)
    error = document.error
    proves_free = status in FREE_STATUSES
    remedy = _remedy(status, error, retry_after is not None)
    provider = _member(error.metadata, "provider_name")
    named = provider if isinstance(provider, str) else None
    wait_s = _seconds(retry_after) or _until(resets_at or _body_header(error, _RESET), now_s)
    affords = _AFFORDS.search(error.message) if status == _PAYMENT_REQUIRED else None
    cause = _cause(status, error, remedy)
    is_check = status == _PAYMENT_REQUIRED and any(text in error.message for text in _TOO_LARGE)
    return UpstreamRefusal(
        status,
        True,
        proves_free,
        remedy,
        wait_s or RETRY_AFTER_S_DEFAULT,
        named,
        cause=cause,
        affords=int(affords[1]) if affords else None,
        names_time=wait_s is not None,
        free_models=status == _TOO_MANY and "free-models" in error.message,
        is_key_check=is_check and cause is Code.KEY_LIMIT,
    )


def _cause(status: int, error: ErrorDetail, remedy: Remedy) -> Code:
    """What a refusal with 402, 403 or 429 is about: the key's limit, the account's credit, a call above that credit, or a wait.

    A budget that OpenRouter keeps for a workspace or by a guardrail is a limit of the key as well.
    """
    if remedy in (Remedy.WAIT_MODEL, Remedy.WAIT_PROCESS):
        return Code.DAILY_LIMIT if _DAILY.search(error.message) else Code.HELD
    limit_source = _member(error.metadata, "limit_source")
    if limit_source == KEY_LIMIT or status == _FORBIDDEN:
        return Code.KEY_LIMIT
    if limit_source == IN_FLIGHT or _member(error.metadata, "reason") == "weight_exceeds_budget":
        return Code.ACCOUNT_AFFORDS
    if any(text in error.message for text in _TOO_LARGE):
        return Code.KEY_LIMIT if _KEYS_PAGE.search(error.message) else Code.ACCOUNT_AFFORDS
    return Code.ACCOUNT_CREDIT


def _remedy(status: int, error: ErrorDetail, asks_to_wait: bool) -> Remedy:
    limit_source = _member(error.metadata, "limit_source")
    match status:
        case 402 if limit_source == IN_FLIGHT:
            return Remedy.WAIT_PROCESS if asks_to_wait else Remedy.REWRITE
        case 402:
            return Remedy.FREEZE if limit_source == KEY_LIMIT else Remedy.REWRITE
        case 403 if limit_source == KEY_LIMIT or error.message.startswith("Key limit exceeded"):
            return Remedy.FREEZE
        case 403 if limit_source is not None:
            return Remedy.REWRITE
        case 404 if _member(error.availability, "constraint") == "max_price":
            return Remedy.REQUOTE
        case 429:
            return Remedy.WAIT_MODEL
        case _:
            return Remedy.PASS


def _member(details: object, name: str) -> object:
    """A member of a value that may be anything; None if the value is no object."""
    return details.get(name) if isinstance(details, dict) else None


def _body_header(error: ErrorDetail, name: str) -> str | None:
    """A header that the body repeats, as OpenRouter does with those of a rate limit."""
    value = _member(_member(error.metadata, "headers"), name)
    return value if isinstance(value, str) else None


def _seconds(retry_after: str | None) -> float | None:
    """The header's seconds; None for a date, a negative or an absurd figure."""
    return None if (seconds := _figure(retry_after, 6)) is None else max(RETRY_AFTER_S_MIN, float(seconds))


def _until(resets_at: str | None, now_s: float) -> float | None:
    """Seconds from now to a time in epoch milliseconds; None if there is none."""
    return None if (reset_ms := _figure(resets_at, 14)) is None else max(RETRY_AFTER_S_MIN, reset_ms / 1000 - now_s)


def _figure(text: str | None, digits_max: int) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > digits_max:
        return None
    return int(text)


def told_generation(body: bytes) -> str | None:
    """Return the generation id in an error body; None if it has none. Never raises.

    Source: `request_id` of the messages dialect is a generation's once a call was routed.
    """
    document = read_object(body)
    return generation_id(document.text("id")) or generation_id(document.text("request_id"))


EDGE_STATUSES = frozenset({403, 413, 429, 521, 523})
"""Cloudflare, in front of OpenRouter, answers with these without passing the request on: it refuses the request, or OpenRouter's
servers are down (521) or cannot be reached (523). With 520, 522 and 524 OpenRouter may have received it.

Source: developers.cloudflare.com/support/troubleshooting/http-status-codes, 2026-10.
"""
NO_INSTANCES = "No instances available"
"""OpenRouter's sentence, in a 503, that it found no provider to call."""
_SOME_GENERATION = re.compile(rb"gen-[A-Za-z0-9]")


def never_served(status: int, headers: Sequence[tuple[str, str]], body: bytes | None) -> bool:
    """Return True if an answer without a 2xx proves that no provider was called, where `read_refusal` does not. Never raises.

    Args:
        status: HTTP status.
        headers: All of the answer's.
        body: The whole body, not compressed; None if it was not read to its end, which proves nothing.
    """
    named = {name.lower(): value for name, value in headers}
    if body is None or "x-generation-id" in named or _SOME_GENERATION.search(body):
        return False
    document = read_error(body)
    if document is None:
        at_the_edge = named.get("server", "").lower() == "cloudflare" and named.get("cf-ray", "") != ""
        return at_the_edge and status in EDGE_STATUSES
    return status == 503 and _no_provider_found(document)


def _no_provider_found(document: ErrorBody) -> bool:
    error = document.error
    if document.id is not None or document.request_id is not None or error.provider_name or error.previous_errors:
        return False
    if _member(error.metadata, "provider_name") or _member(error.metadata, "previous_errors"):
        return False
    return isinstance(error.availability, dict) or error.message == NO_INSTANCES
