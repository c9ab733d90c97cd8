"""Chunks and bodies with choices, in every variant that was seen."""

import json

import pytest

from preflight_proxy.core.shapes.chunks import cut_chunk, read_chunk
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from tests.support.cases import each

HEAD = '"id":"gen-1760000000-x","model":"a/b","provider":"P",'


def read(text: str) -> Reading:
    return read_chunk(text.encode(), "delta")


def test_a_first_chunk_tells_who_answers() -> None:
    told = read("{" + HEAD + '"choices":[{"index":0,"delta":{"content":"usage"},"finish_reason":null}]}')
    assert told == Reading(generation_id="gen-1760000000-x", model="a/b", provider="P")


@each("choices", ["[]", '[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]', "null"])
def test_the_usage_chunk_is_read_with_and_without_a_choice(choices: str) -> None:
    told = read("{" + HEAD + f'"choices":{choices},"us\\u0061ge":{{"prompt_tokens":3,"cost":1e-6}}}}')
    assert told.usage == CallUsage(10**6, 3)
    assert not told.terminal


@each(
    "chunk",
    [
        '{"error":{"code":"server_error","message":"x"},"choices":[{"finish_reason":"error"}]}',
        '{"error":{"code":502}}',
        '{"choices":[{"finish_reason":"error","native_finish_reason":"MALFORMED_FUNCTION_CALL"}]}',
        '{"choices":[{"error":{"code":502}}]}',
    ],
)
def test_an_error_is_seen_wherever_it_stands(chunk: str) -> None:
    assert read(chunk).error


def test_an_error_with_usage_has_both() -> None:
    told = read('{"error":{"code":1},"usage":{"cost":0}}')
    assert told.error
    assert told.usage is not None
    assert told.usage.cost_pusd == 0


def test_null_is_no_error_and_no_usage() -> None:
    assert read('{"error":null,"usage":null,"choices":[{"error":null}]}') == Reading()


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE] "])
def test_done_is_the_last_event(data: bytes) -> None:
    assert read_chunk(data, "delta") == Reading(terminal=True)


def test_tools_that_the_model_calls_are_named() -> None:
    calls = '[{"index":0,"function":{"name":"bash"}},{"index":1,"function":{"arguments":"{"}}]'
    assert read('{"choices":[{"delta":{"tool_calls":' + calls + "}}]}").tool_names == ("bash",)


def test_a_cut_keeps_the_streams_identity_and_ends_in_order() -> None:
    head = Reading(generation_id="gen-1760000000-x", model="a/b", provider="P")
    first, done, rest = cut_chunk(head, "chat.completion.chunk", {"delta": {}}, "why", "payment_required").split(
        b"\n\n"
    )
    assert (done, rest) == (b"data: [DONE]", b"")
    chunk = json.loads(first.removeprefix(b"data: "))
    assert (chunk["id"], chunk["created"], chunk["model"], chunk["provider"]) == (
        "gen-1760000000-x",
        1_760_000_000,
        "a/b",
        "P",
    )
    assert chunk["error"] == {"code": 402, "message": "why", "metadata": {"error_type": "payment_required"}}
    assert chunk["choices"][0]["finish_reason"] == "error"


def test_a_cut_before_anything_was_said_is_whole_all_the_same() -> None:
    chunk = json.loads(cut_chunk(Reading(), "x", {}, "why", "unmapped").split(b"\n\n")[0].removeprefix(b"data: "))
    assert (chunk["id"], chunk["model"], chunk["error"]["code"]) == ("", "", 500)
    assert "provider" not in chunk
