"""The messages API, whole and streamed."""

import json

from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.core.sse import Event
from tests.support.cases import each
from tests.support.events import events
from tests.support.quote_cases import MESSAGES

USAGE = {
    "input_tokens": 200,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 800,
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
    "cost": 0.00159,
}
READ_USAGE = CallUsage(1_590_000_000, 1030, 800, 30, 50, 20)


def event(**fields: object) -> Reading:
    return MESSAGES.read_event(Event(b"", data=json.dumps(fields).encode()))


def test_a_body_is_read_and_cached_tokens_are_part_of_the_prompt() -> None:
    body = {
        "id": "gen-1",
        "type": "message",
        "model": "a/b",
        "provider": "Anthropic",
        "content": [{"type": "text", "text": "x", "name": "no"}, {"type": "tool_use", "name": "Bash"}],
        "stop_reason": "tool_use",
        "usage": USAGE,
    }
    told = MESSAGES.read_body(b" \n" + json.dumps(body).encode())
    assert told == Reading("gen-1", "a/b", "Anthropic", READ_USAGE, "tool_calls", False, True, ("Bash",))


def test_a_body_with_an_error_is_one() -> None:
    assert MESSAGES.read_body(b'{"type":"error","error":{"type":"api_error"}}').error


def test_the_start_tells_who_answers_and_its_usage_is_none() -> None:
    message = {"id": "gen-1", "model": "a/b", "provider": "P", "usage": {"input_tokens": 1, "output_tokens": 1}}
    assert event(type="message_start", message=message) == Reading("gen-1", "a/b", "P")


@each(
    "reason, finish",
    [("end_turn", "stop"), ("max_tokens", "length"), ("refusal", "content_filter"), ("new", "new"), (None, None)],
)
def test_the_delta_has_the_usage_and_the_reason(reason: str | None, finish: str | None) -> None:
    told = event(type="message_delta", delta={"stop_reason": reason}, usage=USAGE)
    assert told == Reading(usage=READ_USAGE, finish=finish)


def test_a_delta_without_cost_is_usage_without_cost() -> None:
    told = event(type="message_delta", delta={}, usage={"output_tokens": 5})
    assert told.usage == CallUsage(None, 0, 0, 0, 5)
    assert event(type="message_delta", delta={}).usage is None


def test_a_tool_is_named_where_its_block_starts() -> None:
    assert event(type="content_block_start", content_block={"type": "tool_use", "name": "Bash"}).tool_names == ("Bash",)


def test_the_last_events() -> None:
    assert event(type="message_stop") == Reading(terminal=True)
    assert event(type="error", error={}) == Reading(error=True, terminal=True)
    assert MESSAGES.read_event(Event(b"", data=b"[DONE]")).terminal


def test_other_events_say_nothing_unless_they_hold_an_error() -> None:
    assert event(type="content_block_delta", delta={"text": "cost"}) == Reading()
    assert event(type="ping") == Reading()
    assert event(error={"code": 502}).error


def test_a_cut_is_an_error_event_with_its_name() -> None:
    (cut,) = events(MESSAGES.cut(Reading(), 3, "why"))
    assert cut.name == "error"
    assert json.loads(cut.data) == {
        "type": "error",
        "error": {"type": "billing_error", "message": "why"},
        "request_id": None,
    }


@each(
    "told, written, less",
    [(1000, 0, 1000), (800, 0, 800), (799, 0, None), (1000, 200, 1000), (999, 200, None), (0, 0, None)],
)
def test_input_tokens_that_may_hold_the_cached_ones_are_told_in_both_readings(
    told: int, written: int, less: int | None
) -> None:
    usage = {"input_tokens": told, "cache_read_input_tokens": 800, "cache_creation_input_tokens": written}
    read = MESSAGES.read_body(json.dumps({"usage": usage}).encode()).usage
    assert read is not None
    assert (read.prompt_tokens, read.prompt_tokens_less) == (told + 800 + written, less)


def test_without_cached_tokens_there_is_one_reading() -> None:
    read = MESSAGES.read_body(b'{"usage": {"input_tokens": 7}}').usage
    assert read is not None
    assert (read.prompt_tokens, read.prompt_tokens_less) == (7, None)
