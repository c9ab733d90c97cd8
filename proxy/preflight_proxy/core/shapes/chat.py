"""The shape of `/chat/completions`.

Source: openrouter.ai/docs/api_reference/overview and /streaming, 2026-10.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight_proxy.core.shapes.answers import ChoicesShape, cut_chunk
from preflight_proxy.core.shapes.parsed_request import COMMON_FIELDS
from preflight_proxy.core.shapes.shape import Reading
from preflight_proxy.core.shapes.tools import Api

FIELDS = COMMON_FIELDS | frozenset(
    [
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "min_p",
        "top_a",
        "seed",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "response_format",
        "structured_outputs",
        "reasoning",
        "reasoning_effort",
        "include_reasoning",
        "verbosity",
        "stream_options",
        "usage",
        "store",
        "n",
        "modalities",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "debug",
    ]
)
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
"""The last one is that of OpenAI's older function calls."""
FORMAT_FIELDS = ("response_format", "tool_choice", "function_call")
"""Objects beside the tools that a template writes into the prompt."""
TOOLS: Mapping[str, Api] = {"tools": "chat", "functions": "chat"}


class Chat(ChoicesShape):
    """OpenAI's chat completions as OpenRouter serves them."""

    name = "chat"
    path = "/chat/completions"
    bound_fields = ("max_completion_tokens", "max_tokens")
    fields = FIELDS
    prompt_field = "messages"
    roles = ROLES
    formats = FORMAT_FIELDS
    tools = TOOLS

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`."""
        return cut_chunk(
            head, "chat.completion.chunk", {"delta": {"role": "assistant", "content": ""}}, message, error_type
        )
