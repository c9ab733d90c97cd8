"""The shape of `/embeddings`: prompts without an answer, so nothing but the input is priced.

Source: openrouter.ai/docs/api_reference/embeddings, 2026-10.
"""

from __future__ import annotations

from preflight_proxy.core.shapes.answers import ChoicesShape
from preflight_proxy.core.shapes.body import TOKEN_IDS_MAX, BadRequest, Json
from preflight_proxy.core.shapes.completions import RULES, count_texts
from preflight_proxy.core.shapes.error_body import STATUS_BY_ERROR_TYPE, envelope_body
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import Reading

FIELDS = frozenset(
    {"model", "input", "dimensions", "encoding_format", "input_type", "provider", "user", "session_id", "trace"}
)


class Embeddings(ChoicesShape):
    """OpenAI's embeddings as OpenRouter serves them."""

    name = "embeddings"
    path = "/embeddings"
    bound_fields = ()
    fields = FIELDS
    prompt_field = "input"
    rules = RULES
    values_max = TOKEN_IDS_MAX

    def texts(self, prompt: Json, text: PromptText) -> int:
        """See `Shape.texts`."""
        if (count := count_texts(prompt, text)) == 0:
            raise BadRequest("The field 'input' has nothing to embed.")
        return count

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`: an error body, in place of the one that broke off."""
        return envelope_body(STATUS_BY_ERROR_TYPE.get(error_type, 500), message, error_type)
