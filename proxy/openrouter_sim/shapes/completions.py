"""`/completions`, the legacy text API.

Source: openrouter.ai/docs/api_reference/overview, 2026.
"""

from __future__ import annotations

from collections.abc import Iterator

from openrouter_sim.base.errors import StreamError, bad_request
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import SimCall, SimRequest, SimShape
from openrouter_sim.calls.events import DONE, event, spread
from openrouter_sim.calls.fault import Frame
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.shapes.chat import error_event, with_usage
from openrouter_sim.shapes.prompt import SimPrompt, bound_of


class SimCompletions(SimShape):
    """Text completions."""

    api = "completions"

    def read(self, body: JsonObject, scenario: Scenario, tokenizer: str) -> SimRequest:
        """Return the request."""
        texts = body.get("prompt")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise bad_request("prompt: expected a string")
        prompt = SimPrompt(scenario)
        for text in texts:
            prompt.add(text)
        bound = bound_of(body, scenario, "max_tokens", "max_completion_tokens")
        return SimRequest(body, body.get("stream") is True, bound, prompt.segments, texts[-1], "user")

    def whole(self, call: SimCall) -> JsonObject:
        """Return the completion."""
        return with_usage(call, _body(call, call.reply.text, call.reply.finish))

    def frames(self, call: SimCall) -> Iterator[Frame]:
        """Yield the pieces, the finish, the usage and `[DONE]`."""
        total, pieces = call.tokens.completion, call.reply.pieces
        for piece, tokens in zip(pieces, spread(len(pieces), total), strict=True):
            yield Frame(self.delta(call, piece), tokens)
        last = _body(call, "", call.reply.finish)
        yield Frame(event(last), total)
        yield Frame(event(with_usage(call, last)), total, settles=True)
        yield Frame(DONE, total)

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return a chunk."""
        return event(_body(call, text, None))

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the last chunk."""
        return error_event(error, _body(call, "", "error"))


def _body(call: SimCall, text: str, finish: str | None) -> JsonObject:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "native_finish_reason": finish}
    return {
        "id": call.shown_id,
        "object": "text_completion",
        "created": int(call.created_s),
        "model": call.model_id,
        "provider": call.endpoint.provider,
        "choices": [choice],
    }
