"""Billed prefixes tighten the bound on prompt tokens (M4 (calibration)).

An agent sends the same conversation again and again, each time a little longer. What a prefix was billed at is known, so only the
added messages must be bounded by their bytes. `Calibration.record` says which bills count.

Agents also begin new conversations with the same preamble: tools, system text, instructions. What comes before the first answer is
part of every longer prompt, so it has no more tokens than any prompt that begins with it was billed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import takewhile

from msgspec.structs import replace

from preflight_proxy.core.lru import Lru
from preflight_proxy.core.money import charge_pusd
from preflight_proxy.core.pricing.endpoint import Endpoint, EndpointPrices
from preflight_proxy.core.pricing.prompt_bound import TEMPLATE_TOKENS, prompt_bound, text_tokens
from preflight_proxy.core.shapes.shape import CallUsage, Message, Reading, Request

PREFIXES_MAX = 8192
"""Prefixes remembered, the least recently used forgotten first; about 200 bytes each. As many preambles."""
PREAMBLE_MESSAGES_MAX = 8
"""Messages of a preamble that are looked at; agents send one to four before the task."""
FINISHES = frozenset({"stop", "length", "tool_calls"})
"""Only an answer that ended in one of these ways has a bill for its whole prompt."""
COST_TOLERANCE = 100
"""A bill confirms its token counts if it is within one part in this many of tokens times a listed price."""

_Fields = tuple[str, str, str, bytes]
_Key = tuple[str, str, str, bytes, bytes]


class Calibration:
    """What prefixes were billed at, by account, model, endpoint, other fields and messages.

    Args:
        prefixes_max: How many are remembered.
    """

    def __init__(self, prefixes_max: int = PREFIXES_MAX) -> None:
        self._prefixes = _Bills(prefixes_max)
        self._preambles = _Bills(prefixes_max)

    def prompt_tokens(self, account: str, request: Request, endpoint: Endpoint) -> int:
        """Return the most prompt tokens that `endpoint` can count: by bytes (M3), or less by a known prefix and the rest."""
        bound, count = prompt_bound(request.prompt, endpoint), len(request.prompt.messages)
        if count == 0:  # bills of messages say nothing about text outside messages
            return bound
        prefix = self._known(self._prefixes, range(count, 0, -1), account, request, endpoint)
        preamble = self._known(self._preambles, range(_preamble_count(request), -1, -1), account, request, endpoint)
        return min(known for known in (bound, prefix, preamble) if known is not None)

    def _known(self, bills: _Bills, counts: range, account: str, request: Request, endpoint: Endpoint) -> int | None:
        """Return what the first known of these numbers of leading messages was billed at, plus the bound of the other messages."""
        messages, chain = request.prompt.messages, request.prompt.chain
        known = bills.chains(_key(account, request, endpoint, 0)[:-1])
        for count in counts if known else ():
            if (chain[count - 1] if count else b"") in known:
                billed = bills.recall(_key(account, request, endpoint, count))
                added = _added_tokens(messages[count:], endpoint)
                opaque = sum(message.opaque_bytes for message in messages[:count])
                return None if billed is None or added is None else billed + added + opaque + TEMPLATE_TOKENS
        return None

    def record(self, account: str, request: Request, endpoint: Endpoint, reading: Reading) -> None:
        """Remember what a complete answer was billed at, if its bill says how many tokens its prompt has.

        It does if the answer ended by itself, tokens were counted, the prompt was neither shortened nor fetched from elsewhere,
        and the cost is within 1 % of tokens times a listed price. Usage of zeros (a cached answer) is ignored.
        """
        usage, prompt = reading.usage, request.prompt
        if usage is None or usage.prompt_tokens <= 0 or reading.error or reading.finish not in FINISHES:
            return
        if not prompt.chain or prompt.shrinks or prompt.remote_media:
            return
        if not billed_as_listed(endpoint, usage, prompt.image_count):
            return
        self._prefixes.remember(_key(account, request, endpoint, len(prompt.chain)), usage.prompt_tokens)
        for count in range(_preamble_count(request) + 1):
            key = _key(account, request, endpoint, count)
            self._preambles.remember(key, min(self._preambles.get(key, usage.prompt_tokens), usage.prompt_tokens))


class _Bills(Lru[_Key, int]):
    """Billed prompt tokens by what they were billed for."""

    def __init__(self, bills_max: int) -> None:
        super().__init__(bills_max)
        self._chains: dict[_Fields, set[bytes]] = {}

    def chains(self, fields: _Fields) -> Set[bytes]:
        """Return the chains that are known with these other fields: each prefix of a prompt is then looked up in one step."""
        return self._chains.get(fields, frozenset())

    def remember(self, key: _Key, value: int) -> None:
        """Store a bill."""
        self._chains.setdefault(key[:-1], set()).add(key[-1])
        super().remember(key, value)

    def popitem(self, last: bool = True) -> tuple[_Key, int]:
        """Forget one bill."""
        key, value = super().popitem(last)
        self._chains[key[:-1]].discard(key[-1])
        if not self._chains[key[:-1]]:
            del self._chains[key[:-1]]
        return key, value


def billed_as_listed(endpoint: Endpoint, usage: CallUsage, image_count: int = 0) -> bool:
    """Return True if the cost is within 1 % of the tokens at one of the endpoint's listed sets of prices."""
    return _off_pusd(endpoint, usage, image_count) is not None


def billed_reading(endpoint: Endpoint, usage: CallUsage, image_count: int = 0) -> CallUsage:
    """Return the usage with the prompt tokens that its cost agrees with, if the API leaves two readings of them.

    If both agree, the closer one counts; if neither does, the larger, which is the documented one.
    """
    if usage.prompt_tokens_less is None:
        return usage
    less = replace(usage, prompt_tokens=usage.prompt_tokens_less)
    off_pusd, less_off_pusd = _off_pusd(endpoint, usage, image_count), _off_pusd(endpoint, less, image_count)
    agrees = less_off_pusd is not None and (off_pusd is None or less_off_pusd < off_pusd)
    return replace(less if agrees else usage, prompt_tokens_less=None)


def _off_pusd(endpoint: Endpoint, usage: CallUsage, image_count: int) -> int | None:
    """How far the cost is from the nearest expected one that it agrees with; None if it agrees with none."""
    if usage.cost_pusd is None or usage.is_byok:
        return None
    cost_pusd = usage.cost_pusd
    differences = [
        abs(cost_pusd - expected)
        for prices in endpoint.listed
        for expected in _expected_pusd(prices, usage, image_count)
        if abs(cost_pusd - expected) * COST_TOLERANCE <= expected
    ]
    return min(differences, default=None)


def _expected_pusd(prices: EndpointPrices, usage: CallUsage, image_count: int) -> Iterator[int]:
    """The cost at these prices, once for each price that a cache write can have."""
    plain = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
    fixed = prices.request + prices.image * image_count + charge_pusd(plain, prices.prompt)
    fixed += charge_pusd(usage.cached_tokens, _own(prices.cache_read, prices.prompt))
    fixed += charge_pusd(usage.completion_tokens - usage.reasoning_tokens, prices.completion)
    fixed += charge_pusd(usage.reasoning_tokens, _own(prices.reasoning, prices.completion))
    for write_price in (_own(prices.cache_write, prices.prompt), _own(prices.cache_write_1h, prices.prompt)):
        yield fixed + charge_pusd(usage.cache_write_tokens, write_price)


def _own(price: int | None, other: int) -> int:
    return other if price is None else price


def _added_tokens(messages: tuple[Message, ...], endpoint: Endpoint) -> int | None:
    """The most tokens of messages behind a prefix, by their bytes (M3 (prompt bound)); None if one holds media."""
    if any(message.media for message in messages):
        return None
    ascii_bytes, other_bytes = sum(each.ascii_bytes for each in messages), sum(each.other_bytes for each in messages)
    return text_tokens(ascii_bytes, other_bytes, sum(each.wrap_count for each in messages), endpoint)


def _preamble_count(request: Request) -> int:
    """How many messages come before the first answer."""
    leading = takewhile(lambda message: message.is_preamble, request.prompt.messages[:PREAMBLE_MESSAGES_MAX])
    return sum(1 for _ in leading)


def _key(account: str, request: Request, endpoint: Endpoint, count: int) -> _Key:
    """The first `count` messages, below all other fields."""
    chained = request.prompt.chain[count - 1] if count else b""
    return (account, endpoint.model, endpoint.tag, request.prompt.fields_digest, chained)
