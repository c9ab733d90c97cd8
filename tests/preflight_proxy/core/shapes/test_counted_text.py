"""The text that is estimated is the text whose bytes are counted."""

import json
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from preflight_proxy.core.shapes.body import BadRequest, Json, arguments, indented_bytes
from preflight_proxy.core.shapes.body import value as body_value
from preflight_proxy.core.shapes.counted_text import fields_text, indented, message_slices, message_text
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import Request
from tests.support.cases import each
from tests.support.quote_cases import CHAT, MESSAGES, RESPONSES, read

TEXTS = st.sampled_from(["", "yes", "größer", "日本語", '"quoted"\n', "\U0001d160", "a,b [c] {d}"])
VALUES = st.recursive(
    TEXTS | st.integers(0, 10**6) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.builds(json.dumps, VALUES) | TEXTS


def part(kind: str, text: str, value: Any, key: str) -> dict[str, Any]:
    """Return one part of a message; some have fields that no API has."""
    parts: dict[str, dict[str, Any]] = {
        "text": {"type": "text", "text": text},
        "thinking": {"type": "thinking", "thinking": text, "signature": "QUJD"},
        "tool_use": {"type": "tool_use", "id": "1", "name": "look", "input": {"where": value}},
        "tool_result": {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": text}]},
        "document": {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}},
        "odd": {"type": "odd", f"x{key}": value, "cache_control": {"type": "ephemeral"}},
    }
    return parts[kind]


PARTS = st.lists(
    st.builds(
        part,
        st.sampled_from(["text", "thinking", "tool_use", "tool_result", "document", "odd"]),
        *(TEXTS, VALUES, TEXTS),
    ),
    max_size=3,
)
CALLS = st.lists(
    st.builds(lambda arguments: {"id": "1", "function": {"name": "look", "arguments": arguments}}, ARGUMENTS),
    max_size=2,
)
SPOKEN = st.builds(
    lambda role, content, more: {"role": role, "content": content, **more},
    *(st.sampled_from(["user", "assistant"]), TEXTS | PARTS, st.sampled_from([{}, {"name": "n"}, {"other": "o"}])),
)
CALLING = st.builds(lambda calls, text: {"role": "assistant", "content": text, "tool_calls": calls}, CALLS, TEXTS)
ITEMS = st.builds(
    lambda arguments, output: {"type": "function_call", "name": "f", "arguments": arguments, "output": output},
    *(ARGUMENTS, TEXTS),
)
BODIES = st.one_of(
    st.tuples(st.just(CHAT), st.lists(SPOKEN | CALLING, max_size=4)),
    st.tuples(st.just(MESSAGES), st.lists(SPOKEN, max_size=4)),
    st.tuples(st.just(RESPONSES), st.lists(SPOKEN | ITEMS, max_size=4) | TEXTS),
)


def request_of(shape: Shape, prompt: Any, **fields: Any) -> Request:
    return read(shape, {"model": "a/b", "max_tokens": 9, shape.prompt_field: prompt, **fields})


def strings(value: Any) -> list[str]:
    """Return every string of a value that is no arguments, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    if isinstance(value, dict):
        return [
            text
            for key, item in value.items()
            for text in (key, *([] if key in ("arguments", "input") else strings(item)))
        ]
    return []


@given(BODIES)
def test_each_message_has_all_the_bytes_that_are_counted_for_it(body: tuple[Shape, Any]) -> None:
    """But for arguments, whose text another test looks at."""
    shape, prompt = body
    request = accepted(shape, prompt)
    slices = message_slices(shape, request)
    assert len(slices) == len(request.prompt.messages)
    for message, raw in zip(request.prompt.messages, slices, strict=True):
        text = message_text(bytes(raw)).decode()
        others = sum(len(char.encode()) for char in text if not char.isascii())
        assert len(text.encode()) >= message.ascii_bytes + message.other_bytes - arguments_bytes(body_value(bytes(raw)))
        assert others <= message.other_bytes


def accepted(shape: Shape, prompt: Any) -> Request:
    """Return the request, unless its prompt is one that the proxy refuses."""
    try:
        return request_of(shape, prompt)
    except BadRequest:
        reject()


def arguments_bytes(value: Json) -> int:
    """Return what is counted for the arguments in it: more than their text, because templates write numbers and lists longer."""
    if isinstance(value, list):
        return sum(arguments_bytes(item) for item in value)
    if not isinstance(value, dict):
        return 0
    total = 0
    for key, item in value.items():
        if key not in ("arguments", "input"):
            total += arguments_bytes(item)
        elif isinstance(item, str):
            total += max(len(item.encode()), indented_bytes(arguments(item)))
        else:
            total += indented_bytes(item)
    return total


@given(BODIES)
def test_each_string_of_a_message_is_in_its_text(body: tuple[Shape, Any]) -> None:
    shape, prompt = body
    request = accepted(shape, prompt)
    messages = prompt if isinstance(prompt, list) else [prompt]
    for message, raw in zip(messages, message_slices(shape, request), strict=True):
        text = message_text(bytes(raw)).decode()
        assert [each for each in strings(message) if each not in text] == []


def test_a_message_of_texts_alone_and_one_of_parts_have_the_same_text_but_for_names() -> None:
    plain = message_text(json.dumps({"role": "user", "content": "größer"}).encode())
    parts = message_text(json.dumps({"role": "user", "content": [{"type": "text", "text": "größer"}]}).encode())
    assert plain.decode().split("\n") == ["role", "content", "user", "größer"]
    assert parts.decode().split("\n") == ["roleuser", "content", "typetext", "textgrößer"]


@each(
    "shape, fields, parts",
    [
        (CHAT, {"reasoning_effort": "low"}, ["low"]),
        (CHAT, {"response_format": {"type": "json_schema", "schema": {"x": "ä"}}}, ['\n        "x": "\\u00e4"']),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "look"}}]}, ['\n            "name": "look"']),
        (MESSAGES, {"system": [{"type": "text", "text": "the rules"}]}, ["the rules"]),
        (MESSAGES, {"system": "the rules"}, ["the rules"]),
        (RESPONSES, {"instructions": "the rules"}, ["the rules"]),
        (RESPONSES, {"text": {"format": {"type": "text"}}}, ['"type": "text"']),
    ],
)
def test_what_stands_beside_the_messages_is_in_the_text_of_the_fields(
    shape: Shape, fields: dict[str, Any], parts: list[str]
) -> None:
    request = request_of(shape, [{"role": "user", "content": "hi"}], **fields)
    text = fields_text(shape, request)
    assert [each for each in parts if each.encode() not in text] == []
    assert len(text) >= request.prompt.tool_bytes - len("true, false") * 2
    assert b"hi" not in text


def test_an_unknown_field_that_is_passed_on_is_in_the_text() -> None:
    body = {"model": "a/b", "messages": [{"role": "user", "content": "hi"}], "new_field": {"words": "of a template"}}
    assert b"of a template" in fields_text(CHAT, read(CHAT, body, "pass"))
    assert b"of a template" not in fields_text(CHAT, read(CHAT, body, "drop"))


@each("number", ["1e20", "1.5E+9", "-2e-7"])
def test_numbers_with_an_exponent_are_as_long_as_they_may_be_written(number: str) -> None:
    for raw in (f"[{number}]", f'{{"a":{number},"b":1}}', number, f"[1, {number} ]"):
        assert indented(raw.encode()).count(b"0") == 21


@each(
    "raw, text",
    [
        (b'{"a":["\xc3\xa4"]}', b'{\n    "a": [\n        "\\u00e4"\n    ]\n}'),
        (b"no JSON \xf0\x9d\x85\xa0", b"no JSON \\ud834\\udd60"),
        (b"\xff", b"\\ufffd"),
        (b"", b""),
    ],
)
def test_a_value_is_written_as_templates_may_and_what_is_no_json_stays(raw: bytes, text: bytes) -> None:
    assert indented(raw) == text


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 960 + "x", '{"a":' * 5000, "]" * 9, '["' + "x" * 9])
def test_a_text_of_brackets_is_no_error(text: str) -> None:
    """The reader takes what is no JSON as text, whatever it looks like; how deep it may be depends on the place in the program."""
    assert indented(text.encode()) == text.encode()
    message = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": text}}]}
    assert text.encode() in message_text(json.dumps(message).encode())
