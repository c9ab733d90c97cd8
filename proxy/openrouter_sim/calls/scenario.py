"""A scenario: the replies of the models and the faults of the calls, as values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
from aiohttp import web

from openrouter_sim.base.errors import ApiError
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.base.tokens import Tokenizer, require

if TYPE_CHECKING:
    from openrouter_sim.calls.call import Frame, SimCall
    from openrouter_sim.catalog.models import SimEndpoint

UsageChunk = Literal["choice", "empty", "merged"]
BoundChoice = Literal["smallest", "largest", "first", "last"]


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function call that the model makes; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reply for the requests that it matches. The first matching rule of a scenario applies.

    Attributes:
        model: The model id, without suffix; None for any.
        contains: Text in the last message that is not the assistant's; None for any.
        role: That message's role, `user` or `tool`; None for any.
        tokens: Completion tokens with reasoning; a pair is a range, drawn by the seed; None for those of the text.
        reasoning: How many of them are reasoning.
        text: The reply; None for filler of the right length.
        tool_calls: Functions that the model calls.
        finish: The finish reason, if no bound cuts the reply; None for `stop` or `tool_calls`.
        times: How often the rule applies; None for no limit.
    """

    model: str | None = None
    contains: str | None = None
    role: str | None = None
    tokens: int | tuple[int, int] | None = None
    reasoning: int = 0
    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish: str | None = None
    times: int | None = None


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault: hooks at the steps of a call. Each does nothing unless a fault overrides it."""

    is_early: ClassVar[bool] = False
    """Whether it acts before the request's body is read."""
    is_endless: ClassVar[bool] = False
    """Whether its frames may never end. They end when the client leaves."""

    @property
    def name(self) -> str:
        """Its name in a scenario: the name of its class in small letters, with underscores."""
        return fault_name(type(self))

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Return an answer given before the body is read."""
        return None

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return an error that is answered instead of the completion."""
        return None

    def offer(self, endpoints: tuple[SimEndpoint, ...]) -> tuple[SimEndpoint, ...]:
        """Return the endpoints that serve, listed or not."""
        return endpoints

    def arrange(self, call: SimCall) -> None:
        """Change the call, after it is priced and before it is answered."""

    def change_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Return the usage object to send; None to send none."""
        return usage

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """Change the answer's headers."""

    def whole(self, call: SimCall, body: JsonObject) -> JsonObject:
        """Return the body of an answer that is no stream."""
        return body

    def events(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Return the events of a stream to send."""
        return frames

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Return the frames to send: the events of a stream, or one frame with a whole body."""
        return self.events(call, frames) if call.request.stream else frames

    def end(self, request: web.Request) -> None:
        """Act after the last byte is written."""


def fault_name(kind: type[Fault]) -> str:
    """Return the name by which a scenario asks for a kind of fault."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


class FaultRule(msgspec.Struct, frozen=True):
    """A fault, and the requests that it applies to.

    Attributes:
        fault: What goes wrong.
        probability: Share of the matching requests, drawn by the seed.
        model: The model id; None for any. A fault that acts before the body is read cannot know it.
        api: `chat`, `responses`, `messages`, `completions` or `embeddings`; None for any of them. Faults that act before the
            body is read can also name `keys`, `credits`, `key`, `models` or `generation`, with a method (`DELETE keys`)
            or without.
        stream: Only streams, or only the others; None for both.
        contains: Text in the last message; None for any.
        after: How many matching requests are served without the fault first.
        times: How often it applies; None for no limit.
    """

    fault: Fault
    probability: float = 1.0
    model: str | None = None
    api: str | None = None
    stream: bool | None = None
    contains: str | None = None
    after: int = 0
    times: int | None = None


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the simulator behaves.

    Attributes:
        replies: Rules for replies; without a match, about 50 tokens of filler.
        faults: Rules for faults; each is drawn on its own.
        tokens_per_s: Pace of generation; None for as fast as possible.
        first_token_s: Wait before the first token.
        tokens_per_chunk: Tokens in one stream event.
        comments: `: OPENROUTER PROCESSING` lines ahead of a stream.
        generation_delay_s: How long `/generation` answers 404.
        key_usage_lag_s: How long a settled cost stays unseen by `/key`, `/keys`, `/credits` and the limit checks.
        usage_chunk: Chat's usage event: with a choice, with none, or on the event that has the finish reason.
        crlf: Stream lines end in CRLF.
        bound_choice: Which output bound counts where a request sets several. `smallest` reads the API's documented fields
            alone; the others read every spelling in every API, take null for no bound, and `largest` counts the budget of
            reasoning too. What OpenRouter does is not documented.
        messages_cost: `message_delta.usage` has the cost.
        messages_input_whole: `input_tokens` of `/messages` includes those read from a cache and written to one.
        responses_events: Streams of `/responses` have `event:` lines.
        tokenizer: How many tokens a prompt has: see `Tokenizer`.
        tools_indent: Tools are counted re-serialised with indent 4.
        caching: Prompts are cached.
        directives: `[[sim …]]` in the last message steers the reply.
    """

    replies: tuple[Rule, ...] = ()
    faults: tuple[FaultRule, ...] = ()
    tokens_per_s: float | None = None
    first_token_s: float = 0.0
    tokens_per_chunk: int = 8
    comments: int = 1
    generation_delay_s: float = 0.0
    key_usage_lag_s: float = 0.0
    usage_chunk: UsageChunk = "choice"
    crlf: bool = False
    bound_choice: BoundChoice = "smallest"
    messages_cost: bool = True
    messages_input_whole: bool = False
    responses_events: bool = True
    tokenizer: Tokenizer = Tokenizer.USUAL
    tools_indent: bool = False
    caching: bool = True
    directives: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError if the tokenizer needs a package that is not installed."""
        require(self.tokenizer)
