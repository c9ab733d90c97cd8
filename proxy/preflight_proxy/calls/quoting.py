"""What a call can cost: M3 to M7 (quote), M14 (miscount), and what its bill teaches (M4).

The ways to admit it are proven, or measured by estimates of its tokens where money is short.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from preflight_proxy.base.config import Bound, CacheBound
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.core.ledger.rows import Reservation
from preflight_proxy.core.ledger.transition import refusal
from preflight_proxy.core.pricing.cached_prefixes import CachedPrefixes
from preflight_proxy.core.pricing.calibration import (
    COST_TOLERANCE,
    Calibration,
    billed_reading,
    off_pusd,
    preamble_bytes,
    preamble_digest,
    system_count,
)
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.fits import PromptRate
from preflight_proxy.core.pricing.prompt_bound import prompt_bound
from preflight_proxy.core.pricing.quote import CacheRead, Offer, Offers, Quote, Quotes, UnquotableError
from preflight_proxy.core.pricing.text_sizes import TextSizes, text_sizes
from preflight_proxy.core.pricing.token_estimate import family_of
from preflight_proxy.core.pricing.token_factors import BY_BYTES, TokenFactors
from preflight_proxy.core.pricing.weighing import Weighing, hope_factor
from preflight_proxy.core.refusals.refusals import Code, Refusal
from preflight_proxy.core.secret import Secret
from preflight_proxy.core.shapes.model_name import split_model
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import CallUsage, Reading, Request
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.ledger.shared_counts import SharedCounts
from preflight_proxy.upstream.prices import Prices, StalePricesError, UnreachableError

TIGHT_PART, TIGHT_PART_BESIDE = 4, 32
"""The tokens of a prompt are estimated where its bytes count for more than the available amount divided by this.

The second holds while other calls are pending: each of many may take only a small part.
"""
PREAMBLE_BYTES_MIN = 4096
"""A shorter preamble is not shared between accounts: its tokens are few, and it could be guessed (M4)."""


class Caller(msgspec.Struct, frozen=True):
    """Who calls, and by which API.

    Attributes:
        account_id: The account that pays.
        token_hash: SHA-256 of the token that proved it, in hex.
        shape: The API of the path.
        query: Query string that goes upstream, with its question mark, or empty.
    """

    account_id: str
    token_hash: str
    shape: Shape
    query: str


class CallContext(msgspec.Struct, frozen=True):
    """What is known of a call before it is quoted.

    Attributes:
        caller: Who calls.
        request: The parsed request.
        headers: The client's headers.
        is_busy: The account had another call in the last minute (M9, clamp).
        until_s: Monotonic time until which the call may wait: for others to settle, and for upstream (M18).
        purpose: What it is for, if it is no call of the agent (see `Reservation`). Such a call is reserved by the proven bound.
        may_read_cache: It may be reserved with a known prefix at the price of a cache read, and quoted anew if it is sent too late.
    """

    caller: Caller
    request: Request
    headers: Sequence[tuple[str, str]]
    is_busy: bool
    until_s: float
    purpose: str = ""
    may_read_cache: bool = True

    def __repr__(self) -> str:
        return f"CallContext({self.caller!r})"  # neither the body nor the headers, which have the token


class CallQuote(msgspec.Struct, frozen=True):
    """The ways to admit a call, the offer that they are made from, and the estimates of its texts, if they were needed."""

    quotes: Quotes
    offer: Offer
    sizes: TextSizes | None = None

    def tags_of(self, provider: str | None) -> list[str]:
        """The tags of all endpoints of a provider, by its display name."""
        return [endpoint.tag for endpoint in self.offer.endpoints if endpoint.provider == provider]


class ReservedCall(msgspec.Struct, frozen=True):
    """A call whose worst case is committed: all that sending, relaying and settling it need.

    Attributes:
        context: What was known before.
        quote: What it can cost, and on which endpoints.
        reservation: The committed reservation, pending.
        key: The real key that it leaves with; empty if the account has lost its key since.
        cache_read: What the reservation expects of a cache; None: nothing.
        waited_ms: How long it waited for others to settle.
    """

    context: CallContext
    quote: CallQuote
    reservation: Reservation
    key: Secret
    cache_read: CacheRead | None = None
    waited_ms: int = 0


class Quoter:
    """Quotes requests.

    Args:
        ledger: Which models an account may call, and which endpoints are quarantined.
        prices: The price list.
        reader: Estimates texts in its turns.
        bound: How many tokens a prompt counts as: what is measured, or what is proven (M3).
        shared_counts: What other runs of the user know; None for nothing.
        cache_bound: The price of a known prefix: of a write to a cache, or of a read, as it was billed before (M6).
    """

    def __init__(
        self,
        ledger: Ledger,
        prices: Prices,
        reader: RequestReader,
        bound: Bound = "measured",
        shared_counts: SharedCounts | None = None,
        cache_bound: CacheBound = "write",
    ) -> None:
        self._ledger = ledger
        self._prices = prices
        self._reader = reader
        self._is_measured = bound == "measured"
        self._calibration = Calibration()
        self._cached = CachedPrefixes() if cache_bound == "billed" else None
        self._factors = TokenFactors()
        self._shared_counts = shared_counts or SharedCounts(None, run="", upstream="", clock=ledger.clock)
        self._offers = Offers()

    async def quote(self, context: CallContext) -> CallQuote | Refusal:
        """Return the worst case of a request, or why it has none.

        Raises:
            BadRequest: A text of it cannot be read.
        """
        caller, request = context.caller, context.request
        account_id = caller.account_id
        account = self._ledger.account(account_id)
        model = split_model(request.model)[0]
        if account.models is not None:
            allowed = {name.lower() for name in account.models}
            if allowed.isdisjoint({model, request.model.lower()}):
                return refusal(Code.MODEL_NOT_ALLOWED, account)
        try:
            listed = (await self._prices.of(model)).endpoints
        except UnreachableError:
            return refusal(Code.UNREACHABLE, account)
        except StalePricesError:
            return refusal(Code.PRICE_STALE, account)
        usable = self._usable(listed)
        if listed and not usable:
            return refusal(Code.QUARANTINED, account)
        try:
            offer = self._offers.of(request, usable)
        except UnquotableError:
            return refusal(Code.UNPRICED, account)
        quotes = self._quotes(context, offer, None)
        first = CallQuote(quotes, offer)
        return await self.estimated(context, first) if self._is_tight(account_id, quotes.proven) else first

    async def estimated(self, context: CallContext, first: CallQuote) -> CallQuote:
        """Quote a request by the estimates of its texts besides, unless it has them, or only what is proven counts.

        Raises:
            BadRequest: A text of it cannot be read.
        """
        caller, request, offer = context.caller, context.request, first.offer
        if not self._is_measured or not request.prompt.messages or first.sizes is not None:
            return first
        sizes = await self.sizes(caller, request, offer)
        return CallQuote(self._quotes(context, offer, sizes), offer, sizes)

    async def sizes(self, caller: Caller, request: Request, offer: Offer) -> TextSizes:
        """Estimate the tokens of a request of messages for the tokenizer of its model.

        Raises:
            BadRequest: A text of it cannot be read.
        """
        family = family_of(offer.quoted[0].model, offer.quoted[0].tokenizer)
        prompt = request.prompt
        cost = prompt.ascii_bytes + prompt.other_bytes + prompt.tool_bytes
        return await self._reader.run(caller.account_id, text_sizes(caller.shape, request, family), cost)

    def _is_tight(self, account_id: str, proven: Quote) -> bool:
        """True if the proven bound takes a large part of what is available. Else nobody needs a smaller one."""
        account = self._ledger.account(account_id)
        part = TIGHT_PART_BESIDE if account.pending_pusd else TIGHT_PART
        return proven.cheapest_pusd * part > account.available_pusd

    def prompt_rate(self, account_id: str, request: Request, offer: Offer, quotes: Quotes) -> PromptRate | None:
        """Return what a new prompt is reserved at where a call is cheapest; None for an API without messages."""
        if not request.prompt.messages:
            return None
        tag = quotes.first.cheapest_tag
        endpoint = offer.quoted[offer.tags.index(tag)]
        factor = self._factor(account_id, endpoint) if self._is_measured else BY_BYTES
        factor_or_none = factor if factor < BY_BYTES else None
        return offer.prompt_rate(request, quotes.first, tag, factor_or_none, has_fee=self._ledger.byok)

    def again(self, context: CallContext, first: CallQuote) -> Quotes | Refusal:
        """Quote a waiting call once more: bills may have tightened its bound (M4), or put endpoints out of use (M14)."""
        usable = self._usable(first.offer.endpoints)
        if not usable:
            return refusal(Code.QUARANTINED, self._ledger.account(context.caller.account_id))
        return self._quotes(context, self._offers.of(context.request, usable), first.sizes)

    def _usable(self, listed: Sequence[Endpoint]) -> Sequence[Endpoint]:
        quarantined = self._ledger.store.state.quarantined
        if not quarantined:
            return listed
        return [endpoint for endpoint in listed if (endpoint.model, endpoint.tag) not in quarantined]

    def _quotes(self, context: CallContext, offer: Offer, sizes: TextSizes | None) -> Quotes:
        """The ways to admit a call: measured, proven, and with its known prefix at the price of a cache read."""
        account_id, request = context.caller.account_id, context.request
        bounds = [self._bounds(context, endpoint, sizes) for endpoint in offer.quoted]
        listed = offer.quote(request, tokens := [proven_tokens for proven_tokens, _measured in bounds])
        proven = self._priced(listed)
        ways = [proven]
        if sizes is not None and not context.purpose:
            listed = offer.quote(request, tokens := [measured_tokens for _proven, measured_tokens in bounds])
            ways.insert(0, self._priced(listed).near_least())
        if self._cached is not None and context.may_read_cache and not context.purpose:
            now_s = self._ledger.clock.monotonic_s()
            cached = [self._cached.of(account_id, request, endpoint, now_s) for endpoint in offer.quoted]
            if (reading := offer.cache_quote(request.prompt, listed, tokens, cached)) is not None:
                ways.append(self._priced(reading))
        return Quotes(tuple(ways), proven)

    def _bounds(self, context: CallContext, endpoint: Endpoint, sizes: TextSizes | None) -> tuple[int, int]:
        """The most prompt tokens, proven and measured. Where the endpoint is known to count more, they are the same."""
        account_id, request = context.caller.account_id, context.request
        if sizes is None or (factor := self._factor(account_id, endpoint)) >= BY_BYTES:
            return self._calibration.bounds(account_id, request, endpoint)
        preamble = self._preamble(context, endpoint)
        return self._calibration.bounds(account_id, request, endpoint, sizes, factor, preamble)

    def _factor(self, account_id: str, endpoint: Endpoint) -> int:
        """By how many thousandths estimates are multiplied there; `BY_BYTES` after a bill above a reservation (M14)."""
        is_byte_counted = f"{endpoint.model} {endpoint.tag}" in self._ledger.account(account_id).byte_counted
        if is_byte_counted:
            return BY_BYTES
        factor, shared = self._factors.of(account_id, endpoint), self._shared_counts
        return max(factor, shared.factor(endpoint.model, endpoint.tag)) if shared.shares else factor

    def _preamble(self, context: CallContext, endpoint: Endpoint) -> tuple[int, int] | None:
        """What other runs were billed for the same preamble on an endpoint: its messages, and the most tokens (M4)."""
        if not self._shared_counts.shares or preamble_bytes(context.request.prompt) < PREAMBLE_BYTES_MIN:
            return None
        known = self._shared_counts.preamble_tokens(_digest(context, endpoint))
        return (system_count(context.request.prompt), known[0]) if known is not None and known[1] else None

    def hopeful(self, account_id: str, request: Request, first: CallQuote) -> Quote | None:
        """Quote a request by the least tokens that a weighing may show; None if its texts are not estimated."""
        sizes, offer = first.sizes, first.offer
        if sizes is None or request.prompt.opaque_media:
            return None
        factor = hope_factor(sizes.family)
        hoped = [self._calibration.hoped(account_id, request, endpoint, sizes, factor) for endpoint in offer.quoted]
        any_known = any(is_known for is_known, _tokens in hoped)
        tokens = []
        for endpoint, (is_known, hoped_tokens) in zip(offer.quoted, hoped, strict=True):
            # Where the conversation has been before, only what is new is weighed: no other endpoint is worth it.
            is_worth_it = is_known or not any_known
            counts_bytes = self._factor(account_id, endpoint) >= BY_BYTES
            tokens.append(hoped_tokens if is_worth_it and not counts_bytes else prompt_bound(request.prompt, endpoint))
        return self._priced(offer.quote(request, tokens))

    def known(self, account_id: str, request: Request, endpoint: Endpoint) -> tuple[int | None, int]:
        """See `Calibration.known`."""
        return self._calibration.known(account_id, request, endpoint)

    def note_weighed(
        self, account_id: str, request: Request, endpoint: Endpoint, sizes: TextSizes, weighing: Weighing
    ) -> None:
        """Remember what a prompt weighs. Its system messages alone, with the other fields, have no more tokens than all of it.

        Args:
            account_id: Whose call it is.
            request: What was weighed.
            endpoint: Where.
            sizes: The estimates of its texts.
            weighing: What its weighing has shown.
        """
        prompt, known = request.prompt, weighing.known
        tokens = weighing.tokens(prompt, sizes)
        for count in {len(prompt.messages), system_count(prompt)}:
            if known is None or count > known:
                self._calibration.note_estimate(account_id, request, endpoint, count, tokens)

    def is_estimated(self, context: CallContext, endpoint: Endpoint, sizes: TextSizes) -> bool:
        """See `Calibration.is_estimated`."""
        preamble = self._preamble(context, endpoint)
        return self._calibration.is_estimated(context.caller.account_id, context.request, endpoint, sizes, preamble)

    def _priced(self, quote: Quote) -> Quote:
        return quote.with_byok_fee() if self._ledger.byok else quote

    def expire(self, request: Request) -> None:
        """Read the prices of the request's model again before the next quote."""
        self._prices.expire(split_model(request.model)[0])

    def record(self, call: ReservedCall, reading: Reading, began_s: float = 0.0) -> Reading:
        """Learn from the bill of a call that began then (M4); return the reading with the tokens that its cost agrees with."""
        endpoint = call.quote.offer.by_provider.get(reading.provider or "")
        if endpoint is None or reading.usage is None:
            return reading
        context = call.context
        account_id, request = context.caller.account_id, context.request
        usage = billed_reading(endpoint, reading.usage, request.prompt.image_count)
        if usage is not reading.usage:
            reading = replace(reading, usage=usage)
        is_counted = self._cached is not None or call.quote.sizes is not None
        is_counted = is_counted and self._calibration.counts(request, endpoint, reading)
        if is_counted and self._cached is not None:
            self._cached.note(account_id, request, endpoint, usage, began_s)
        if is_counted and call.quote.sizes is not None:
            known, billed = self._calibration.new_tokens(account_id, request, endpoint, usage.prompt_tokens)
            factor = self._factors.see(account_id, endpoint, request.prompt, call.quote.sizes, known, billed)
            self._share(call, endpoint, usage.prompt_tokens, factor)
        if not context.purpose:  # the text of a weighing begins no conversation
            self._calibration.record(account_id, request, endpoint, reading)
        return reading

    def _share(self, call: ReservedCall, endpoint: Endpoint, billed: int, factor: int) -> None:
        """Let other runs know what a preamble was billed at, and by how much an estimate was too low."""
        shared, sizes, prompt = self._shared_counts, call.quote.sizes, call.context.request.prompt
        if not shared.shares or sizes is None:
            return
        shared.note_factor(endpoint.model, endpoint.tag, factor)
        if preamble_bytes(prompt) >= PREAMBLE_BYTES_MIN:
            shared.note_preamble(_digest(call.context, endpoint), billed, sizes.after(None) // 2000)

    def overran(self, call: ReservedCall) -> None:
        """Forget what other runs were billed for the preamble of a call that was billed above its reservation (M14)."""
        for endpoint in call.quote.offer.quoted if call.quote.sizes is not None else ():
            if self._preamble(call.context, endpoint) is not None:
                self._shared_counts.forget_preamble(_digest(call.context, endpoint))

    def billed_tokens(self, call: ReservedCall, reading: Reading) -> int | None:
        """Return the prompt tokens that a call was billed for; None if its bill does not tell."""
        endpoint = call.quote.offer.by_provider.get(reading.provider or "")
        if endpoint is None or reading.usage is None:
            return None
        request = call.context.request
        usage = billed_reading(endpoint, reading.usage, request.prompt.image_count)
        is_known = self._calibration.counts(request, endpoint, replace(reading, usage=usage))
        return usage.prompt_tokens if is_known else None

    def is_miscount(self, call: ReservedCall, reading: Reading) -> bool:
        """True if prompt tokens, or a cache without them, explain at quoted prices a cost above the reservation (M14)."""
        usage, served, reservation = reading.usage, reading.provider, call.reservation
        if usage is None or not reservation.exposure_pusd or usage.completion_tokens > reservation.bound:
            return False
        if not self._is_measured and usage.prompt_tokens > reservation.cache_read_tokens:
            return False
        # An answer names the provider alone: one that has several endpoints may have billed at the prices of any of them.
        places = [endpoint for endpoint in call.quote.offer.endpoints if endpoint.provider == served]
        return any(self._is_quoted(call, endpoint, usage) for endpoint in places)

    def _is_quoted(self, call: ReservedCall, endpoint: Endpoint, usage: CallUsage) -> bool:
        """True if a bill agrees with the prices of an endpoint, and is no more than its tokens are quoted at there."""
        offer, request = call.quote.offer, call.context.request
        usage = billed_reading(endpoint, usage, request.prompt.image_count)
        if usage.cost_pusd is None or off_pusd(endpoint, usage, request.prompt.image_count) is None:
            return False
        quoted = self._priced(offer.quote(request, [usage.prompt_tokens] * len(offer.quoted)))
        quoted_pusd = quoted.line(endpoint.tag).pusd(call.reservation.bound)
        return (usage.cost_pusd - quoted_pusd) * COST_TOLERANCE <= quoted_pusd


def _digest(context: CallContext, endpoint: Endpoint) -> bytes:
    return preamble_digest(context.request, endpoint, context.headers, context.caller.query)
