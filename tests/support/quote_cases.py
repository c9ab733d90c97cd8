"""Endpoints with real prices and requests read by the real shapes, for tests of the quote."""

import json

from preflight_proxy.core.pricing.endpoint import Endpoint, endpoint_from_json
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import Request, UnknownFields

CHAT = SHAPES["/chat/completions"]
RESPONSES = SHAPES["/responses"]
MESSAGES = SHAPES["/messages"]
COMPLETIONS = SHAPES["/completions"]
EMBEDDINGS = SHAPES["/embeddings"]

USD = 10**12

USER_BYTES, ASSISTANT_BYTES = (len("role" + role + "content") for role in ("user", "assistant"))
"""What a message counts besides its text: the names of its fields and its role."""

SONNET: dict[str, object] = {
    "tag": "anthropic",
    "provider_name": "Anthropic",
    "context_length": 1_000_000,
    "max_completion_tokens": 64_000,
    "max_prompt_tokens": None,
    "supported_parameters": ["max_tokens", "tools"],
    "pricing": {
        "prompt": "0.000003",
        "completion": "0.000015",
        "input_cache_read": "0.0000003",
        "input_cache_write": "0.00000375",
        "input_cache_write_1h": "0.000006",
        "web_search": "0.01",
        "discount": 0,
    },
}


def endpoint(model: str = "anthropic/claude-sonnet-4.5", tokenizer: str = "Claude", /, **changes: object) -> Endpoint:
    """Return a priced endpoint. `changes` replace fields of the listed one, `pricing` is merged."""
    pricing = changes.pop("pricing", {})
    assert isinstance(pricing, dict)
    listed = SONNET["pricing"]
    assert isinstance(listed, dict)
    found = endpoint_from_json(model, tokenizer, {**SONNET, **changes, "pricing": {**listed, **pricing}})
    assert found is not None
    return found


def read(shape: Shape, body: object, unknown: UnknownFields = "drop") -> Request:
    """Return a request as its shape reads it. `body` is bytes, or a value to write as JSON."""
    return shape.read(body if isinstance(body, bytes) else json.dumps(body).encode(), unknown)


def chat(content: object = "hi", **fields: object) -> Request:
    """Return a chat request with one message."""
    body = {"model": "anthropic/claude-sonnet-4.5", "messages": [{"role": "user", "content": content}], **fields}
    return read(CHAT, body)
