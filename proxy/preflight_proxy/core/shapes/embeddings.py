"""The shape of `/embeddings`: prompts without an answer, so nothing but the input is priced.

Source: openrouter.ai/docs/api_reference/embeddings, 2026-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from preflight_proxy.core.shapes.body import TOKENS_MAX, BadRequest
from preflight_proxy.core.shapes.chunks import read_chunk
from preflight_proxy.core.shapes.completions import RULES, count_texts
from preflight_proxy.core.shapes.error_body import STATUS_BY_ERROR_TYPE, envelope_body
from preflight_proxy.core.shapes.parsed_request import build_request, parse_request, write
from preflight_proxy.core.shapes.prompt import build_prompt
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import Reading, Request, UnknownFields
from preflight_proxy.core.sse import Event

FIELDS = frozenset(
    {"model", "input", "dimensions", "encoding_format", "input_type", "provider", "user", "session_id", "trace"}
)


class Embeddings:
    """OpenAI's embeddings as OpenRouter serves them."""

    name = "embeddings"
    path = "/embeddings"
    bound_fields: tuple[str, ...] = ()

    def read(self, body: bytes, headers: Mapping[str, str], unknown_fields: UnknownFields) -> Request:
        """See `Shape.read`."""
        opened = parse_request(body, headers, unknown_fields, known=FIELDS, rules=RULES, values_max=TOKENS_MAX)
        text = PromptText()
        count = count_texts(opened.decoded("input"), text)
        if count == 0:
            raise BadRequest("The field 'input' has nothing to embed.")
        return build_request(opened, self.name, build_prompt(opened, text, sequence_count=count), self.bound_fields)

    def emit(
        self, request: Request, *, bound: int | None, only: Sequence[str], max_price: Mapping[str, Decimal]
    ) -> bytes:
        """See `Shape.emit`. There is no output to bound."""
        return write(request, {}, only, max_price)

    def read_body(self, body: bytes) -> Reading:
        """See `Shape.read_body`."""
        return read_chunk(body.strip(), "message", whole=True)

    def read_event(self, event: Event) -> Reading:
        """See `Shape.read_event`. Embeddings are not streamed; what comes is read as a body's part."""
        return read_chunk(event.data, "message")

    def refusal(self, status: int, message: str, error_type: str) -> bytes:
        """See `Shape.refusal`."""
        return envelope_body(status, message, error_type)

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`: an error body, in place of the one that broke off."""
        return envelope_body(STATUS_BY_ERROR_TYPE.get(error_type, 500), message, error_type)
