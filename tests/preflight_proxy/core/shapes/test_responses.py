"""The responses API, whole and streamed."""

import json

import pytest

from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.core.sse import Event
from tests.support.cases import each
from tests.support.events import events
from tests.support.quote_cases import RESPONSES, read

USAGE = {
    "input_tokens": 9175,
    "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 9172},
    "output_tokens": 277,
    "output_tokens_details": {"reasoning_tokens": 64},
    "cost": 0.025706,
}
READ_USAGE = CallUsage(25_706_000_000, 9175, 1, 9172, 277, 64)
RESPONSE = {"id": "gen-1", "model": "a/b", "status": "completed", "usage": USAGE, "error": None}


def event(**fields: object) -> Reading:
    return RESPONSES.read_event(Event(b"", data=json.dumps(fields).encode()))


def test_a_body_is_read() -> None:
    output = [
        {"type": "message"},
        {"type": "function_call", "name": "shell"},
        {"type": "custom_tool_call", "name": "patch"},
    ]
    told = RESPONSES.read_body(b"\n" + json.dumps({**RESPONSE, "output": output}).encode())
    assert told == Reading("gen-1", "a/b", None, READ_USAGE, "stop", False, True, ("shell", "patch"))


@each(
    "kind, status, finish, error",
    [
        ("response.completed", "completed", "stop", False),
        ("response.incomplete", "incomplete", "length", False),
        ("response.failed", "failed", "error", True),
    ],
)
def test_the_last_event_has_the_usage(kind: str, status: str, finish: str, error: bool) -> None:
    told = event(type=kind, response={**RESPONSE, "status": status})
    assert (told.usage, told.finish, told.error, told.terminal) == (READ_USAGE, finish, error, True)


@each("reason, finish", [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("new", "length")])
def test_an_incomplete_response_says_why(reason: str, finish: str) -> None:
    response = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": reason}}
    assert event(type="response.incomplete", response=response).finish == finish


@pytest.mark.parametrize("fields", [{"type": "error", "error": {"code": 1}}, {"type": "response.error", "error": {}}])
def test_an_error_event_is_the_last(fields: dict[str, object]) -> None:
    told = event(**fields)
    assert (told.error, told.terminal, told.finish) == (True, True, "error")


def test_a_response_that_completed_with_an_error_beside_it_is_an_error() -> None:
    assert event(type="response.completed", response=RESPONSE, error={"code": 1}).error


def test_the_first_events_tell_who_answers_and_nothing_of_cost() -> None:
    told = event(type="response.created", response={**RESPONSE, "status": "in_progress"})
    assert told == Reading("gen-1", "a/b")


def test_a_tool_call_is_named_once() -> None:
    item = {"type": "function_call", "name": "shell"}
    assert event(type="response.output_item.added", item=item).tool_names == ("shell",)
    assert event(type="response.output_item.done", item=item).tool_names == ()
    assert event(type="response.output_item.added", item={"type": "message"}).tool_names == ()


def test_other_events_say_nothing_unless_they_hold_an_error() -> None:
    assert event(type="response.output_text.delta", delta="usage") == Reading()
    assert event(error={"code": 502}).error
    assert RESPONSES.read_event(Event(b"", data=b"[DONE]")).terminal


def test_input_may_be_one_text() -> None:
    request = read(RESPONSES, {"model": "a/b", "input": "hello"})
    assert (request.prompt.ascii_bytes, len(request.prompt.messages)) == (5, 1)


def test_an_item_that_refers_to_stored_state_is_refused() -> None:
    with pytest.raises(BadRequest, match="item_reference"):
        read(RESPONSES, {"model": "a/b", "input": [{"type": "item_reference", "id": "rs_1"}]})


def test_a_cut_is_a_failed_response_that_ends_codex_and_raises_in_openais_clients() -> None:
    event, done = events(RESPONSES.cut(Reading(generation_id="gen-1760000000-x", model="a/b"), 9, "why"))
    told = json.loads(event.data)
    assert event.name == told["type"] == "response.failed"
    assert told["sequence_number"] == 9
    assert told["error"] == {"code": 402, "message": "why"}
    assert told["response"]["error"] == {"code": "invalid_prompt", "message": "why"}
    assert (told["response"]["id"], told["response"]["created_at"]) == ("gen-1760000000-x", 1_760_000_000)
    assert RESPONSES.read_event(event).error
    assert done.data == b"[DONE]"


REQUIRED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("completed_at", "created_at"), (int, type(None))),
    **dict.fromkeys(("frequency_penalty", "presence_penalty", "temperature", "top_p"), (float, int, type(None))),
    **dict.fromkeys(("error", "incomplete_details", "instructions", "metadata"), (dict, type(None))),
    **dict.fromkeys(("id", "model", "object", "status", "tool_choice"), (str,)),
    **dict.fromkeys(("output", "tools"), (list,)),
    "parallel_tool_calls": (bool,),
}
"""The fields that a response must have, as the OpenRouter SDKs 1.3.84 (Python) and 1.3.19 (npm) read it."""


@pytest.mark.parametrize("error_type", ["payment_required", "provider_unavailable"])
def test_a_cut_has_every_field_that_the_api_requires_of_a_response(error_type: str) -> None:
    event, _done = events(RESPONSES.cut(Reading(), 9, "why", error_type))
    response = json.loads(event.data)["response"]
    assert {name for name, kinds in REQUIRED.items() if not isinstance(response.get(name, ...), kinds)} == set()


def test_a_break_upstream_has_the_code_on_which_clients_ask_again() -> None:
    event, _done = events(RESPONSES.cut(Reading(), 9, "why", "provider_unavailable"))
    told = json.loads(event.data)
    assert told["response"]["error"] == {"code": "server_error", "message": "why"}
    assert told["error"] == {"code": 502, "message": "why"}
