"""`/embeddings`.

Source: openrouter.ai/docs/api_reference/embeddings, 2026.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

from openrouter_sim.base.errors import StreamError, bad_request
from openrouter_sim.base.jsonio import JsonObject, encode
from openrouter_sim.calls.call import SimCall, SimRequest, SimShape
from openrouter_sim.calls.fault import Frame
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.shapes.prompt import SimPrompt, positive

DEFAULT_DIMENSIONS = 8


class SimEmbeddings(SimShape):
    """Embeddings. There are no completion tokens and no streams."""

    api = "embeddings"

    def read(self, body: JsonObject, scenario: Scenario, tokenizer: str) -> SimRequest:
        """Return the request."""
        texts = _inputs(body)
        positive(body, "dimensions")
        prompt = SimPrompt(scenario)
        for text in texts:
            prompt.add(text)
        return SimRequest(body, False, 0, prompt.segments, texts[-1], "user")

    def whole(self, call: SimCall) -> JsonObject:
        """Return one vector for each input."""
        count = call.request.body.get("dimensions") or DEFAULT_DIMENSIONS
        vector: object = [0.5 / (1 + i) for i in range(count)]
        if call.request.body.get("encoding_format") == "base64":
            packed = struct.pack(f"<{count}f", *(0.5 / (1 + i) for i in range(count)))
            vector = base64.b64encode(packed).decode()
        rows = [
            {"object": "embedding", "index": i, "embedding": vector} for i in range(len(_inputs(call.request.body)))
        ]
        body = {"id": call.shown_id, "object": "list", "model": call.model_id, "data": rows}
        usage = call.usage(
            {
                "prompt_tokens": call.tokens.prompt,
                "total_tokens": call.tokens.prompt,
                "cost": call.stated_cost,
                "is_byok": call.is_byok,
                "cost_details": {"upstream_inference_cost": call.upstream_usd},
            }
        )
        return body if usage is None else {**body, "usage": usage}

    def frames(self, call: SimCall) -> Iterator[Frame]:
        """Yield the whole body, also if a stream was requested."""
        yield Frame(encode(self.whole(call)), settles=True)

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return nothing."""
        return b""

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the error as a body."""
        return encode({"error": {"code": error.code, "message": error.message}})


def _inputs(body: JsonObject) -> list[str]:
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts:
        raise bad_request("input: expected a string or a list")
    return [text if isinstance(text, str) else str(text) for text in texts]
