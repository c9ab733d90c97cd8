"""`/embeddings`.

Source: openrouter.ai/docs/api_reference/embeddings, 2026.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

from openrouter_sim.base.errors import ApiError, StreamError, bad_request, envelope
from openrouter_sim.base.jsonio import JsonObject, encode
from openrouter_sim.calls.call import SimCall, SimRequest
from openrouter_sim.calls.fault import Frame
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.shapes.prompt import SimPrompt, positive

DEFAULT_DIMENSIONS = 8


class SimEmbeddings:
    """Text in, a vector out; there are no completion tokens and no streams."""

    api = "embeddings"

    def read(self, body: JsonObject, scenario: Scenario, tokenizer: str) -> SimRequest:
        """Return the request, read."""
        texts = _inputs(body)
        positive(body, "dimensions")
        prompt = SimPrompt(scenario)
        for text in texts:
            prompt.add(text)
        return SimRequest(body, False, 0, prompt.segments, texts[-1], "user")

    def whole(self, call: SimCall) -> JsonObject:
        """Return one vector for each input."""
        count = call.ask.body.get("dimensions") or DEFAULT_DIMENSIONS
        vector: object = [0.5 / (1 + i) for i in range(count)]
        if call.ask.body.get("encoding_format") == "base64":
            packed = struct.pack(f"<{count}f", *(0.5 / (1 + i) for i in range(count)))
            vector = base64.b64encode(packed).decode()
        rows = [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(_inputs(call.ask.body)))]
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
        """Yield the body: a request for a stream is answered whole."""
        yield Frame(encode(self.whole(call)), settles=True)

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return nothing."""
        return b""

    def error(self, error: ApiError, generation_id: str | None) -> JsonObject:
        """Return the envelope."""
        return envelope(error)

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the error as a body."""
        return encode({"error": {"code": error.code, "message": error.message}})


EMBEDDINGS = SimEmbeddings()


def _inputs(body: JsonObject) -> list[str]:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise bad_request("input: expected a string or a list")
    return [text if isinstance(text, str) else str(text) for text in texts]
