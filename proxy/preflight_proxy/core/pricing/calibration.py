"""Billed prefixes tighten the bound on prompt tokens (M4 (calibration)).

An agent sends the same conversation again and again, each time a little longer. What a prefix was billed at is known, so only the
added messages must be bounded by their bytes. `Calibration.record` says which bills count.

Agents also begin new conversations with the same preamble: tools, system text, instructions. What comes before the first answer is
part of every longer prompt, so it has no more tokens than any prompt that begins with it was billed at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile

from msgspec.structs import replace

from preflight_proxy.core.money import charge_pusd
from preflight_proxy.core.pricing.endpoint import Endpoint, EndpointPrices
from preflight_proxy.core.pricing.prompt_bound import TEMPLATE_TOKENS, prompt_bound, text_tokens
from preflight_proxy.core.shapes.memo import DIGEST_BYTES
from preflight_proxy.core.shapes.shape import CallUsage, Prompt, Reading, Request

PREFIXES_MAX = 4096
"""Prefixes remembered at most, those not used for long forgotten first; about 200 bytes each. As many preambles."""
PREAMBLE_MESSAGES_MAX = 8
"""Messages of a preamble that are looked at; agents send one to four before the task."""
FINISHES = frozenset({"stop", "length", "tool_calls"})
"""Only an answer that ended in one of these ways has a bill for its whole prompt."""
COST_TOLERANCE = 100
"""A bill confirms its token counts if it is within one part in this many of tokens times a listed price."""

TRIES_MAX = 64
"""Known lengths of a prefix that are tried, the longest first: more than conversations that one account has side by side."""
TRIED_BYTES_MAX = 2**20
"""Bytes of digests that are read for these tries; more take longer than they save."""

_Fields = tuple[str, str, str, bytes]
"""Account, model, endpoint, and the digest of all fields but the messages."""


class Calibration:
    """What prefixes were billed at, by account, model, endpoint, other fields and messages.

    Args:
        prefixes_max: How many are remembered.
    """

    def __init__(self, prefixes_max: int = PREFIXES_MAX) -> None:
        self._prefixes = _Bills(prefixes_max)
        self._preambles = _Bills(prefixes_max)

    def bounds(self, account: str, request: Request) -> Callable[[Endpoint], int]:
        """Return the function of the most prompt tokens that an endpoint can count.

        That is the bound by bytes (M3), or less by a known prefix and the rest.
        """
        prompt = request.prompt
        count = len(prompt.messages)
        if count == 0:  # bills of messages say nothing about text outside messages
            return lambda endpoint: prompt_bound(prompt, endpoint)
        digests: dict[int, bytes] = {}
        rests: dict[int, _Rest] = {}
        preamble_count = _preamble_count(prompt)

        def tokens_max(endpoint: Endpoint) -> int:
            fields, least = _fields(account, request, endpoint), prompt_bound(prompt, endpoint)
            for bills, count_max in ((self._prefixes, count), (self._preambles, preamble_count)):
                known = bills.longest(fields, prompt, count_max, digests)
                if known is None:
                    continue
                known_count, tokens = known
                if (rest := rests.get(known_count)) is None:
                    rest = rests[known_count] = _Rest(prompt, known_count)
                if not rest.has_media:
                    added = text_tokens(rest.ascii_bytes, rest.other_bytes, rest.wrap_count, endpoint)
                    least = min(least, tokens + added + rest.opaque_bytes + TEMPLATE_TOKENS)
            return least

        return tokens_max

    def prompt_tokens(self, account: str, request: Request, endpoint: Endpoint) -> int:
        """Return `bounds` for one endpoint."""
        return self.bounds(account, request)(endpoint)

    def record(self, account: str, request: Request, endpoint: Endpoint, reading: Reading) -> None:
        """Remember what a complete answer was billed at, if its bill says how many tokens its prompt has.

        It does if the answer ended by itself, tokens were counted, the prompt was neither shortened nor fetched from elsewhere,
        and the cost is within 1 % of tokens times a listed price. Usage of zeros (a cached answer) is ignored.
        """
        usage, prompt = reading.usage, request.prompt
        if usage is None or usage.prompt_tokens <= 0 or reading.error or reading.finish not in FINISHES:
            return
        if not prompt.messages or prompt.shrinks or prompt.remote_media:
            return
        if not billed_as_listed(endpoint, usage, prompt.image_count):
            return
        fields, count = _fields(account, request, endpoint), len(prompt.messages)
        self._prefixes.remember(fields, count, prompt.prefix_digest(count), usage.prompt_tokens)
        for leading in range(_preamble_count(prompt) + 1):
            digest = prompt.prefix_digest(leading)
            least = min(self._preambles.tokens(fields, digest) or usage.prompt_tokens, usage.prompt_tokens)
            self._preambles.remember(fields, leading, digest, least)


class _Known:
    """Bills with the same fields: tokens by the digest of the messages, and which numbers of messages there are."""

    __slots__ = ("counts", "tokens")

    def __init__(self) -> None:
        self.counts: set[int] = set()
        self.tokens: dict[bytes, int] = {}


class _Bills:
    """Billed prompt tokens, by what they were billed for. Those that were not billed or used for long are forgotten.

    Like `Recent`, in two generations; in each, the bills with the same fields lie together.
    """

    def __init__(self, bills_max: int) -> None:
        self._half = bills_max // 2
        self._young_count = 0
        self._young: dict[_Fields, _Known] = {}
        self._old: dict[_Fields, _Known] = {}

    def __len__(self) -> int:
        return sum(len(known.tokens) for known in (*self._young.values(), *self._old.values()))

    def tokens(self, fields: _Fields, digest: bytes) -> int | None:
        """Return what these messages were billed at; None if that is not known."""
        for bills in (self._young, self._old):
            if (known := bills.get(fields)) is not None and (tokens := known.tokens.get(digest)) is not None:
                return tokens
        return None

    def longest(
        self, fields: _Fields, prompt: Prompt, count_max: int, digests: dict[int, bytes]
    ) -> tuple[int, int] | None:
        """Return the longest known prefix of at most `count_max` messages, as their number and what it was billed at.

        Args:
            fields: All but the messages.
            prompt: The messages.
            count_max: How many messages it has at most.
            digests: Digests of prefixes of this prompt by their number of messages; those that are computed are added.
        """
        generations = self._of(fields)
        if not generations:
            return None
        counts = generations[0].counts if len(generations) == 1 else generations[0].counts | generations[1].counts
        tries = tried_bytes = 0
        for count in range(count_max, -1, -1):
            if count not in counts:
                continue
            tries, tried_bytes = tries + 1, tried_bytes + count * DIGEST_BYTES
            if tries > 1 and (tries > TRIES_MAX or tried_bytes > TRIED_BYTES_MAX):
                return None
            if (digest := digests.get(count)) is None:
                digest = digests[count] = prompt.prefix_digest(count)
            if (tokens := self.tokens(fields, digest)) is not None:
                self.remember(fields, count, digest, tokens)  # it counts as used
                return count, tokens
        return None

    def remember(self, fields: _Fields, count: int, digest: bytes, tokens: int) -> None:
        """Store what so many messages were billed at."""
        known = self._young.get(fields)
        if known is None or digest not in known.tokens:
            if self._young_count >= self._half:
                self._old, self._young, self._young_count = self._young, {}, 0
            known = self._young.setdefault(fields, _Known())
            known.counts.add(count)
            self._young_count += 1
        known.tokens[digest] = tokens

    def _of(self, fields: _Fields) -> list[_Known]:
        """The bills with these fields, the younger ones first."""
        return [known for bills in (self._young, self._old) if (known := bills.get(fields)) is not None]


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


class _Rest:
    """What is added to the bill of the first `count` messages: those after them, and opaque parts of these as bytes (M4)."""

    __slots__ = ("ascii_bytes", "has_media", "opaque_bytes", "other_bytes", "wrap_count")

    def __init__(self, prompt: Prompt, count: int) -> None:
        messages = prompt.messages[count:]
        self.ascii_bytes = sum([message.ascii_bytes for message in messages])
        self.other_bytes = sum([message.other_bytes for message in messages])
        self.wrap_count = sum([message.wrap_count for message in messages])
        self.opaque_bytes = prompt.opaque_bytes - sum([message.opaque_bytes for message in messages])
        self.has_media = any(message.media for message in messages)


def _preamble_count(prompt: Prompt) -> int:
    """How many messages come before the first answer."""
    leading = takewhile(lambda message: message.is_preamble, prompt.messages[:PREAMBLE_MESSAGES_MAX])
    return sum(1 for _ in leading)


def _fields(account: str, request: Request, endpoint: Endpoint) -> _Fields:
    return (account, endpoint.model, endpoint.tag, request.prompt.fields_digest)
