"""The output items of `/responses`, whole and as events, and its usage object."""

from __future__ import annotations

from collections.abc import Iterator

from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import SimCall
from openrouter_sim.calls.scenario import ToolCall


def usage_of(call: SimCall) -> JsonObject:
    """Return the usage object; `input_tokens` includes cache reads and writes."""
    tokens = call.tokens
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
        "output_tokens": tokens.completion,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.prompt + tokens.completion,
        "cost": call.stated_cost,
        "is_byok": call.is_byok,
        "cost_details": call.cost_details("upstream_inference_input_cost", "upstream_inference_output_cost"),
    }


def items_of(call: SimCall) -> list[ToolCall | str]:
    """Return what is put out, in order: `reasoning`, `message`, function calls."""
    reply = call.reply
    items: list[ToolCall | str] = ["reasoning"] if reply.reasoning else []
    if reply.pieces or not reply.tool_calls:
        items.append("message")
    return [*items, *reply.tool_calls]


def item(call: SimCall, index: int) -> JsonObject:
    """Return one finished output item."""
    part, tail = items_of(call)[index], f"{call.id[-20:]}_{index}"
    if isinstance(part, ToolCall):
        return {
            "type": "function_call",
            "id": f"fc_{tail}",
            "call_id": f"call_{tail}",
            "name": part.name,
            "arguments": part.arguments,
            "status": "completed",
        }
    if part == "reasoning":
        summary = [{"type": "summary_text", "text": "Thinking."}]
        return {"type": "reasoning", "id": f"rs_{tail}", "summary": summary, "encrypted_content": None}
    return {
        "type": "message",
        "id": f"msg_{tail}",
        "role": "assistant",
        "status": "completed",
        "content": [_text(call.reply.text)],
    }


def item_events(call: SimCall, index: int) -> Iterator[JsonObject]:
    """Yield the events that bring one item."""
    done = item(call, index)
    at = {"item_id": done["id"], "output_index": index}
    yield {"type": "response.output_item.added", "output_index": index, "item": _opened(done)}
    match done["type"]:
        case "message":
            yield from _text_events(call, at)
        case "function_call":
            arguments = done["arguments"]
            yield {"type": "response.function_call_arguments.delta", **at, "delta": arguments}
            yield {"type": "response.function_call_arguments.done", **at, "arguments": arguments, "name": done["name"]}
    yield {"type": "response.output_item.done", "output_index": index, "item": done}


def _text_events(call: SimCall, at: JsonObject) -> Iterator[JsonObject]:
    at = {**at, "content_index": 0}
    yield {"type": "response.content_part.added", **at, "part": _text("")}
    for piece in call.reply.pieces:
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": call.reply.text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": _text(call.reply.text)}


def _text(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _opened(done: JsonObject) -> JsonObject:
    match done["type"]:
        case "message":
            return {**done, "status": "in_progress", "content": []}
        case "function_call":
            return {**done, "status": "in_progress", "arguments": ""}
        case _:
            return {**done, "summary": []}
