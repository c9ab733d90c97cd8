"""One inference call: its request, its plan, its charge, and the pieces of its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import Enum
from typing import ClassVar

import msgspec

from openrouter_sim.base.errors import ApiError, StreamError, envelope
from openrouter_sim.base.jsonio import JsonObject, encode
from openrouter_sim.billing.account import SimAccount, SimGeneration, SimKey
from openrouter_sim.billing.prices import ZERO, SimPrice, SimTokens
from openrouter_sim.calls.prompt_cache import Segment
from openrouter_sim.calls.reply import SimReply
from openrouter_sim.calls.scenario import Fault, Scenario
from openrouter_sim.catalog.models import SimEndpoint, SimModel

DONE = b"data: [DONE]\n\n"
COMMENT = b": OPENROUTER PROCESSING\n\n"


class Cut(Enum):
    """How a connection ends too early."""

    CLOSE = "close"
    """FIN without the end of the chunked body."""
    ABORT = "abort"
    """RST."""
    END = "end"
    """The chunked body ends properly, the events do not."""


class Frame(msgspec.Struct, frozen=True):
    """Bytes of an answer.

    Attributes:
        data: What is written.
        tokens: Completion tokens generated when it is written.
        settles: The provider has finished; the call is charged before this is written.
        wait_s: Pause before it.
        cut: The connection ends after it.
    """

    data: bytes
    tokens: int = 0
    settles: bool = False
    wait_s: float = 0.0
    cut: Cut | None = None


def event(data: JsonObject, name: str | None = None) -> bytes:
    """Return one server-sent event, with an `event:` line if it has a name."""
    head = b"" if name is None else f"event: {name}\n".encode()
    return head + b"data: " + encode(data) + b"\n\n"


class SimRequest(msgspec.Struct, frozen=True):
    """The parts of a request that all APIs have.

    Attributes:
        body: The whole request.
        stream: Whether events are wanted.
        bound: The output bound; None for none.
        segments: The prompt, in the order in which the model reads it.
        last_text: The text of the last message that is not the assistant's.
        last_role: That message's role: `user` or `tool`.
    """

    body: JsonObject
    stream: bool
    bound: int | None
    segments: Sequence[Segment]
    last_text: str
    last_role: str


class SimShape(ABC):
    """One API: how its requests are read, and how its answers, usage and errors are written.

    `stream`, `delta` and `stream_error` are needed of an API that has streams.
    """

    api: ClassVar[str]

    @abstractmethod
    def read(self, body: JsonObject, scenario: Scenario, family: str) -> SimRequest:
        """Return the request, its texts counted for a model of this family. Raises: ApiError 400."""

    @abstractmethod
    def whole(self, call: SimCall) -> JsonObject:
        """Return the body of an answer that is no stream."""

    def error(self, error: ApiError, generation_id: str | None) -> JsonObject:
        """Return an error's body: OpenRouter's envelope, unless the API has another."""
        return envelope(error)

    def stream(self, call: SimCall) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return the events of a stream: before the first token, one for each delta, and after the last token.

        The last but one event has the usage.
        """
        raise NotImplementedError

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return the event that adds text."""
        raise NotImplementedError

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the event that ends a stream with an error."""
        raise NotImplementedError

    def frames(self, call: SimCall) -> Iterator[Frame]:
        """Yield the events of a stream, one a frame. The frame with the usage settles the call."""
        first, deltas, last = self.stream(call)
        total = call.tokens.completion
        for data in first:
            yield Frame(data)
        for count, data in enumerate(deltas, 1):
            yield Frame(data, total * count // len(deltas))
        for data in last:
            yield Frame(data, total, settles=data is last[-2])


class SimCall(msgspec.Struct):
    """A call that was admitted, routed and priced. Faults may change each field before the answer.

    Attributes:
        service_tier: The tier that served the call; None for the default.
        side_usd: Cost of web searches.
        cost_usd: The charge, if it is not tokens x price.
        usage_cost: The cost in the usage object, if it is not the charge.
        reported_factor: `/generation` states the charge times this.
        shows_id: The generation id is in the header and the body.
        resolves: `/generation` finds the id.
        lag_s: How much later the usage counters show the charge.
        late_s: How much later the call is charged.
        charges_errors: A call that ends in an error is charged for its tokens.
    """

    shape: SimShape
    scenario: Scenario
    request: SimRequest
    key: SimKey
    id: str
    created_s: float
    model: SimModel
    endpoint: SimEndpoint
    price: SimPrice
    tokens: SimTokens
    reply: SimReply
    authorization: str = ""
    faults: tuple[Fault, ...] = ()
    service_tier: str | None = None
    side_usd: Decimal = ZERO
    cost_usd: Decimal | None = None
    usage_cost: Decimal | float | None = None
    upstream_usd: Decimal | None = None
    is_byok: bool = False
    outcome: str = "finished"
    reported_factor: Decimal = Decimal(1)
    shows_id: bool = True
    resolves: bool = True
    lag_s: float = 0.0
    late_s: float = 0.0
    charges_errors: bool = False
    extra: JsonObject = msgspec.field(default_factory=dict)
    generation: SimGeneration | None = None

    @property
    def cost(self) -> Decimal:
        """USD charged for the call if it finishes."""
        return self.price.cost(self.tokens) + self.side_usd if self.cost_usd is None else self.cost_usd

    @property
    def stated_cost(self) -> Decimal | float:
        """The cost that the answer states."""
        return self.cost if self.usage_cost is None else self.usage_cost

    @property
    def shown_id(self) -> str:
        """The id in the body; a made-up one if the generation id is hidden."""
        return self.id if self.shows_id else "chatcmpl-hidden"

    def with_usage(self, body: JsonObject, usage: JsonObject) -> JsonObject:
        """Return the body with its usage object as the faults change it, or without one if none is sent."""
        shown: JsonObject | None = usage
        for fault in self.faults:
            if shown is not None:
                shown = fault.change_usage(self, shown)
        return body if shown is None else {**body, "usage": shown}

    def cost_fields(self, *names: str) -> JsonObject:
        """Return the fields of a usage object that state the cost; prompt's and completion's share have the API's names."""
        shares = (self.price.prompt_cost(self.tokens), self.price.completion_cost(self.tokens))
        details = {"upstream_inference_cost": self.upstream_usd, **dict(zip(names, shares, strict=False))}
        return {"cost": self.stated_cost, "is_byok": self.is_byok, "cost_details": details}

    def settle(self, account: SimAccount, completion: int, outcome: str) -> None:
        """Charge the call once: in full, or for the tokens generated before it was cut."""
        if self.generation is not None:
            return
        finished = completion >= self.tokens.completion
        tokens = self.tokens if finished else self.tokens.stopped_at(completion)
        cost = self._charge(tokens, outcome, finished)
        now = account.now()
        self.generation = SimGeneration(
            id=self.id,
            key_hash=self.key.hash,
            model=self.model.id,
            provider=self.endpoint.provider,
            tag=self.endpoint.tag,
            api=self.shape.api,
            streamed=self.request.stream,
            tokens=tokens,
            cost_usd=cost,
            reported_usd=cost * self.reported_factor,
            upstream_usd=self.upstream_usd,
            cache_discount_usd=self._discount(tokens),
            finish_reason="error" if outcome == "error" else self.reply.finish,
            outcome=outcome,
            created_s=self.created_s,
            visible_s=now + self.late_s + self.scenario.generation_delay_s if self.resolves else None,
            faults=tuple(fault.name for fault in self.faults),
        )
        account.post(self.generation, lag_s=self.lag_s, late_s=self.late_s)

    def _charge(self, tokens: SimTokens, outcome: str, finished: bool) -> Decimal:
        # Zero-completion insurance: a completion that ends in an error costs no tokens.
        # Source: openrouter.ai/docs/guides/features/zero-completion-insurance, 2026.
        if outcome == "error" and not self.charges_errors:
            return ZERO
        if self.cost_usd is not None:
            return self.cost_usd
        return self.price.cost(tokens) + self.side_usd

    def _discount(self, tokens: SimTokens) -> Decimal:
        full = SimTokens(tokens.prompt, completion=tokens.completion, reasoning=tokens.reasoning)
        return self.price.prompt_cost(full) - self.price.prompt_cost(tokens)
