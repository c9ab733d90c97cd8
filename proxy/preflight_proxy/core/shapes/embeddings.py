"""The shape of `/embeddings`: prompts without an answer, so nothing but the input is priced.

Source: openrouter.ai/docs/api_reference/embeddings, 2026-10.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight_proxy.core.shapes.answers import ChoicesShape
from preflight_proxy.core.shapes.body import TOKEN_IDS_MAX, BadRequest, Json
from preflight_proxy.core.shapes.completions import RULES, count_texts
from preflight_proxy.core.shapes.error_body import STATUS_BY_ERROR_TYPE, envelope_body
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.reading import Form, read_steps, unread_digest
from preflight_proxy.core.shapes.shape import Reading, Request, UnknownFields
from preflight_proxy.core.shapes.steps import Steps, run_steps

FIELDS = frozenset(
    {"model", "input", "dimensions", "encoding_format", "input_type", "provider", "user", "session_id", "trace"}
)


def _some_texts(prompts: Json, text: PromptText) -> int:
    if (count := count_texts(prompts, text)) == 0:
        raise BadRequest("The field 'input' has nothing to embed.")
    return count


FORM = Form(fields=FIELDS, prompt_field="input", rules=RULES, texts=_some_texts, values_max=TOKEN_IDS_MAX)


class Embeddings(ChoicesShape):
    """OpenAI's embeddings as OpenRouter serves them."""

    name = "embeddings"
    path = "/embeddings"
    bound_fields: tuple[str, ...] = ()

    def read_steps(self, body: bytes, headers: Mapping[str, str], unknown_fields: UnknownFields) -> Steps[Request]:
        """See `Shape.read_steps`."""
        return read_steps(self, FORM, body, headers, unknown_fields)

    def read(self, body: bytes, headers: Mapping[str, str], unknown_fields: UnknownFields) -> Request:
        """See `Shape.read`."""
        return run_steps(self.read_steps(body, headers, unknown_fields))

    def unread_digest(self, body: bytes) -> str:
        """See `Shape.unread_digest`."""
        return unread_digest(FORM, body)

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`: an error body, in place of the one that broke off."""
        return envelope_body(STATUS_BY_ERROR_TYPE.get(error_type, 500), message, error_type)
