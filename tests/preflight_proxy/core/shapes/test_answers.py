"""Answers: values that are missing or malformed read as absent; chunks and bodies with choices, in every variant seen."""

import json

import msgspec
import pytest

from preflight_proxy.core.shapes.answers import (
    ANSWER_VALUES_MAX,
    ChoicesUsage,
    JsonObject,
    created,
    cut_chunk,
    decode_part,
    read_chunk,
    read_count,
    read_object,
    read_usage,
)
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from tests.support.cases import each


def usage_of(raw: bytes) -> CallUsage | None:
    return read_usage(decode_part(raw, ChoicesUsage))


def field(raw: bytes | None) -> JsonObject:
    return JsonObject({} if raw is None else {"x": msgspec.Raw(raw)})


@each("raw", [None, b"", b"[]", b"null", b"\xff", b"{"])
def test_what_is_no_object_is_empty(raw: bytes | None) -> None:
    assert read_object(raw or b"") == field(raw).child("x") == {}


@each("raw", [None, b"", b"{}", b"null"])
def test_what_is_no_array_has_no_elements(raw: bytes | None) -> None:
    assert list(field(raw).children("x")) == []


def test_what_is_too_deep_or_has_too_many_values_is_not_read() -> None:
    deep, many = b"[" * 100_000, b"," * (ANSWER_VALUES_MAX + 1)
    for raw in (deep, b"[1%b1]" % many, b'{"a":1%b}' % many):
        assert read_object(raw) == {}
        assert list(field(raw).children("x")) == []


@each(
    "raw, text",
    [
        (None, None),
        (b"null", None),
        (b'""', None),
        (b"7", None),
        (b'"a\\u0062"', "ab"),
        (b'"' + b"x" * 999 + b'"', "x" * 128),
    ],
)
def test_a_name_is_read_and_kept_short(raw: bytes | None, text: str | None) -> None:
    assert field(raw).text("x") == text


@each(
    "raw, count",
    [
        (None, 0),
        (b"null", 0),
        (b"-1", 0),
        (b"1.5", 0),
        (b'"3"', 0),
        (b"1e900000", 0),
        (b"1e13", 0),
        (b"12", 12),
        (b"3.0", 3),
    ],
)
def test_a_count_that_is_none_is_zero(raw: bytes | None, count: int) -> None:
    assert read_count(msgspec.Raw(raw or b"")) == count


@each("count", ["-1", "1.5", '"3"', "1e13", "1000000000001", "true", "[]"])
def test_a_count_that_is_none_is_zero_in_a_usage_and_hides_no_other(count: str) -> None:
    details = f'"prompt_tokens_details":{{"cached_tokens":{count},"cache_write_tokens":2}}'
    usage = usage_of(f'{{"prompt_tokens":{count},"completion_tokens":5,{details}}}'.encode())
    assert usage == CallUsage(completion_tokens=5, cache_write_tokens=2)


def test_usage_is_read_with_its_details() -> None:
    usage = usage_of(
        b'{"prompt_tokens":1000,"completion_tokens":50,"cost":0.00159,"is_byok":false,'
        b'"prompt_tokens_details":{"cached_tokens":800,"cache_write_tokens":7},"completion_tokens_details":{"reasoning_tokens":20}}'
    )
    assert usage == CallUsage(1_590_000_000, 1000, 800, 7, 50, 20, False)


@each("cost", [b"null", b'"0.5"', b"-1", b"1e900000", b"[]", b"true", b"1" * 5000])
def test_a_cost_that_cannot_be_read_is_missing_and_not_zero(cost: bytes) -> None:
    usage = usage_of(b'{"prompt_tokens":3,"cost":' + cost + b"}")
    assert usage is not None
    assert usage.cost_pusd is None
    assert usage.prompt_tokens == 3


def test_usage_that_is_absent_or_null_is_none() -> None:
    assert read('{"choices":[]}').usage is None
    assert read('{"usage":null}').usage is None


@each(
    "details, cost",
    [
        (b',"cost_details":{"upstream_inference_cost":0.5}', 600_000_000_000),
        (b',"cost_details":{"upstream_inference_cost":null}', None),
        (b"", None),
    ],
)
def test_on_a_key_of_ones_own_the_providers_bill_is_added(details: bytes, cost: int | None) -> None:
    usage = usage_of(b'{"cost":0.1,"is_byok":true' + details + b"}")
    assert usage is not None
    assert usage.is_byok
    assert usage.cost_pusd == cost


@each("generation_id, epoch", [("gen-1760000000-AbC", 1_760_000_000), ("resp_1", 0), (None, 0)])
def test_the_time_of_a_generation_is_in_its_id(generation_id: str | None, epoch: int) -> None:
    assert created(generation_id) == epoch


HEAD = '"id":"gen-1760000000-x","model":"a/b","provider":"P",'


def read(text: str) -> Reading:
    return read_chunk(text.encode())


def test_a_first_chunk_tells_who_answers() -> None:
    told = read("{" + HEAD + '"choices":[{"index":0,"delta":{"content":"usage"},"finish_reason":null}]}')
    assert told == Reading(generation_id="gen-1760000000-x", model="a/b", provider="P")


@each("choices", ["[]", '[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]', "null"])
def test_the_usage_chunk_is_read_with_and_without_a_choice(choices: str) -> None:
    told = read("{" + HEAD + f'"choices":{choices},"us\\u0061ge":{{"prompt_tokens":3,"cost":1e-6}}}}')
    assert told.usage == CallUsage(10**6, 3)
    assert not told.terminal


def test_of_an_answer_with_millions_of_values_the_usage_is_read_and_no_choice() -> None:
    rest = ',"usage":{"prompt_tokens":3,"cost":1e-6}}'
    for count, finish in ((3, "stop"), (ANSWER_VALUES_MAX + 2, None)):
        values = ",".join(["0.5"] * count)
        told = read(f'{{"data":[{{"embedding":[{values}]}}],"choices":[{{"finish_reason":"stop"}},{values}]{rest}')
        assert told == Reading(usage=CallUsage(10**6, 3), finish=finish)


def test_choices_that_would_fill_the_memory_are_not_read() -> None:
    for count, finish in ((3, "stop"), (ANSWER_VALUES_MAX, None)):
        assert read('{"choices":[{"finish_reason":"stop"}' + ",{}" * (count + 1) + "]}").finish == finish


@each("value", ["7", "1e900000", "[[]]", "{}", "9" * 5000, "true"])
def test_a_value_of_a_wrong_kind_hides_no_other(value: str) -> None:
    names = "".join(f'"{name}":{value},' for name in ("id", "model", "provider", "choices"))
    counts = "".join(f'"{name}_details":{value},' for name in ("cost", "prompt_tokens", "completion_tokens"))
    told = read("{" + names + '"usage":{' + counts + '"cost":1e-6}}')
    assert told == Reading(usage=CallUsage(10**6))
    told = read(
        '{"choices":[' + value + ',{"finish_reason":' + value + ',"delta":' + value + '},{"finish_reason":"stop"}]}'
    )
    assert told == Reading(finish="stop")


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
    assert read_chunk(data) == Reading(terminal=True)


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
