"""Finds the conversation of a call, and why the call read less from the cache than it could have.

A prompt is read in the order tools, system, messages, and a cache holds beginnings of prompts. So a call is compared with the
earlier call of its conversation that shares most with it: the first difference is what broke the cache. Only digests are stored.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from preflight_proxy.core.caching.rules import CacheRule, cache_rule, lifetime_s
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
"""Messages of a call that are compared; 8 bytes each."""
OVERLAPS_MAX = 4
"""Calls that one with another first message is compared with, the newest: an agent that rewrites its prompt sends it next."""
STEP_TOKENS = 256
"""Providers read in steps of 128 tokens, and a template may add a few: a difference up to this is no miss."""

_LINK_BYTES = 8
_TOOLS = ("tools", "functions")
_SYSTEM = ("system", "instructions")
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
    """What is found out about one call: its conversation (12 hexadecimal digits), and why its cache missed, if it did."""

    conversation: str = ""
    miss: str = ""


class _TracedCall(msgspec.Struct, gc=False):
    """What is stored of a call: digests, no text.

    `messages` has the first eight bytes of each message's digest, and `first` those of the first message.
    """

    model: str
    fields: bytes
    parts: Mapping[str, bytes]
    system: bytes
    messages: bytes
    first: bytes
    tag: str = ""
    marked: bool = False
    prompt_tokens: int = 0
    held_tokens: int = 0
    lifetime_s: float = 0.0
    started_s: float = 0.0
    ended_s: float = 0.0
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
            ended_s: When it had ended, on the same clock.

        Returns:
            An empty note if the request has no messages, or the answer counted no prompt tokens.
        """
        if not request.prompt.messages or usage.prompt_tokens <= 0:
            return CacheNote()
        if (calls := self._accounts.get(account)) is None:
            calls = []
            self._accounts.put(account, calls)
        rule = cache_rule(request.model)
        call = _call(request, usage, endpoint, rule, calls, started_s, ended_s)
        earlier = [other for other in calls if other.ended_s <= started_s]
        previous = related = _closest(earlier, call)
        if related is None and len(earlier) < len(calls):
            related = _closest(calls, call)
        call.conversation = _name(call) if related is None else related.conversation
        miss = _miss(call, previous, request, usage, endpoint, rule, beside=related is not None)
        _remember(calls, call, previous)
        return CacheNote(call.conversation, miss)


def _call(
    request: Request,
    usage: CallUsage,
    endpoint: Endpoint | None,
    rule: CacheRule,
    calls: Sequence[_TracedCall],
    started_s: float,
    ended_s: float,
) -> _TracedCall:
    prompt = request.prompt
    system_bytes = _system_count(prompt.messages) * DIGEST_BYTES
    links = array("Q", prompt.digests[system_bytes : system_bytes + MESSAGES_MAX * DIGEST_BYTES])[::2]
    parts = None
    for call in calls:
        if call.fields == prompt.fields_digest:
            parts = call.parts
            break
    return _TracedCall(
        model=request.model,
        fields=prompt.fields_digest,
        parts=_parts(request) if parts is None else parts,
        system=prompt.digests[:system_bytes],
        messages=links.tobytes(),
        first=prompt.digests[system_bytes : system_bytes + _LINK_BYTES],
        tag=endpoint.tag if endpoint else "",
        marked=prompt.cache_control,
        prompt_tokens=usage.prompt_tokens,
        held_tokens=usage.cached_tokens + usage.cache_write_tokens if rule.marked else usage.prompt_tokens,
        lifetime_s=lifetime_s(rule, request),
        started_s=started_s,
        ended_s=ended_s,
    )


def _miss(
    call: _TracedCall,
    previous: _TracedCall | None,
    request: Request,
    usage: CallUsage,
    endpoint: Endpoint | None,
    rule: CacheRule,
    *,
    beside: bool,
) -> str:
    """Why it read nothing, or less than its conversation's cache held; empty if it did not miss."""
    if usage.cached_tokens:
        dropped = previous is not None and usage.cached_tokens < _expected(previous.held_tokens)
        return _difference(previous, call, request) if previous and dropped else ""
    if endpoint is not None and endpoint.prices.cache_read is None:
        return Miss.NO_CACHE
    if usage.prompt_tokens < rule.min_tokens:
        return Miss.BELOW_MINIMUM
    if rule.marked and not call.marked:
        return Miss.NO_MARKS
    if previous is None:
        return Miss.BESIDE if beside else Miss.FIRST_CALL
    if previous.prompt_tokens < rule.min_tokens or not previous.held_tokens:
        return Miss.BELOW_MINIMUM if previous.marked or not rule.marked else Miss.NO_MARKS
    return _difference(previous, call, request)


def _expected(held_tokens: int) -> int:
    """How many of the tokens in a cache must be read for a call not to have missed."""
    return held_tokens - max(held_tokens // 10, STEP_TOKENS)


def _difference(previous: _TracedCall, call: _TracedCall, request: Request) -> str:
    """Why `call` could not read what `previous` left in the cache: the first difference in the order of a prompt."""
    changed = sorted(
        name for name in previous.parts.keys() | call.parts if previous.parts.get(name) != call.parts.get(name)
    )
    if set(changed) & set(_TOOLS):
        return Miss.TOOLS
    if previous.system != call.system or set(changed) & set(_SYSTEM):
        return Miss.SYSTEM
    if changed:
        return f"{Miss.FIELD} {changed[0]}"
    if previous.tag and call.tag and previous.tag != call.tag:
        return Miss.ENDPOINT
    if call.started_s - previous.started_s > previous.lifetime_s:
        return Miss.EXPIRED
    shared = _shared(previous.messages, call.messages)
    if shared * _LINK_BYTES < len(previous.messages):
        return _message(request.prompt.messages, shared)
    return Miss.UNEXPLAINED


def _message(messages: Sequence[Message], shared: int) -> str:
    """The first message after the shared ones, counted from 1 as in the request, and its role."""
    position = _system_count(messages) + shared
    role = messages[position].role if position < len(messages) else "removed"
    return f"{Miss.MESSAGE} {position + 1}" + (f" ({role})" if role else "")


def _closest(calls: Sequence[_TracedCall], call: _TracedCall) -> _TracedCall | None:
    """The earlier call of the same conversation that shares most with this one, the latest of equals; None if there is none."""
    candidates = [other for other in calls if other.model == call.model]
    beginning = [other for other in candidates if other.first == call.first] if call.first else []
    if len(beginning) == 1:
        return beginning[0]
    if beginning:
        return max(
            beginning,
            key=lambda other: (_shared(other.messages, call.messages), other.fields == call.fields, other.ended_s),
        )
    links = set(array("Q", call.messages))
    for other in candidates[: -OVERLAPS_MAX - 1 : -1]:
        others = array("Q", other.messages)
        if not links.isdisjoint(others) and _overlaps(links, others):
            return other
    return None


def _shared(some: bytes, other: bytes) -> int:
    """How many leading messages are the same."""
    shorter = min(len(some), len(other))
    if some[:shorter] == other[:shorter]:
        return shorter // _LINK_BYTES
    lengths = range(_LINK_BYTES, shorter + 1, _LINK_BYTES)
    return bisect_left(lengths, True, key=lambda length: some[:length] != other[:length])


def _overlaps(links: set[int], others: Sequence[int]) -> bool:
    """True if half of the shorter prompt is somewhere in the other: its beginning was rewritten, or cut off."""
    both, other_links = links.intersection(others), set(others)
    return 2 * len(both) >= max(1, min(len(links), len(other_links)))


def _system_count(messages: Sequence[Message]) -> int:
    for count, message in enumerate(messages):
        if message.role not in _SYSTEM_ROLES:
            return count
    return len(messages)


def _parts(request: Request) -> dict[str, bytes]:
    """A digest of each field that can change the prompt, without the messages."""
    return {name: digest16(raw) for name, raw in request.fields.items() if name not in NOT_PROMPT}


def _name(call: _TracedCall) -> str:
    """A conversation's id. It is the same after a restart, and with another system text."""
    return hashlib.sha256(call.model.encode() + b"\0" + (call.first or call.system)).hexdigest()[:12]


def _remember(calls: list[_TracedCall], call: _TracedCall, previous: _TracedCall | None) -> None:
    """Store a call, in place of the previous one if it only continues that."""
    if previous is not None and call.messages.startswith(previous.messages) and previous.fields == call.fields:
        calls.remove(previous)
    calls.append(call)
    del calls[:-CALLS_MAX]
