"""From a request to its worst case: the price list, what is quarantined, what is calibrated (M3-M7, M14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from preflight_proxy.core.ledger.transition import refusal
from preflight_proxy.core.pricing.calibration import Calibration, billed_reading
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.quote import Quote, UnquotableError, quote
from preflight_proxy.core.refusals.refusals import Code, Refusal
from preflight_proxy.core.shapes.model_name import split_model
from preflight_proxy.core.shapes.shape import Reading, Request
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.upstream.prices import Prices, StalePricesError, UnreachableError


@dataclass(frozen=True, slots=True)
class CallQuote:
    """A quote, and the endpoints that it is for."""

    quote: Quote
    used: tuple[Endpoint, ...]

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints by their provider's display name, which is all that an answer tells of who served it.

        A provider with two of them is left out: nobody could say which one it was.
        """
        by_provider = {each.provider: each for each in self.used}
        count = Counter(each.provider for each in self.used)
        return {provider: each for provider, each in by_provider.items() if count[provider] == 1}

    @property
    def tags(self) -> dict[str, str]:
        """The endpoints' tags by provider."""
        return {provider: endpoint.tag for provider, endpoint in self.endpoints.items()}

    @property
    def tags_of(self) -> dict[str, list[str]]:
        """The tags of all endpoints of each provider."""
        return {
            provider: [each.tag for each in self.used if each.provider == provider]
            for provider in {each.provider for each in self.used}
        }


class Quoter:
    """Quotes requests.

    Args:
        ledger: Which models an account may call, and which endpoints are quarantined.
        prices: The price list.
    """

    def __init__(self, ledger: Ledger, prices: Prices) -> None:
        self._ledger = ledger
        self._prices = prices
        self._calibration = Calibration()

    async def quote(self, account_id: str, asked: Request) -> CallQuote | Refusal:
        """The worst case of a request, or why it has none."""
        account = self._ledger.account(account_id)
        model, _suffix = split_model(asked.model)
        allowed = account.models and {name.lower() for name in account.models}
        if allowed is not None and not {model, asked.model.lower()} & set(allowed):
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
            made = self._quote(account_id, asked, usable)
        except UnquotableError as exc:
            return refusal(exc.code, account)
        return CallQuote(made, tuple(each for each in usable if each.tag in made.tags))

    def again(self, account_id: str, asked: Request, quoted: CallQuote) -> Quote | Refusal:
        """The worst case with what was learnt since: bills may have tightened it (M4), or taken endpoints out of use (M14)."""
        if not (usable := self._usable(quoted.used)):
            return refusal(Code.QUARANTINED, self._ledger.account(account_id))
        return self._quote(account_id, asked, usable)

    def _usable(self, listed: Sequence[Endpoint]) -> list[Endpoint]:
        quarantined = self._ledger.store.book.quarantined
        return [endpoint for endpoint in listed if (endpoint.model, endpoint.tag) not in quarantined]

    def _quote(self, account_id: str, asked: Request, endpoints: Sequence[Endpoint]) -> Quote:
        made = quote(
            asked, endpoints, prompt_tokens=lambda each: self._calibration.prompt_tokens(account_id, asked, each)
        )
        return made.with_byok_fee() if self._ledger.byok else made

    def expire(self, asked: Request) -> None:
        """Read the prices of the request's model again before the next quote."""
        self._prices.expire(split_model(asked.model)[0])

    def record(self, account_id: str, asked: Request, quoted: CallQuote, reading: Reading) -> Reading:
        """Learn from a billed prefix (M4); return the reading with the token counts that its cost agrees with."""
        endpoint = quoted.endpoints.get(reading.provider or "")
        if endpoint is None or reading.usage is None:
            return reading
        reading = replace(reading, usage=billed_reading(endpoint, reading.usage, asked.prompt.image_count))
        self._calibration.record(account_id, asked, endpoint, reading)
        return reading
