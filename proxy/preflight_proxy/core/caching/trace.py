"""Finds the conversation of a call, and why the call read less from the cache than it could have.

A prompt is read in the order tools, system, messages, and a cache holds beginnings of prompts. So a call is compared with the
earlier call of its conversation that shares most with it: the first difference is what broke the cache. Only digests are stored.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from preflight_proxy.core.caching.rules import cache_rule, lifetime_s, saved_pusd
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.recent import Recent
from preflight_proxy.core.shapes.memo import DIGEST_BYTES, digest16
from preflight_proxy.core.shapes.prompt import NOT_PROMPT
from preflight_proxy.core.shapes.shape import CallUsage, Message, Request

ACCOUNTS_MAX = 64
"""Accounts remembered, the least recently used forgotten first. A run has fewer trials."""
CALLS_MAX = 32
"""Calls of an account that later ones are compared with; an agent rarely has more conversations at once."""
MESSAGES_MAX = 512
"""Messages of a call that are compared; 16 bytes each."""
OVERLAPS_MAX = 4
"""Calls that one with another first message is compared with, the newest: an agent that rewrites its prompt sends it next."""
STEP_TOKENS = 256
"""Providers read in steps of 128 tokens, and a template may add a few: a difference up to this is no miss."""

_TOOLS = frozenset({"tools", "functions"})
_SYSTEM = frozenset({"system", "instructions"})
_NO_USAGE = CallUsage()
_SYSTEM_ROLES = ("system", "developer")


class Miss(StrEnum):
    """Why a cache gave nothing, or less than before. The name of a changed message or field follows after a space."""

    NO_CACHE = "no_cache"
    BELOW_MINIMUM = "below_minimum"
    NO_MARKS = "no_marks"
    FIRST_CALL = "first_call"
    BESIDE = "beside"
    TOOLS = "tools"
    SYSTEM = "system"
    FIELD = "field"
    ENDPOINT = "endpoint"
    EXPIRED = "expired"
    MESSAGE = "message"
    UNEXPLAINED = "unexplained"


class CacheNote(msgspec.Struct, frozen=True, gc=False):
    """What is found out about one call.

    Attributes:
        conversation: Its conversation, 12 hexadecimal digits; empty if it has no messages, or no prompt tokens were counted.
        miss: Why its cache missed; empty if it did not.
        saved_pusd: What caching made it cheaper; None if it is not known who served.
    """

    conversation: str = ""
    miss: str = ""
    saved_pusd: int | None = None


class _TracedCall(msgspec.Struct, gc=False, eq=False):
    """What is stored of a call: digests, no text. `first` is that of the first message which is no system text."""

    model: str
    fields: bytes
    parts: Mapping[str, bytes]
    system: bytes
    messages: bytes
    first: bytes
    marked: bool
    usage: CallUsage
    endpoint: Endpoint | None
    lifetime_s: float
    started_s: float
    ended_s: float
    conversation: str = ""


class CacheTrace:
    """The conversations of all accounts: at most `ACCOUNTS_MAX` × `CALLS_MAX` calls."""

    def __init__(self) -> None:
        self._accounts: Recent[str, list[_TracedCall]] = Recent(ACCOUNTS_MAX)

    def note(
        self,
        account: str,
        request: Request,
        usage: CallUsage,
        endpoint: Endpoint | None,
        *,
        started_s: float,
        ended_s: float,
    ) -> CacheNote:
        """Return what one posted call did with the cache, and remember the call for later ones.

        Args:
            account: Whose call it is.
            request: What was asked.
            usage: What it used.
            endpoint: Who served; None if that is not known.
            started_s: When it was sent, on any clock that only goes forward.
            ended_s: When it had ended, on the same clock; no earlier than that of any call before.
        """
        prompt = request.prompt
        saved = (
            None
            if endpoint is None
            else saved_pusd(endpoint.prices_for(usage.prompt_tokens), usage, hour=prompt.cache_1h)
        )
        if not prompt.messages or usage.prompt_tokens <= 0:
            return CacheNote(saved_pusd=saved)
        if (calls := self._accounts.get(account)) is None:
            calls = []
            self._accounts.put(account, calls)
        parts = next((other.parts for other in reversed(calls) if other.fields == prompt.fields_digest), None)
        system_bytes = 0
        for message in prompt.messages:
            if message.role not in _SYSTEM_ROLES:
                break
            system_bytes += DIGEST_BYTES
        messages = prompt.digests[system_bytes : system_bytes + MESSAGES_MAX * DIGEST_BYTES]
        call = _TracedCall(
            model=request.model,
            fields=prompt.fields_digest,
            parts=_parts(request) if parts is None else parts,
            system=prompt.digests[:system_bytes],
            messages=messages,
            first=messages[:DIGEST_BYTES],
            marked=prompt.cache_control,
            usage=usage,
            endpoint=endpoint,
            lifetime_s=lifetime_s(cache_rule(request.model), request),
            started_s=started_s,
            ended_s=ended_s,
        )
        previous = related = _closest(calls, call, started_s)
        if related is None and calls and calls[-1].ended_s > started_s:
            related = _closest(calls, call, math.inf)
        call.conversation = _name(call) if related is None else related.conversation
        miss = _miss(call, previous, prompt.messages, beside=related is not None)
        if previous is not None and messages.startswith(previous.messages) and previous.fields == call.fields:
            calls.remove(previous)  # it is continued
        calls.append(call)
        del calls[:-CALLS_MAX]
        return CacheNote(call.conversation, miss, saved)


def _closest(calls: Sequence[_TracedCall], call: _TracedCall, ended_by_s: float) -> _TracedCall | None:
    """The call of the same conversation that shares most with this one, the latest of equals; None if there is none.

    A prompt whose beginning was rewritten or cut off has half of the shorter one's messages somewhere in the other.
    """
    model, first, tries = call.model, call.first, 0
    beginning = [each for each in calls if each.first == first and each.model == model and each.ended_s <= ended_by_s]
    if first and beginning:
        return beginning[0] if len(beginning) == 1 else max(beginning, key=lambda each: _likeness(each, call))
    halves = set(array("Q", call.messages))  # two of each digest, as numbers
    for other in reversed(calls):
        if other.model == model and other.ended_s <= ended_by_s:
            others = set(array("Q", other.messages))
            if (both := halves & others) and 2 * len(both) >= min(len(halves), len(others)):
                return other
            if (tries := tries + 1) == OVERLAPS_MAX:
                break
    return None


def _likeness(other: _TracedCall, call: _TracedCall) -> tuple[int, bool, float]:
    return _shared(other.messages, call.messages), other.fields == call.fields, other.ended_s


def _miss(call: _TracedCall, previous: _TracedCall | None, messages: Sequence[Message], *, beside: bool) -> str:
    """Why it read nothing, or less than its conversation's cache held; empty if it did not miss."""
    rule, usage = cache_rule(call.model), call.usage
    left = previous.usage if previous is not None else _NO_USAGE
    held_tokens = left.cached_tokens + left.cache_write_tokens if rule.marked else left.prompt_tokens
    if usage.cached_tokens:
        if usage.cached_tokens >= held_tokens - max(held_tokens // 10, STEP_TOKENS):
            return ""
    elif call.endpoint is not None and call.endpoint.prices.cache_read is None:
        return Miss.NO_CACHE
    elif usage.prompt_tokens < rule.min_tokens:
        return Miss.BELOW_MINIMUM
    elif rule.marked and not call.marked:
        return Miss.NO_MARKS
    elif previous is not None and (left.prompt_tokens < rule.min_tokens or not held_tokens):
        return Miss.BELOW_MINIMUM if previous.marked or not rule.marked else Miss.NO_MARKS
    if previous is None:
        return Miss.BESIDE if beside else Miss.FIRST_CALL
    return _difference(previous, call, messages)


def _difference(previous: _TracedCall, call: _TracedCall, messages: Sequence[Message]) -> str:
    """Why `call` could not read what `previous` left in the cache: the first difference in the order of a prompt."""
    changed = {name for name, _ in previous.parts.items() ^ call.parts.items()}
    if changed & _TOOLS:
        return Miss.TOOLS
    if previous.system != call.system or changed & _SYSTEM:
        return Miss.SYSTEM
    if changed:
        return f"{Miss.FIELD} {min(changed)}"
    if previous.endpoint and call.endpoint and previous.endpoint.tag != call.endpoint.tag:
        return Miss.ENDPOINT
    if call.started_s - previous.started_s > previous.lifetime_s:
        return Miss.EXPIRED
    shared = _shared(previous.messages, call.messages)
    if shared * DIGEST_BYTES == len(previous.messages):
        return Miss.UNEXPLAINED
    position = len(call.system) // DIGEST_BYTES + shared
    role = messages[position].role if position < len(messages) else "removed"
    return f"{Miss.MESSAGE} {position + 1}" + (f" ({role})" if role else "")


def _shared(some: bytes, other: bytes) -> int:
    """How many leading messages are the same."""
    counts = range(1, min(len(some), len(other)) // DIGEST_BYTES + 1)
    return bisect_left(counts, True, key=lambda count: some[: count * DIGEST_BYTES] != other[: count * DIGEST_BYTES])


def _parts(request: Request) -> dict[str, bytes]:
    """A digest of each field that can change the prompt, without the messages."""
    return {name: digest16(raw) for name, raw in request.fields.items() if name not in NOT_PROMPT}


def _name(call: _TracedCall) -> str:
    """A conversation's id. It is the same after a restart, and with another system text."""
    return hashlib.sha256(call.model.encode() + b"\0" + (call.first[:8] or call.system)).hexdigest()[:12]
