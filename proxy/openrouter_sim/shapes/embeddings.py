"""`/embeddings`.

Source: openrouter.ai/docs/api_reference/embeddings, 2026.
"""

from __future__ import annotations

import base64
import struct

from openrouter_sim.base.errors import bad_request
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import SimCall, SimRequest, SimShape
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.shapes.prompt import SimPrompt, positive

DEFAULT_DIMENSIONS = 8


class SimEmbeddings(SimShape):
    """Embeddings. There are no completion tokens and no streams."""

    api = "embeddings"

    def read(self, body: JsonObject, scenario: Scenario, family: str) -> SimRequest:
        """Return the request."""
        texts = _inputs(body)
        positive(body, "dimensions")
        prompt = SimPrompt(scenario, family)
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
        body = {"id": call.shown_id, "object": "list", "model": call.model.id, "data": rows}
        tokens = call.tokens.prompt
        return call.with_usage(body, {"prompt_tokens": tokens, "total_tokens": tokens, **call.cost_fields()})


def _inputs(body: JsonObject) -> list[str]:
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts:
        raise bad_request("input: expected a string or a list")
    return [text if isinstance(text, str) else str(text) for text in texts]
