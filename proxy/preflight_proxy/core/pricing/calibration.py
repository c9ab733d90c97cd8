"""Billed prefixes tighten the bound on prompt tokens (M4 (calibration)).

An agent sends the same conversation again and again, each time a little longer. What a prefix was billed at is known, so only the
added messages must be bounded by their bytes. `Calibration.record` says which bills count.

What was added counts by its bytes, or by the estimate of its tokens (M3 (measured bound)).

Agents also begin new conversations with the same preamble: tools, system text, instructions. What comes before the first answer is
part of every longer prompt, so it has no more tokens than any prompt that begins with it was billed at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec.structs import replace

from preflight_proxy.core.money import TOKENS_PER_MTOK
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.known_prefixes import KnownPrefixes
from preflight_proxy.core.pricing.prompt_bound import (
    TEMPLATE_TOKENS,
    WRAP_TOKENS,
    ascii_factor,
    constant_tokens,
    prompt_bound,
    text_tokens,
)
from preflight_proxy.core.pricing.text_sizes import TextSizes
from preflight_proxy.core.pricing.token_estimate import tokens_at_most
from preflight_proxy.core.shapes.shape import CallUsage, Prompt, Reading, Request

PREFIXES_MAX = 4096
"""Prefixes remembered at most, those not used for long forgotten first; about 200 bytes each. As many preambles."""
PREAMBLE_MESSAGES_MAX = 8
"""Messages of a preamble that are looked at; agents send one to four before the task."""
BESIDE_PROMPT = ("cache_control", "service_tier", "verbosity")
"""Fields that no prompt's digest has, and that may decide a price, or words of a template."""
SYSTEM_ROLES = ("system", "developer")
FINISHES = frozenset({"stop", "length", "tool_calls"})
"""Only an answer that ended in one of these ways has a bill for its whole prompt."""
COST_TOLERANCE = 100
"""A bill confirms its token counts if it is within one part in this many of tokens times a listed price."""

NEW_PART = 4
"""A prompt is not weighed if this part of it or less is new: what is said of the rest says enough."""


class Calibration:
    """What prefixes were billed at, by account, model, endpoint, other fields and messages.

    Args:
        prefixes_max: How many are remembered.
    """

    def __init__(self, prefixes_max: int = PREFIXES_MAX) -> None:
        self._prefixes = KnownPrefixes[int](prefixes_max)
        self._preambles = KnownPrefixes[int](prefixes_max)
        self._estimates = KnownPrefixes[int](prefixes_max)

    def prompt_tokens(self, account: str, request: Request, endpoint: Endpoint) -> int:
        """Return the most prompt tokens that an endpoint can count: by bytes (M3), or less by a known prefix and the rest."""
        return self.bounds(account, request, endpoint)[0]

    def bounds(
        self,
        account: str,
        request: Request,
        endpoint: Endpoint,
        sizes: TextSizes | None = None,
        factor: int = 1000,
        preamble: tuple[int, int] | None = None,
    ) -> tuple[int, int]:
        """Return the most prompt tokens that an endpoint can count: proven, and measured, which is never more.

        Args:
            account: Whose bills count.
            request: As read.
            endpoint: Where.
            sizes: The estimates of its texts; None: there are none, and both bounds are the proven one.
            factor: Thousandths by which the estimates are multiplied, because this endpoint counted more than they said (M24).
            preamble: How many messages other runs were billed for, with all other fields, and the most tokens of these (M4).
        """
        prompt = request.prompt
        proven, count = prompt_bound(prompt, endpoint), len(prompt.messages)
        if count == 0:  # bills of messages say nothing about text outside messages
            return proven, proven
        measured = proven
        if sizes is not None and not prompt.opaque_media:
            measured = _measured_whole(prompt, endpoint, sizes, factor)
        fields = (account, endpoint.model, endpoint.tag, prompt.fields_digest)
        preamble_max = PREAMBLE_MESSAGES_MAX if count > PREAMBLE_MESSAGES_MAX else count
        for bills, count_max in ((self._prefixes, count), (self._preambles, preamble_max)):
            known = bills.longest(fields, prompt, count_max)
            if known is not None and (tokens := _tokens_with_rest(prompt, endpoint, *known)) is not None:
                proven = min(proven, tokens)
                if sizes is not None:
                    measured = min(measured, _measured_with_rest(prompt, endpoint, *known, sizes, factor))
        if sizes is not None:
            for known in (self._estimates.longest(fields, prompt, count), preamble):
                if known is not None and _tokens_with_rest(prompt, endpoint, *known) is not None:
                    measured = min(measured, _measured_with_rest(prompt, endpoint, *known, sizes, factor))
        return proven, min(proven, measured)

    def hoped(
        self, account: str, request: Request, endpoint: Endpoint, sizes: TextSizes, factor: int
    ) -> tuple[bool, int]:
        """Return whether a part of the prompt is known by bills, and its tokens if the rest has as few as a weighing may show.

        Args:
            account: Whose bills count.
            request: As read.
            endpoint: Where.
            sizes: The estimates of its texts.
            factor: By what these are multiplied, in thousandths.
        """
        prompt = request.prompt
        count, tokens = self.known(account, request, endpoint)
        if count is not None:
            return True, _measured_with_rest(prompt, endpoint, count, tokens, sizes, factor)
        return False, _measured_whole(prompt, endpoint, sizes, factor)

    def note_estimate(self, account: str, request: Request, endpoint: Endpoint, count: int, tokens: int) -> None:
        """Remember how many tokens the first `count` messages have at most, by a weighing or by what other runs were billed."""
        prompt = request.prompt
        fields = (account, endpoint.model, endpoint.tag, prompt.fields_digest)
        self._estimates.remember(fields, count, prompt.prefix_digest(count), tokens)

    def is_estimated(
        self, account: str, request: Request, endpoint: Endpoint, sizes: TextSizes, preamble: tuple[int, int] | None
    ) -> bool:
        """True if a weighing or other runs have told of a prompt, but for at most a part in `NEW_PART` of its estimate.

        Args:
            account: Whose prompt it is.
            request: As read.
            endpoint: Where.
            sizes: The estimates of its texts.
            preamble: As in `bounds`.
        """
        known = self._longest(self._estimates, account, request, endpoint) or preamble
        return known is not None and sizes.after(known[0]) * NEW_PART <= sizes.after(None)

    def new_tokens(self, account: str, request: Request, endpoint: Endpoint, billed: int) -> tuple[int | None, int]:
        """Return how many messages were billed before, None if none, and what was billed for the rest. Before `record`."""
        known = self._longest(self._prefixes, account, request, endpoint)
        return (None, billed) if known is None else (known[0], billed - known[1])

    def known(self, account: str, request: Request, endpoint: Endpoint) -> tuple[int | None, int]:
        """Return how many messages are known by bills, None if none, and the most tokens that they have with all other fields."""
        prefix = self._longest(self._prefixes, account, request, endpoint)
        return prefix or self._longest(self._preambles, account, request, endpoint) or (None, 0)

    @staticmethod
    def _longest(
        bills: KnownPrefixes[int], account: str, request: Request, endpoint: Endpoint
    ) -> tuple[int, int] | None:
        prompt = request.prompt
        fields = (account, endpoint.model, endpoint.tag, prompt.fields_digest)
        return bills.longest(fields, prompt, len(prompt.messages))

    def record(self, account: str, request: Request, endpoint: Endpoint, reading: Reading) -> None:
        """Remember what a complete answer was billed at, if `counts`."""
        usage, prompt = reading.usage, request.prompt
        if usage is None or not self.counts(request, endpoint, reading):
            return
        fields = (account, endpoint.model, endpoint.tag, prompt.fields_digest)
        count, tokens = len(prompt.messages), usage.prompt_tokens
        self._prefixes.remember(fields, count, prompt.prefix_digest(count), tokens)
        for leading in range(preamble_count(prompt) + 1):
            digest = prompt.prefix_digest(leading)
            known = self._preambles.get(fields, leading, digest)
            if known is None or tokens < known:
                self._preambles.remember(fields, leading, digest, tokens)

    @staticmethod
    def counts(request: Request, endpoint: Endpoint, reading: Reading) -> bool:
        """True if a bill says how many tokens its prompt has.

        It does if the answer ended by itself, tokens were counted, the prompt was neither shortened nor fetched from elsewhere,
        and the cost is within 1 % of tokens times a listed price. Usage of zeros (a cached answer) is ignored.
        """
        usage, prompt = reading.usage, request.prompt
        if usage is None or usage.prompt_tokens <= 0 or reading.error or reading.finish not in FINISHES:
            return False
        if not prompt.messages or prompt.shrinks or prompt.remote_media:
            return False
        return off_pusd(endpoint, usage, prompt.image_count) is not None


def billed_reading(endpoint: Endpoint, usage: CallUsage, image_count: int = 0) -> CallUsage:
    """Return the usage with the prompt tokens that its cost agrees with, if the API leaves two readings of them.

    If both agree, the closer one counts; if neither does, the larger, which is the documented one.
    """
    if usage.prompt_tokens_less is None:
        return usage
    less = replace(usage, prompt_tokens=usage.prompt_tokens_less)
    as_read_pusd, less_pusd = off_pusd(endpoint, usage, image_count), off_pusd(endpoint, less, image_count)
    agrees = less_pusd is not None and (as_read_pusd is None or less_pusd < as_read_pusd)
    return replace(less if agrees else usage, prompt_tokens_less=None)


def off_pusd(endpoint: Endpoint, usage: CallUsage, image_count: int = 0) -> int | None:
    """Return how far the cost is from the tokens at the nearest of the endpoint's listed sets of prices; None if over 1 %."""
    if usage.cost_pusd is None or usage.is_byok:
        return None
    nearest_pusd = None
    cached, written, reasoned = usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens
    plain, answered = usage.prompt_tokens - cached - written, usage.completion_tokens - reasoned
    for prices in endpoint.listed:
        prompt = prices.prompt
        read = prompt if prices.cache_read is None else prices.cache_read
        reasoning = prices.completion if prices.reasoning is None else prices.reasoning
        fixed_pusd = prices.request + prices.image * image_count
        for tokens, price in ((plain, prompt), (cached, read), (answered, prices.completion), (reasoned, reasoning)):
            fixed_pusd -= -tokens * price // TOKENS_PER_MTOK  # each charge is rounded up
        for write in (prices.cache_write, prices.cache_write_1h):
            expected_pusd = fixed_pusd - (-written * (prompt if write is None else write) // TOKENS_PER_MTOK)
            difference_pusd = abs(usage.cost_pusd - expected_pusd)
            if difference_pusd * COST_TOLERANCE <= expected_pusd and (
                nearest_pusd is None or difference_pusd < nearest_pusd
            ):
                nearest_pusd = difference_pusd
    return nearest_pusd


def _tokens_with_rest(prompt: Prompt, endpoint: Endpoint, count: int, tokens: int) -> int | None:
    """The most tokens of a prompt whose first `count` messages were billed at `tokens`; None if media is among the others.

    The others count by their bytes, and so do the opaque parts of the first ones (M4).
    """
    rest, opaque_bytes = prompt.messages[count:], prompt.opaque_bytes
    if prompt.opaque_media and True in [message.media for message in rest]:
        return None
    if opaque_bytes:
        opaque_bytes -= sum([message.opaque_bytes for message in rest])
    ascii_bytes = other_bytes = wrap_count = 0
    for message in rest:
        ascii_bytes += message.ascii_bytes
        other_bytes += message.other_bytes
        wrap_count += message.wrap_count
    opaque_tokens = ascii_factor(endpoint) * opaque_bytes
    return tokens + text_tokens(ascii_bytes, other_bytes, wrap_count, endpoint) + opaque_tokens + TEMPLATE_TOKENS


def _measured_whole(prompt: Prompt, endpoint: Endpoint, sizes: TextSizes, factor: int) -> int:
    """The most tokens of a prompt by the estimates of its texts, where nothing of it is known by bills."""
    text = tokens_at_most(sizes.after(None) * factor // 1000, sizes.family)
    opaque_tokens = ascii_factor(endpoint) * prompt.opaque_bytes
    return text + WRAP_TOKENS * prompt.message_count + opaque_tokens + constant_tokens(prompt)


def _measured_with_rest(
    prompt: Prompt, endpoint: Endpoint, count: int, tokens: int, sizes: TextSizes, factor: int
) -> int:
    """As `_tokens_with_rest`, where the others count by the estimates of their tokens, and all opaque parts by bytes."""
    rest = tokens_at_most(sizes.after(count) * factor // 1000, sizes.family)
    wraps = WRAP_TOKENS * sum([message.wrap_count for message in prompt.messages[count:]])
    return tokens + rest + wraps + ascii_factor(endpoint) * prompt.opaque_bytes + TEMPLATE_TOKENS


def system_count(prompt: Prompt) -> int:
    """Return how many messages of the system a prompt begins with."""
    are_system = [each.is_preamble and each.role in SYSTEM_ROLES for each in prompt.messages[:PREAMBLE_MESSAGES_MAX]]
    return [*are_system, False].index(False)


def preamble_bytes(prompt: Prompt) -> int:
    """Return the bytes that come before the first message of a user: tools, and all text of the system."""
    messages = prompt.messages[system_count(prompt) :]
    text_bytes = prompt.ascii_bytes + prompt.other_bytes + prompt.tool_bytes
    return text_bytes - sum([message.ascii_bytes + message.other_bytes for message in messages])


def preamble_count(prompt: Prompt) -> int:
    """How many messages come before the first answer."""
    count = 0
    for message in prompt.messages[:PREAMBLE_MESSAGES_MAX]:
        if not message.is_preamble:
            break
        count += 1
    return count


def preamble_digest(request: Request, endpoint: Endpoint, headers: Sequence[tuple[str, str]], query: str) -> bytes:
    """A digest of all that decides how many tokens a preamble has there, and at which price: no message of the user."""
    prompt = request.prompt
    deciding = [f"{name.lower()}:{value}" for name, value in headers if "anthropic" in name.lower()]
    parts = [
        *(endpoint.model, endpoint.tag, request.shape, query, *sorted(deciding)),
        repr(sorted(request.provider.items())),
        *(f"{name}={bytes(request.fields[name])!r}" for name in BESIDE_PROMPT if name in request.fields),
    ]
    digests = prompt.fields_digest + prompt.prefix_digest(system_count(prompt))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape") + b"\0" + digests).digest()
