"""The shape of `/chat/completions`.

Source: openrouter.ai/docs/api_reference/overview and /streaming, 2026-10.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight_proxy.core.shapes import body as bodies
from preflight_proxy.core.shapes.answers import ChoicesShape, cut_chunk
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.parsed_request import COMMON_FIELDS, ParsedRequest, build_request, parse_request
from preflight_proxy.core.shapes.prompt import build_prompt
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import Reading, Request, UnknownFields
from preflight_proxy.core.shapes.tools import Tools, read_tools

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


class Chat(ChoicesShape):
    """OpenAI's chat completions as OpenRouter serves them."""

    name = "chat"
    path = "/chat/completions"
    event_part = "delta"
    bound_fields = ("max_completion_tokens", "max_tokens")

    def read(self, body: bytes, headers: Mapping[str, str], unknown_fields: UnknownFields) -> Request:
        """See `Shape.read`."""
        parsed = parse_request(body, headers, unknown_fields, known=FIELDS)
        if "messages" not in parsed.raw:
            raise BadRequest("The field 'messages' is missing.")
        text = PromptText()
        messages = tuple(text.message(raw, ROLES) for raw in bodies.elements(parsed.raw["messages"]))
        tools = _all_tools(parsed, text)
        prompt = build_prompt(parsed, text, messages=messages, tools=tools, formats=FORMAT_FIELDS)
        return build_request(parsed, self, prompt)

    def cut(self, head: Reading, sequence_number: int, message: str, error_type: str = "payment_required") -> bytes:
        """See `Shape.cut`."""
        return cut_chunk(
            head, "chat.completion.chunk", {"delta": {"role": "assistant", "content": ""}}, message, error_type
        )


def _all_tools(parsed: ParsedRequest, text: PromptText) -> Tools:
    tools, functions = (read_tools(parsed.raw.get(name), text, "chat") for name in ("tools", "functions"))
    return Tools(tools.size_bytes + functions.size_bytes, tools.count + functions.count)
