"""One inference call: its request, its plan, and its charge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from openrouter_sim.base.errors import ApiError, StreamError, envelope
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.billing.account import SimAccount, SimKey
from openrouter_sim.billing.bill import SimGeneration
from openrouter_sim.billing.prices import ZERO, SimPrice, SimTokens
from openrouter_sim.calls.fault import Fault, Frame
from openrouter_sim.calls.prompt_cache import Segment
from openrouter_sim.calls.reply import SimReply
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.catalog.models import SimEndpoint, SimModel


@dataclass(frozen=True, slots=True)
class SimRequest:
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


class SimShape(Protocol):
    """One API: how its requests are read, and how its answers, usage and errors are written."""

    api: str

    def read(self, body: JsonObject, scenario: Scenario, tokenizer: str) -> SimRequest:
        """Return the request. Raises: ApiError 400."""
        ...

    def whole(self, call: SimCall) -> JsonObject:
        """Return the body of an answer that is no stream."""
        ...

    def frames(self, call: SimCall) -> Iterator[Frame]:
        """Return the events of a stream, one a frame. The frame with the usage settles the call."""
        ...

    def error(self, error: ApiError, generation_id: str | None) -> JsonObject:
        """Return an error's body: OpenRouter's envelope, unless the API has another."""
        return envelope(error)

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return the event that adds text."""
        ...

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the event that ends a stream with an error."""
        ...


@dataclass(slots=True)
class SimCall:
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
    model_id: str
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
    extra: JsonObject = field(default_factory=dict)
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

    def usage(self, usage: JsonObject) -> JsonObject | None:
        """Return the usage object as the faults change it; None if none is sent."""
        shown: JsonObject | None = usage
        for fault in self.faults:
            if shown is not None:
                shown = fault.tell_usage(self, shown)
        return shown

    def cost_details(self, prompt: str, completion: str) -> JsonObject:
        """Return `cost_details`; the two names are the API's."""
        return {
            "upstream_inference_cost": self.upstream_usd,
            prompt: self.price.prompt_cost(self.tokens),
            completion: self.price.completion_cost(self.tokens),
        }

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
