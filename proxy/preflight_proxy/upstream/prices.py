"""The price list: which endpoints serve a model at what price; read at first use, kept, and read again (M7, quoted endpoints).

Source: openrouter.ai/docs/guides/overview/models and the endpoints list, `GET /models/{author}/{slug}/endpoints`, 2026-10.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from urllib.parse import quote as url_quote

import msgspec
import structlog

from preflight_proxy.base.clock import Clock
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.pricing.endpoint import Endpoint, endpoint_from_json
from preflight_proxy.core.shapes.paths import MODEL_NAME
from preflight_proxy.upstream.client import NoAnswerError, Upstream

REFRESH_S = 3600.0
"""Prices are read again after this time (M7)."""
STALE_S = 24 * 3600.0
"""Prices older than this quote nothing (M7)."""
RETRY_S = 5.0
"""After a failed read the old list serves, and the next try waits this long."""
ANYONE_S = 1.0
"""The least time between two reads of upstream for clients without a token."""
MODELS_MAX = 1000
"""Models kept; an agent that asks for made-up names must not fill the memory."""

_NO_MODEL = b'{"error":{"code":404,"message":"No such model"}}'
_is_model_name = re.compile(MODEL_NAME).fullmatch
_log = structlog.get_logger("preflight_proxy.upstream.prices")


class _Architecture(msgspec.Struct):
    tokenizer: str | None = None


class _Data(msgspec.Struct):
    architecture: _Architecture | None = None
    endpoints: list[dict[str, object]] = []


class _Document(msgspec.Struct):
    data: _Data


class _Listed(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Listed]


class _ErrorDocument(msgspec.Struct):
    error: dict[str, object]


class PriceList(msgspec.Struct):
    """The endpoints of one model.

    Attributes:
        endpoints: Those with a price; empty if the model is unknown or has none.
        raw: The upstream document, for `GET /models/{author}/{slug}/endpoints`.
        fetched_at_s: Monotonic time of the read.
        failed_at_s: Monotonic time of a later read that failed.
        is_expired: A bill or a 404 showed that the prices moved.
    """

    endpoints: Sequence[Endpoint]
    raw: bytes
    fetched_at_s: float
    failed_at_s: float = float("-inf")
    is_expired: bool = False


class StalePricesError(UpstreamError):
    """No price list younger than `STALE_S` can be had."""


class UnreachableError(StalePricesError):
    """No price list can be had, because upstream cannot be reached or does not answer."""


class BusyError(UpstreamError):
    """The list is not kept, and the last read for clients without a token was less than `ANYONE_S` ago."""


class Prices:
    """The price lists of all requested models. A list is read from upstream once, however many calls wait for it."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._lists: dict[str, PriceList] = {}
        self._models: tuple[bytes, float] | None = None
        self._model_ids: tuple[bytes, frozenset[str]] = (b"", frozenset())
        self._read_for_anyone_s = float("-inf")
        self._tasks = Tasks()
        self._reading: dict[str, asyncio.Task[PriceList | StalePricesError]] = {}
        self._reading_models: asyncio.Task[bytes | None] | None = None

    async def of(self, model: str) -> PriceList:
        """The price list of `model` (an id without a routing suffix).

        Raises:
            StalePricesError: None can be read, and what is kept is too old or absent; UnreachableError if upstream does not answer.
        """
        kept, now_s = self._lists.get(model), self._clock.monotonic_s()
        if kept is not None:
            age_s = now_s - kept.fetched_at_s
            if age_s < REFRESH_S and not kept.is_expired:
                return kept
            if age_s < STALE_S and now_s - kept.failed_at_s < RETRY_S:
                return kept
        elif not _is_model_name(model):
            return PriceList((), _NO_MODEL, now_s)
        reading = self._reading.get(model)
        if reading is None:
            reading = self._reading[model] = self._tasks.spawn(self._read(model), "prices")
        prices = await asyncio.shield(reading)  # a caller that is cancelled must not cancel the read for the others
        if isinstance(prices, StalePricesError):
            raise prices
        return prices

    async def _read(self, model: str) -> PriceList | StalePricesError:
        """Read one list. If that fails, return the kept list, or the error if the kept list is too old."""
        try:
            fetched = await self._fetch(model)
            self._keep(model, fetched)
            return fetched
        except UpstreamError as exc:
            now_s = self._clock.monotonic_s()
            kept = self._lists.get(model)
            if kept is None or now_s - kept.fetched_at_s >= STALE_S:
                _log.error("prices.unread", model=model, why=str(exc))
                kind = UnreachableError if isinstance(exc, NoAnswerError) else StalePricesError
                return kind(f"The price list of {model!r} cannot be read.")
            kept.failed_at_s = now_s
            _log.warning("prices.kept", model=model, why=str(exc))
            return kept
        finally:
            del self._reading[model]

    def expire(self, model: str) -> None:
        """Have the next call for `model` read its prices again: a bill or a 404 showed that they moved."""
        if (kept := self._lists.get(model)) is not None:
            kept.is_expired = True

    async def _fetch(self, model: str) -> PriceList:
        status, raw = await self._upstream.get(f"/models/{url_quote(model, safe='/:@~')}/endpoints")
        if status not in (200, 400, 404):
            raise UpstreamError(f"OpenRouter answered {status} for the price list.")
        endpoints: list[Endpoint] = []
        try:
            document = msgspec.json.decode(raw, type=_Document if status == 200 else _ErrorDocument)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise UpstreamError(f"The answer {status} for the price list is not one of OpenRouter's.") from exc
        if isinstance(document, _Document):
            data = document.data
            tokenizer = (data.architecture.tokenizer if data.architecture else None) or "Other"
            priced = (endpoint_from_json(model, tokenizer, listed) for listed in data.endpoints)
            endpoints = [endpoint for endpoint in priced if endpoint is not None]
        return PriceList(tuple(endpoints), raw, self._clock.monotonic_s())

    def _keep(self, model: str, fetched: PriceList) -> None:
        if model not in self._lists and len(self._lists) >= MODELS_MAX:
            unpriced = next((name for name, kept in self._lists.items() if not kept.endpoints), None)
            del self._lists[unpriced if unpriced is not None else next(iter(self._lists))]
        self._lists[model] = fetched

    async def models(self, *, for_anyone: bool = False) -> bytes:
        """The upstream model list, as it came; at most `REFRESH_S` old, or `STALE_S` while upstream does not answer.

        Args:
            for_anyone: For a client without a token, for whom upstream is read once in `ANYONE_S` at most.

        Raises:
            BusyError: A read for anyone is due, and the last one was less than `ANYONE_S` ago.
            StalePricesError: It cannot be read, and what is kept is too old or absent.
        """
        if self._models is not None and self._clock.monotonic_s() - self._models[1] < REFRESH_S:
            return self._models[0]
        if self._reading_models is None:
            if for_anyone:
                self._take_turn()
            self._reading_models = self._tasks.spawn(self._read_models(), "models")
        models = await asyncio.shield(self._reading_models)
        if models is None:
            raise StalePricesError("The model list cannot be read.")
        return models

    async def of_anyone(self, model: str) -> PriceList | None:
        """For a client without a token: the price list of a model that is kept or is in the model list; None for every other.

        No kept list is dropped for it.

        Raises:
            BusyError: A read is due, and the last one was less than `ANYONE_S` ago.
            StalePricesError: It cannot be read.
        """
        kept = self._lists.get(model)
        if kept is not None and self._clock.monotonic_s() - kept.fetched_at_s < STALE_S:
            return kept
        if model not in self._ids(await self.models(for_anyone=True)):
            return None
        if len(self._lists) < MODELS_MAX:
            if model not in self._reading:
                self._take_turn()
            return await self.of(model)
        self._take_turn()
        try:
            return await self._fetch(model)
        except UpstreamError as exc:
            raise StalePricesError(str(exc)) from exc

    def _take_turn(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._read_for_anyone_s < ANYONE_S:
            raise BusyError("Too many reads without a token; ask again in a second.")
        self._read_for_anyone_s = now_s

    def _ids(self, models: bytes) -> frozenset[str]:
        """The ids in a model list, decoded once for each list."""
        if self._model_ids[0] is not models:
            try:
                listed = msgspec.json.decode(models, type=_Models).data
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                listed = []
            self._model_ids = (models, frozenset(model.id for model in listed))
        return self._model_ids[1]

    async def _read_models(self) -> bytes | None:
        try:
            status, raw = await self._upstream.get("/models")
            if status != 200:
                raise UpstreamError(f"OpenRouter answered {status} for the model list.")
            self._models = (raw, self._clock.monotonic_s())
        except UpstreamError as exc:
            _log.warning("models.unread", why=str(exc))
            if self._models is None or self._clock.monotonic_s() - self._models[1] >= STALE_S:
                return None
        finally:
            self._reading_models = None
        return self._models[0]
