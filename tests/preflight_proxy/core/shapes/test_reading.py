"""What is remembered of earlier requests changes no result, and no step of reading is long."""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.recent import Recent
from preflight_proxy.core.shapes import SHAPES, reading, tools
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.memo import Memo
from preflight_proxy.core.shapes.prompt_text import count_message, count_plain
from preflight_proxy.core.shapes.reading import FRAME_BYTES_MAX, FRAMES_MAX, MESSAGES_MAX, UNREAD_BYTES_MAX, Shape
from preflight_proxy.core.shapes.request_writer import write_request
from preflight_proxy.core.shapes.shape import Request, UnknownFields
from preflight_proxy.core.shapes.steps import KNOWN_MESSAGE_COST, NEW_MESSAGE_COST, STEP_COST, run_steps
from tests.support.cases import each
from tests.support.quote_cases import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES


@contextmanager
def nothing_remembered() -> Iterator[None]:
    """Within it, requests are read as by a process that has just started."""
    kept = reading._frames, reading._messages
    reading._frames, reading._messages = Recent(FRAMES_MAX), Recent(MESSAGES_MAX)
    try:
        yield
    finally:
        reading._frames, reading._messages = kept


def outcome(shape: Shape, body: bytes, mode: UnknownFields) -> object:
    """All that a request says, and what would be sent; or why it is refused."""
    try:
        request = shape.read(body, mode)
    except BadRequest as exc:
        return exc.status, exc.message
    said = {name: getattr(request, name) for name in Request.__struct_fields__ if name not in ("fields", "layouts")}
    fields = [(name, bytes(raw)) for name, raw in request.fields.items()]
    return said, fields, [write_request(request, bound=bound, only=("t",), max_price={}) for bound in (None, 2000, 16)]


TEXTS = ["x", "y", "é", [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]]
ROLES = ["user", "assistant", "tool", "system", "developer", "nobody"]
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": st.sampled_from(TEXTS)})
TOOL = {"type": "function", "function": {"name": "f"}, "name": "f"}
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["a/b", "openrouter/a/b", "a/b:floor", "a/b:online"]),
    "messages": st.lists(MESSAGE, max_size=3),
    "input": st.lists(MESSAGE, max_size=3) | st.sampled_from(["x", ["x", "y"]]),
    "prompt": st.sampled_from(["x", ["x"], ["x", "y"], None]),
    "system": st.sampled_from(TEXTS),
    "instructions": st.sampled_from(["x", "y"]),
    "tools": st.sampled_from(
        [[], [TOOL], [{"type": "image_generation"}, TOOL], [{"type": "bash_20250124", "name": "b"}]]
    ),
    "max_tokens": st.sampled_from([1, 16, 4000, None]),
    "max_completion_tokens": st.sampled_from([16, 4000]),
    "max_output_tokens": st.sampled_from([16, 4000]),
    "maxTokens": st.sampled_from([8]),
    "reasoning": st.sampled_from([{"max_tokens": 3000}, {"effort": "low"}]),
    "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 3000}, {"type": "disabled"}]),
    "provider": st.sampled_from([{}, {"only": ["a"]}, {"ignore": ["a"]}, {"max_price": {"prompt": 1}}, {"x": 1}]),
    "stream": st.booleans(),
    "user": st.sampled_from(["u", "v"]),
    "truncation": st.sampled_from(["auto", "disabled"]),
    "transforms": st.sampled_from([["middle-out"]]),
    "cache_control": st.sampled_from([{"type": "ephemeral"}]),
    "response_format": st.sampled_from([{"type": "json_object"}]),
    "new_field": st.sampled_from(["x", {"y": 1}]),
    "n": st.sampled_from([1, 2]),
}
MODES: list[UnknownFields] = ["drop", "refuse", "pass"]
BODIES = st.tuples(
    st.sampled_from(list(SHAPES.values())),
    st.fixed_dictionaries(
        {"model": FIELDS["model"]}, optional={name: FIELDS[name] for name in FIELDS if name != "model"}
    ),
    st.sampled_from(MODES),
    st.booleans(),
)


@given(st.lists(BODIES, min_size=2, max_size=6))
def test_a_request_is_read_as_by_a_process_that_has_seen_no_other(requests: list[Any]) -> None:
    with nothing_remembered():
        for _ in range(2):
            for shape, fields, mode, is_reversed in requests:
                items = list(fields.items())
                body = json.dumps(dict(reversed(items) if is_reversed else items)).encode()
                now = outcome(shape, body, mode)
                with nothing_remembered():
                    assert now == outcome(shape, body, mode)


@each(
    "body, other",
    [
        (
            b'{"model":"a/b","max_tokens":1,"messages":[],"seed":23}',
            b'{"model":"a/b","max_tokens":12,"messages":[],"seed":3}',
        ),
        (
            b'{"model":"a/b","max_tokens":16,"messages":[],"seed":9}',
            b'{"model":"a/b","seed":16,"messages":[],"max_tokens":9}',
        ),
        (b'{"model":"a/b","messages":[],"stop":"x"}', b'{"model":"a/b","stop":"x","messages":[]}'),
        (b'{"model":"a/b","user":"x","messages":[]}', b'{"model":"a/b","uses":"x","messages":[]}'),
    ],
)
def test_the_same_bytes_in_other_fields_are_another_request(body: bytes, other: bytes) -> None:
    with nothing_remembered():
        first, second = (CHAT.read(raw, "drop") for raw in (body, other))
    with nothing_remembered():
        again = CHAT.read(other, "drop")
    assert (first.bound, list(first.fields)) != (second.bound, list(second.fields)) or first.fields != second.fields
    assert (second.bound, list(second.fields), second.digest) == (again.bound, list(again.fields), again.digest)


def test_the_same_body_is_another_request_in_each_mode_and_in_each_api() -> None:
    message = {"role": "user", "content": "x"}
    fields = {
        "model": "a/b",
        "max_tokens": 9,
        "messages": [message],
        "input": [message],
        "prompt": "x",
        "new_field": "y",
    }
    fields |= {"tools": [{"type": "image_generation"}], "system": "x", "max_completion_tokens": 8, "store": False}
    apis = [shape for shape in SHAPES.values() if shape not in (COMPLETIONS, EMBEDDINGS)]
    for some in (fields, {name: fields[name] for name in ("model", "max_tokens", "messages", "input")}):
        body = json.dumps(some).encode()
        cases = [(shape, mode) for shape in apis for mode in MODES]
        with nothing_remembered():
            remembered = [outcome(shape, body, mode) for shape, mode in cases * 2]
        for (shape, mode), known in zip(cases * 2, remembered, strict=True):
            with nothing_remembered():
                assert known == outcome(shape, body, mode)


def test_a_message_that_one_api_knows_is_refused_by_another_that_does_not() -> None:
    body = b'{"model":"a/b","max_tokens":9,"messages":[{"role":"tool","content":"x"}]}'
    assert CHAT.read(body, "drop").prompt.messages[0].role == "tool"
    with pytest.raises(BadRequest, match="'tool'"):
        MESSAGES.read(body, "drop")


def test_long_fields_are_not_remembered_but_long_tools_and_system_prompts_are_without_their_text() -> None:
    with nothing_remembered():
        long = "x" * (FRAME_BYTES_MAX + 1)
        for name, kept in (("stop", 0), ("system", 1), ("tools", 2)):
            value: object = [{**TOOL, "description": long}] if name == "tools" else long
            body = {"model": "a/b", "max_tokens": 9, "messages": [], name: value}
            shape = CHAT if name == "tools" else MESSAGES
            if name == "stop":
                body["stop_sequences"] = body.pop("stop")
            request = shape.read(json.dumps(body).encode(), "drop")
            write_request(request, bound=9, only=(), max_price={})
            assert len(reading._frames) == kept
        frames = [*reading._frames._young.values(), *reading._frames._old.values()]
        texts = [part for frame in frames for layout in frame.request.layouts.values() for part in layout]
        assert len(texts) > 2
        assert all(long not in str(part) for part in texts)
        assert all(frame.own == {} and frame.request.fields == {} for frame in frames)


@each("name", ["messages", "chat", "responses", "completions", "embeddings"])
def test_a_body_has_the_same_digest_whether_it_is_read_or_refused_unread(name: str) -> None:
    shape = next(shape for shape in SHAPES.values() if shape.name == name)
    field = {"chat": "messages", "messages": "messages", "completions": "prompt"}.get(name, "input")
    text = name in ("completions", "embeddings")
    prompt: object = "x" if text else [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    body = json.dumps({"model": "a/b", field: prompt, "user": "label"}).encode()
    other = json.dumps({"user": "other", "model": "a/b", field: prompt}).encode()
    digest = shape.read(body, "drop").digest
    assert digest == shape.unread_digest(body) == shape.unread_digest(other) == shape.read(other, "drop").digest
    changed = body.replace(b'"x"', b'"z"')
    assert digest != shape.read(changed, "drop").digest == shape.unread_digest(changed)


def test_a_body_without_a_prompt_that_is_refused_unread_is_recognised_whatever_its_labels() -> None:
    first, again, other = (b'{"user":"1","model":"a/b"}', b'{"model":"a/b","user":"2"}', b'{"model":"a/c"}')
    for shape in SHAPES.values():
        assert shape.unread_digest(first) == shape.unread_digest(again) != shape.unread_digest(other)


def test_a_large_body_that_is_refused_unread_is_recognised_by_all_its_bytes() -> None:
    body = b'{"model":"a/b","messages":[],"user":"' + b"x" * UNREAD_BYTES_MAX + b'"}'
    assert CHAT.unread_digest(body) == CHAT.unread_digest(body) != CHAT.unread_digest(body + b" ")
    assert CHAT.unread_digest(b"no json") == CHAT.unread_digest(b"no json") != CHAT.unread_digest(b"none")


MANY_VALUES: list[list[object]] = [
    [""] * 60_000,
    [{"role": "user", "content": [{"type": "text", "text": "x"}] * 60_000}],
    [{"role": "user", "content": "x", "y": [1] * 20_000}] * 3,
    [{"role": "user", "content": ",", "y": [1] * 20_000}, {"role": "user", "content": "x", "y": [1] * 40_000}],
]


@each("place", [0, 1, 2, 3])
def test_more_values_than_may_be_walked_are_a_413_wherever_they_are(place: int) -> None:
    for name in ("messages", "tools", "stop"):
        body = json.dumps({"model": "a/b", "messages": [], name: MANY_VALUES[place]}).encode()
        for _ in range(2):
            with pytest.raises(BadRequest, match="too many values") as caught:
                CHAT.read(body, "drop")
            assert caught.value.status == 413


def test_commas_within_texts_are_no_values() -> None:
    messages = [{"role": "user", "content": f"{number}" + ", " * 20_000} for number in range(4)]
    body = json.dumps({"model": "a/b", "messages": messages}).encode()
    assert len(CHAT.read(body, "drop").prompt.messages) == 4


def test_an_array_of_tokens_may_have_more_values() -> None:
    for shape, field in ((EMBEDDINGS, "input"), (COMPLETIONS, "prompt")):
        body = json.dumps({"model": "a/b", field: [1] * 60_000}).encode()
        assert shape.read(body, "drop").prompt.ascii_bytes == 60_000
        with pytest.raises(BadRequest, match="too many values"):
            shape.read(json.dumps({"model": "a/b", field: [1] * 500_002}).encode(), "drop")


# What is remembered is bounded


def parts_of(root: object) -> int:
    """How many values are reachable from one: what it costs in memory, roughly."""
    match root:
        case dict():
            inside: list[object] = [*root.keys(), *root.values()]
        case list() | tuple() | set() | frozenset():
            inside = list(root)
        case _:
            names = getattr(root, "__struct_fields__", None) or getattr(type(root), "__slots__", None) or ()
            inside = [getattr(root, name) for name in names if hasattr(root, name)]
    return 1 + sum(parts_of(value) for value in inside)


@nothing_remembered()  # what other tests have left would shift when the older half is dropped
def test_after_thousands_of_calls_nothing_grows() -> None:
    """Each call has its own model, tools, label and messages, and is written for other endpoints."""
    roots = (reading._frames, reading._messages, *tools._readers.values())

    def serve(number: int) -> None:
        tool = {"type": "function", "function": {"name": f"f{number}"}}
        messages = [{"role": "user", "content": f"{number} {count}"} for count in range(3)]
        body = {"model": f"a/b{number}", "user": f"{number}", "messages": messages, "tools": [tool]}
        request = CHAT.read(json.dumps(body).encode(), "drop")
        for bound in range(number % 7):
            write_request(request, bound=bound, only=(f"t{number}",), max_price={})

    sizes = []
    for number in range(6000):
        serve(number)
        if number % 100 == 99 and number > 2000:
            sizes.append(sum(parts_of(root) for root in roots))
    assert max(sizes[20:]) <= max(sizes[:20]) * 1.01
    assert len(reading._frames) <= FRAMES_MAX
    assert len(reading._messages) <= MESSAGES_MAX


# No step is long


class Counts:
    """What was done since the last yield: messages decoded, their bytes, and texts hashed."""

    def __init__(self) -> None:
        self.decoded = self.decoded_bytes = self.hashed = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code in (count_message.__code__, count_plain.__code__):
            self.decoded += 1
            self.decoded_bytes += len(frame.f_locals["raw"])
        elif event == "c_call" and arg.__name__ == "openssl_sha256":
            self.hashed += 1


def steps_of(shape: Shape, body: bytes) -> tuple[list[Counts], int]:
    """The counts of each step of reading a body, and how often work was left to a thread, which is part of no step."""
    steps, counted, works_count, reply = shape.read_steps(body, "drop"), [], 0, None
    while True:
        counted.append(Counts())
        sys.setprofile(counted[-1])
        try:
            work = steps.send(reply)
        except StopIteration:
            return counted, works_count
        finally:
            sys.setprofile(None)
        works_count += work is not None
        reply = None if work is None else work()


def chat_body(count: int, size_bytes: int, mark: str) -> bytes:
    messages = [{"role": "user", "content": f"{mark}{number} " + "x" * size_bytes} for number in range(count)]
    return json.dumps({"model": "a/b", "messages": messages}).encode()


@each("count, size_bytes", [(24_000, 1), (60, 17_000), (8, 130_000), (1, 2**20), (4000, 200)])
def test_no_step_decodes_much_however_the_text_is_spread(count: int, size_bytes: int) -> None:
    with nothing_remembered():
        steps, _ = steps_of(CHAT, chat_body(count, size_bytes, "a"))
    in_steps = count if size_bytes < STEP_COST else 0
    assert sum(step.decoded for step in steps) == in_steps
    assert max(step.decoded for step in steps) <= STEP_COST // NEW_MESSAGE_COST + 1
    assert max(step.decoded_bytes for step in steps) <= STEP_COST + STEP_COST
    assert max(step.hashed for step in steps) <= STEP_COST // KNOWN_MESSAGE_COST + 10


def test_no_step_goes_over_many_known_messages() -> None:
    body = chat_body(4000, 1, "b")
    with nothing_remembered():
        run_steps(CHAT.read_steps(body, "drop"))
        steps, _ = steps_of(CHAT, body)
    assert sum(step.decoded for step in steps) == 0
    assert sum(step.hashed for step in steps) >= 4000
    assert max(step.hashed for step in steps) <= STEP_COST // KNOWN_MESSAGE_COST + 10


def test_a_usual_call_is_one_step() -> None:
    with nothing_remembered():
        steps, _ = steps_of(CHAT, chat_body(30, 1300, "c"))
    assert len(steps) == 1


@each(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": str(number)} for number in range(9000)]}]},
        {"messages": [], "tools": [{"type": "function", "function": {"name": "f", "enum": list(range(9000))}}]},
        {"messages": [], "response_format": {"x": list(range(9000))}},
        {"messages": [], "max_tokens": 9, "system": [{"type": "text", "text": str(number)} for number in range(9000)]},
    ],
)
def test_a_single_long_value_is_work_for_the_thread(body: dict[str, object]) -> None:
    shape = MESSAGES if "system" in body else CHAT
    with nothing_remembered():
        _, works_count = steps_of(shape, json.dumps({"model": "a/b", **body}).encode())
    assert works_count in (1, 2), "a long message is hashed there too"


@each("shape, field", [(EMBEDDINGS, "input"), (COMPLETIONS, "prompt")])
def test_many_tokens_are_work_for_the_thread(shape: Shape, field: str) -> None:
    raw = json.dumps({"model": "a/b", field: list(range(60_000))}).encode()
    assert steps_of(shape, raw)[1] == 1
    assert run_steps(shape.read_steps(raw, "drop")).prompt.ascii_bytes == 60_000


def test_the_fields_are_views_and_copies_of_what_came() -> None:
    raw = b'{"model":"a/b","messages":[ {"role":"user","content":"x"} ],"seed":1}'
    fields = CHAT.read(raw, "drop").fields
    assert {name: bytes(each) for name, each in fields.items()} == {
        "model": b'"a/b"',
        "messages": b'[ {"role":"user","content":"x"} ]',
        "seed": b"1",
    }
    assert isinstance(fields["messages"], msgspec.Raw)


# What is kept depends on its own bytes alone


def test_each_message_has_its_own_counts_wherever_it_is_and_whatever_stands_around_it() -> None:
    """New and known ones mixed, some twice, over more than one look-up."""
    texts = [f"text {number} " + "x," * (number % 90) for number in range(1500)]
    elements = [
        json.dumps({"role": ("user", "assistant")[number % 2], "content": text}).encode()
        for number, text in enumerate(texts)
    ]
    orders = [elements[::3], elements, elements[::-1], [*elements[700:], *elements[:9] * 3]]
    with nothing_remembered():
        for number, order in enumerate(orders):
            body = b'{"model":"a/b%d","messages":[%b]}' % (number, b",".join(order))
            prompt = CHAT.read(body, "drop").prompt
            alone = [count_plain(element, hashlib.sha256(element).digest()) for element in order]
            assert list(prompt.messages) == alone
            assert prompt.digests == b"".join([message.digest for message in alone if message])
            assert prompt.ascii_bytes == sum(message.ascii_bytes for message in prompt.messages)


@each("shape", [CHAT, MESSAGES, RESPONSES])
def test_the_same_tools_in_requests_that_differ_in_all_else_count_the_same(shape: Shape) -> None:
    tool = {**TOOL, "cache_control": {"type": "ephemeral"}}
    hosted = [{"type": "image_generation"}] if shape is RESPONSES else []
    field = "input" if shape is RESPONSES else "messages"
    others: list[dict[str, object]] = [
        {"model": "a/b", "max_tokens": 9},
        {"model": "a/c", "max_tokens": 8, "temperature": 1, "stream": True},
        {"model": "a/b:floor", "max_tokens": 7, "user": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    for number, other in enumerate(others):
        message = {"role": "user", "content": "x" * number}
        body = json.dumps({**other, field: [message], "tools": [tool, *hosted]}).encode()
        known = outcome(shape, body, "drop")
        assert len(known) == 3, "it is not refused"  # type: ignore[arg-type]
        readers, tools._readers = tools._readers, {api: Memo(memo._compute, 9) for api, memo in tools._readers.items()}
        try:
            with nothing_remembered():
                assert outcome(shape, body, "drop") == known
        finally:
            tools._readers = readers
