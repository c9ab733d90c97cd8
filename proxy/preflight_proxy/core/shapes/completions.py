"""The shape of `/completions`: text in, text out.

Source: openrouter.ai/docs/api_reference/overview, 2026-10.
"""

from __future__ import annotations

from preflight_proxy.core.shapes.answers import ChoicesShape, cut_chunk
from preflight_proxy.core.shapes.body import TOKEN_IDS_MAX, BadRequest, Json, Number, check_count
from preflight_proxy.core.shapes.fields import absent
from preflight_proxy.core.shapes.parsed_request import COMMON_FIELDS, ParsedRequest
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import Reading

FIELDS = (COMMON_FIELDS - {"tools", "tool_choice"}) | frozenset(
    {
        "prompt",
        "suffix",
        "max_tokens",
        "stop",
        "seed",
        "logprobs",
        "logit_bias",
        "frequency_penalty",
        "presence_penalty",
    }
    | {"repetition_penalty", "min_p", "top_a", "stream_options", "usage", "n", "best_of", "echo", "reasoning"}
)
TEXTS_MAX = 10_000
"""Texts in one call; providers take about two thousand."""
RULES = {"tools": absent("tools have no place in this API"), "functions": absent("tools have no place in this API")}


class Completions(ChoicesShape):
    """OpenAI's text completions as OpenRouter serves them."""

    name = "completions"
    path = "/completions"
    bound_fields = ("max_tokens",)
    fields = FIELDS
    prompt_field = "prompt"
    rules = RULES
    values_max = TOKEN_IDS_MAX

    def system(self, parsed: ParsedRequest, text: PromptText) -> None:
        """See `Shape.system`."""
        text.plain(parsed.decoded("suffix"))

    def texts(self, prompt: Json, text: PromptText) -> int:
        """See `Shape.texts`."""
        if count_texts(prompt, text) != 1:
            raise BadRequest("Send one prompt a call: each is answered, and the output bound holds for one.")
        return 1

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`."""
        return cut_chunk(head, "text_completion", {"text": ""}, message, error_type)


def count_texts(texts: Json, text: PromptText) -> int:
    """Count one text or several, each a string or an array of tokens, and return how many there are."""
    match texts:
        case list() if texts and all(isinstance(item, Number) for item in texts):
            text.wrap_count += 1
            text.ascii_bytes += len(texts)  # each is one token
            return 1
        case list():
            check_count(len(texts), TEXTS_MAX)
            return sum(count_texts(item, text) for item in texts)
        case Number():
            raise BadRequest("Texts and tokens may not be mixed in one array.")
        case str() | dict():
            text.part(texts)
            return 1
    raise BadRequest("A prompt must be a text, or an array of tokens.")
