"""Says to which conversation a call belongs, and why it read less from the cache than it could have.

A prompt is read in the order tools, system, messages; a cache holds beginnings of it. So a call is compared with the earlier
call of its conversation that shares most with it, and the first difference is what broke the cache. Only digests are kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import takewhile

from preflight_proxy.core.caching.rules import CacheRule, cache_rule, lifetime_s
from preflight_proxy.core.memo import digest16
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.shapes.prompt import NOT_PROMPT
from preflight_proxy.core.shapes.shape import CallUsage, Message, Request

ACCOUNTS_MAX = 64
"""Accounts followed, the least recently used forgotten first: a field of trials is smaller."""
CALLS_MAX = 32
"""Calls of an account that later ones are compared with; an agent rarely holds more conversations at once."""
MESSAGES_MAX = 512
"""Messages of a call that are compared; 8 bytes each."""
STEP_TOKENS = 256
"""Providers read in steps of 128 tokens, and a template may move a few: so much less is no miss."""

_LINK_BYTES = 8
_TOOLS = ("tools", "functions")
_SYSTEM = ("system", "instructions")
_SYSTEM_ROLES = ("system", "developer")


class Miss(StrEnum):
    """Why a cache gave nothing, or less than before; a changed message or field is named behind a blank."""

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


@dataclass(frozen=True, slots=True)
class CacheNote:
    """What the trace says of one call: its conversation, 12 hexadecimal digits, and why its cache missed, if it did."""

    conversation: str = ""
    miss: str = ""


@dataclass(frozen=True, slots=True)
class _Call:
    """What is kept of a call: no text, digests only."""

    conversation: str
    model: str
    fields: bytes
    parts: Mapping[str, bytes]
    system: bytes
    messages: bytes
    tag: str = ""
    marked: bool = False
    prompt_tokens: int = 0
    held_tokens: int = 0
    lifetime_s: float = 0.0
    started_s: float = 0.0
    ended_s: float = 0.0


@dataclass(slots=True)
class _Account:
    calls: list[_Call] = field(default_factory=list)


class CacheTrace:
    """Follows the conversations of all accounts; holds at most `ACCOUNTS_MAX` × `CALLS_MAX` calls."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

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
        """Say what one posted call did with the cache, and remember it for those that follow.

        Args:
            account: Whose call it is.
            request: What was asked.
            usage: What it used.
            endpoint: Who served; None if that is not known.
            started_s: When it left, on any clock that only goes forward.
            ended_s: When it had ended, on the same clock.

        Returns:
            An empty note where the request has no messages, or the answer counted no prompt.
        """
        if not request.prompt.messages or usage.prompt_tokens <= 0:
            return CacheNote()
        calls, rule = self._of(account).calls, cache_rule(request.model)
        read = _call(request, usage, endpoint, rule, calls, started_s, ended_s)
        before = _closest([earlier for earlier in calls if earlier.ended_s <= started_s], read)
        related = before or _closest(calls, read)
        call = replace(read, conversation=related.conversation) if related else read
        miss = _miss(call, before, request, usage, endpoint, rule, beside=related is not None)
        _remember(calls, call, before)
        return CacheNote(call.conversation, miss)

    def _of(self, account: str) -> _Account:
        found = self._accounts.setdefault(account, _Account())
        self._accounts.move_to_end(account)
        if len(self._accounts) > ACCOUNTS_MAX:
            self._accounts.popitem(last=False)
        return found


def _call(
    request: Request,
    usage: CallUsage,
    endpoint: Endpoint | None,
    rule: CacheRule,
    calls: Sequence[_Call],
    started_s: float,
    ended_s: float,
) -> _Call:
    system, messages = _split(request.prompt.messages)
    known = next((call.parts for call in calls if call.fields == request.prompt.fields_digest), None)
    return _Call(
        conversation=_name(request.model, system, messages),
        model=request.model,
        fields=request.prompt.fields_digest,
        parts=known if known is not None else _parts(request),
        system=system,
        messages=messages,
        tag=endpoint.tag if endpoint else "",
        marked=request.prompt.cache_control,
        prompt_tokens=usage.prompt_tokens,
        held_tokens=usage.cached_tokens + usage.cache_write_tokens if rule.marked else usage.prompt_tokens,
        lifetime_s=lifetime_s(rule, request),
        started_s=started_s,
        ended_s=ended_s,
    )


def _miss(
    call: _Call,
    before: _Call | None,
    request: Request,
    usage: CallUsage,
    endpoint: Endpoint | None,
    rule: CacheRule,
    *,
    beside: bool,
) -> str:
    """Why it read nothing, or less than its conversation's cache held; empty if neither is so."""
    if usage.cached_tokens:
        dropped = before is not None and usage.cached_tokens < _surely(before.held_tokens)
        return _difference(before, call, request) if before and dropped else ""
    if endpoint is not None and endpoint.prices.cache_read is None:
        return Miss.NO_CACHE
    if usage.prompt_tokens < rule.min_tokens:
        return Miss.BELOW_MINIMUM
    if rule.marked and not call.marked:
        return Miss.NO_MARKS
    if before is None:
        return Miss.BESIDE if beside else Miss.FIRST_CALL
    if before.prompt_tokens < rule.min_tokens or not before.held_tokens:
        return Miss.BELOW_MINIMUM if before.marked or not rule.marked else Miss.NO_MARKS
    return _difference(before, call, request)


def _surely(held_tokens: int) -> int:
    """How much of what a cache held must come back, for a call not to have missed."""
    return held_tokens - max(held_tokens // 10, STEP_TOKENS)


def _difference(before: _Call, call: _Call, request: Request) -> str:
    """What keeps `call` from what `before` left in the cache: the first thing in the order in which a prompt is read."""
    changed = sorted(
        name for name in before.parts.keys() | call.parts if before.parts.get(name) != call.parts.get(name)
    )
    if set(changed) & set(_TOOLS):
        return Miss.TOOLS
    if before.system != call.system or set(changed) & set(_SYSTEM):
        return Miss.SYSTEM
    if changed:
        return f"{Miss.FIELD} {changed[0]}"
    if before.tag and call.tag and before.tag != call.tag:
        return Miss.ENDPOINT
    if call.started_s - before.started_s > before.lifetime_s:
        return Miss.EXPIRED
    shared = _shared(before.messages, call.messages)
    if shared * _LINK_BYTES < len(before.messages):
        return _message(request.prompt.messages, shared)
    return Miss.UNEXPLAINED


def _message(messages: Sequence[Message], shared: int) -> str:
    """The first message behind the shared ones, counted from 1 as the request lists them, and who speaks in it."""
    position = _system_count(messages) + shared
    role = messages[position].role if position < len(messages) else "removed"
    return f"{Miss.MESSAGE} {position + 1}" + (f" ({role})" if role else "")


def _closest(calls: Sequence[_Call], read: _Call) -> _Call | None:
    """The call of the same conversation that shares most with this one, the latest of equals; None if there is none."""
    mine = [call for call in calls if call.model == read.model]
    ranked = [(_shared(call.messages, read.messages), call.fields == read.fields, call.ended_s, call) for call in mine]
    best = max(ranked, key=lambda each: each[:3], default=None)
    if best is not None and best[0]:
        return best[3]
    return next((call for call in reversed(mine) if _overlap(call.messages, read.messages)), None)


def _shared(some: bytes, other: bytes) -> int:
    """How many leading messages are the same."""
    lengths = range(_LINK_BYTES, min(len(some), len(other)) + 1, _LINK_BYTES)
    return bisect_left(lengths, True, key=lambda length: some[:length] != other[:length])


def _overlap(some: bytes, other: bytes) -> bool:
    """True if half of the shorter prompt stands somewhere in the other: an opening was rewritten, or cut off."""
    first, second = set(_links(some)), set(_links(other))
    return 2 * len(first & second) >= max(1, min(len(first), len(second)))


def _links(messages: bytes) -> list[bytes]:
    return [messages[start : start + _LINK_BYTES] for start in range(0, len(messages), _LINK_BYTES)]


def _split(messages: Sequence[Message]) -> tuple[bytes, bytes]:
    """The digests of the leading system messages, and of those behind them."""
    count = _system_count(messages)
    system, rest = messages[:count], messages[count : count + MESSAGES_MAX]
    return b"".join(each.digest for each in system), b"".join(each.digest[:_LINK_BYTES] for each in rest)


def _system_count(messages: Sequence[Message]) -> int:
    return sum(1 for _ in takewhile(lambda message: message.role in _SYSTEM_ROLES, messages))


def _parts(request: Request) -> dict[str, bytes]:
    """A digest of each field beside the messages that can change the prompt."""
    return {name: digest16(raw) for name, raw in request.fields.items() if name not in NOT_PROMPT}


def _name(model: str, system: bytes, messages: bytes) -> str:
    """A conversation's id: the same after a restart, whatever becomes of its system text."""
    return digest16(model.encode() + b"\0" + (messages[:_LINK_BYTES] or system)).hex()[:12]


def _remember(calls: list[_Call], call: _Call, before: _Call | None) -> None:
    """Keep a call; what it only continues need not be kept beside it."""
    if before is not None and call.messages.startswith(before.messages) and before.fields == call.fields:
        calls.remove(before)
    calls.append(call)
    del calls[:-CALLS_MAX]
