"""Chat completions, whole and streamed."""

import json

from preflight_proxy.core.shapes.shape import CallUsage, Reading
from tests.support.events import events
from tests.support.quote_cases import CHAT, chat

BODY = {
    "id": "gen-1",
    "model": "a/b",
    "provider": "P",
    "choices": [
        {
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "tool_calls": [{"function": {"name": "bash"}}]},
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.5},
}
STREAM = (
    b": OPENROUTER PROCESSING\n\n"
    b'data: {"id":"gen-1","model":"a/b","provider":"P","choices":[{"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"gen-1","choices":[{"delta":{"content":""},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"gen-1","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"cost":5e-1}}\n\n'
    b"data: [DONE]\n\n"
)


def test_a_body_is_read_after_any_white_space() -> None:
    told = CHAT.read_body(b"\n\n  \r\n" + json.dumps(BODY).encode() + b"\n")
    assert told == Reading(
        "gen-1", "a/b", "P", CallUsage(5 * 10**11, 10, 0, 0, 5), "tool_calls", False, True, ("bash",)
    )


def test_a_body_with_an_error_is_one() -> None:
    assert CHAT.read_body(b'{"error":{"code":502}}').error


def test_a_stream_tells_its_parts_event_by_event() -> None:
    told = [CHAT.read_event(event) for event in events(STREAM)]
    assert told[0] == Reading()
    assert told[1] == Reading("gen-1", "a/b", "P")
    assert told[2].finish == "stop"
    assert told[3].usage == CallUsage(5 * 10**11, 10, 0, 0, 5)
    assert told[4].terminal


def test_functions_of_the_old_kind_count_as_tools() -> None:
    assert chat(functions=[{"name": "f", "parameters": {}}]).prompt.tool_count == 1


def test_a_cut_is_an_error_chunk() -> None:
    event, done = events(CHAT.cut(Reading(generation_id="gen-1"), 3, "why"))
    told = CHAT.read_event(event)
    assert (told.error, told.finish, told.generation_id) == (True, "error", "gen-1")
    assert CHAT.read_event(done).terminal
    assert json.loads(event.data)["object"] == "chat.completion.chunk"
