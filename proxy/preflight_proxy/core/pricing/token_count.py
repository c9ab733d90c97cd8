"""How many tokens a request of messages has in the usual case, for a client that asks before it sends. It is no bound."""

from __future__ import annotations

from preflight_proxy.core.pricing.text_sizes import text_sizes
from preflight_proxy.core.pricing.token_estimate import likely_family
from preflight_proxy.core.shapes.model_name import split_model
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import Request
from preflight_proxy.core.shapes.steps import Steps

CLAUDE_TOOL_USE_TOKENS = 346
"""The prompt that Anthropic adds to a request with tools. Source: docs.anthropic.com, tool use, pricing, 2026-10."""
IMAGE_TOKENS = 1600
"""An image of Anthropic's usual size, 1.15 megapixels. Source: docs.anthropic.com/en/docs/build-with-claude/vision, 2026-10."""


def token_count(shape: Shape, request: Request) -> Steps[int]:
    """Estimate the prompt tokens of a request: T of its text, without a margin, and what is usual for tools and images.

    The names of fields and roles are part of that text, and stand for what a template writes around each message.

    Args:
        shape: Its API.
        request: As read; its body must still be there.

    Raises:
        BadRequest: A text cannot be read.
    """
    family = likely_family(split_model(request.model)[0])
    sizes = yield from text_sizes(shape, request, family)
    tokens = -(-sizes.after(None) // 1000) + IMAGE_TOKENS * request.prompt.image_count
    has_tool_prompt = request.prompt.tool_count > 0 and family.startswith("claude")
    return tokens + CLAUDE_TOOL_USE_TOKENS if has_tool_prompt else tokens
