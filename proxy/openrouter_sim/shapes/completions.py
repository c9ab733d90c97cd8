"""`/completions`, the legacy text API.

Source: openrouter.ai/docs/api_reference/overview, 2026.
"""

from __future__ import annotations

from collections.abc import Iterator

from openrouter_sim.base.errors import ApiError, StreamError, bad_request, envelope
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import SimCall, SimRequest
from openrouter_sim.calls.events import DONE, event, spread
from openrouter_sim.calls.fault import Frame
from openrouter_sim.calls.scenario import Scenario
from openrouter_sim.shapes.chat import usage_of
from openrouter_sim.shapes.prompt import SimPrompt, bound_of


class SimCompletions:
    """Text in, text out."""

    api = "completions"

    def read(self, body: JsonObject, scenario: Scenario, tokenizer: str) -> SimRequest:
        """Return the request, read."""
        prompt = body.get("prompt")
        texts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise bad_request("prompt: expected a string")
        gathered = SimPrompt(scenario)
        for text in texts:
            gathered.add(text)
        bound = bound_of(body, scenario, "max_tokens", "max_completion_tokens")
        return SimRequest(body, body.get("stream") is True, bound, gathered.segments, texts[-1], "user")

    def whole(self, call: SimCall) -> JsonObject:
        """Return the completion."""
        return _with_usage(call, _body(call, call.reply.text, call.reply.finish))

    def frames(self, call: SimCall) -> Iterator[Frame]:
        """Yield the pieces, the finish, the usage and `[DONE]`."""
        total, pieces = call.tokens.completion, call.reply.pieces
        for piece, tokens in zip(pieces, spread(len(pieces), total), strict=True):
            yield Frame(self.delta(call, piece), tokens)
        last = _body(call, "", call.reply.finish)
        yield Frame(event(last), total)
        yield Frame(event(_with_usage(call, last)), total, settles=True)
        yield Frame(DONE, total)

    def delta(self, call: SimCall, text: str) -> bytes:
        """Return a chunk."""
        return event(_body(call, text, None))

    def error(self, error: ApiError, generation_id: str | None) -> JsonObject:
        """Return the envelope."""
        return envelope(error)

    def stream_error(self, call: SimCall, error: StreamError) -> bytes:
        """Return the last chunk."""
        told = {"code": error.code, "message": error.message, "metadata": {"error_type": error.error_type}}
        if error.bare:
            return event({"error": told})
        chunk = _body(call, "", "error")
        return event(chunk if error.choice_only else {**chunk, "error": told})


COMPLETIONS = SimCompletions()


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


def _with_usage(call: SimCall, body: JsonObject) -> JsonObject:
    usage = call.usage(usage_of(call))
    return body if usage is None else {**body, "usage": usage}
