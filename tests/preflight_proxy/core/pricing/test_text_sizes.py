"""A request's texts are estimated once each, in steps."""

import os
import sys
from collections.abc import Callable
from typing import Any

from preflight_proxy.core.pricing.text_sizes import ESTIMATE_COST, TextSizes, text_sizes
from preflight_proxy.core.pricing.token_estimate import millitokens
from preflight_proxy.core.shapes.counted_text import fields_text, message_slices, message_text
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import Request
from preflight_proxy.core.shapes.steps import NEW_MESSAGE_COST, STEP_COST, run_steps
from tests.support.cases import each
from tests.support.quote_cases import CHAT, MESSAGES, RESPONSES, read

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def asked(*contents: str, shape: Shape = CHAT, **fields: Any) -> Request:
    messages = [{"role": "user", "content": content} for content in contents]
    return read(shape, {"model": "a/b", "max_tokens": 9, shape.prompt_field: messages, **fields})


def sizes_of(request: Request, shape: Shape = CHAT, family: str = "U") -> TextSizes:
    return run_steps(text_sizes(shape, request, family))


def new() -> str:
    """Return a text that no test has sent before."""
    return os.urandom(16).hex()


def estimated_bytes(work: Callable[[], object]) -> list[int]:
    """Return the length of each text that is estimated by `work`."""
    lengths: list[int] = []

    def counted(frame: Any, event: str, _arg: Any) -> None:
        if event == "call" and frame.f_code is millitokens.__code__:
            lengths.append(len(frame.f_locals["text"]))

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return lengths


@each(
    "shape, fields",
    [
        (CHAT, {}),
        (CHAT, {"tools": [TOOL]}),
        (MESSAGES, {"system": "the rules"}),
        (RESPONSES, {"instructions": "the rules"}),
    ],
)
def test_each_text_has_the_estimate_of_its_family(shape: Shape, fields: dict[str, Any]) -> None:
    request = asked("yes", "größer " * 50, shape=shape, **fields)
    for family in ("U", "claude3", "o200k"):
        texts = [message_text(bytes(raw)) for raw in message_slices(shape, request)]
        assert sizes_of(request, shape, family) == TextSizes(
            family,
            1 + millitokens(fields_text(shape, request), family),
            tuple(1 + millitokens(text, family) for text in texts),
        )


def test_what_the_provider_declares_of_its_tools_is_estimated_at_its_most() -> None:
    def fields(kind: str) -> int:
        return sizes_of(asked("x", shape=MESSAGES, tools=[{"type": kind, "name": "n"}]), MESSAGES).fields

    assert fields("computer_20250124") - fields("custom") > 1000 * 4000
    assert fields("bash_20250124") - fields("custom") > 1000 * 1000


def test_the_same_fields_of_two_apis_are_estimated_each() -> None:
    """The messages API has the system's text there; for another it is a field that is passed on, or not sent."""
    body = {"model": "a/b", "max_tokens": 9, "output_config": {new(): [1, 2, 3]}}
    message = [{"role": "user", "content": "x"}]
    sizes = [
        run_steps(text_sizes(shape, read(shape, {**body, shape.prompt_field: message}, "pass"), "U")).fields
        for shape in (CHAT, MESSAGES)
    ]
    assert sizes[0] < sizes[1]  # only the latter's template writes it with an indent


def test_messages_of_few_bytes_are_estimated_in_steps_too() -> None:
    texts = [new() for _ in range(400)]
    steps = list(text_sizes(CHAT, asked(*texts), "U"))
    assert len(steps) >= 400 * NEW_MESSAGE_COST // STEP_COST


def test_a_longer_conversation_estimates_only_what_is_new() -> None:
    first, second, third = new(), new() * 2, new() * 3
    fields: dict[str, Any] = {"tools": [{**TOOL, "description": new()}]}
    names = len("role\nuser\ncontent\n")
    assert sorted(estimated_bytes(lambda: sizes_of(asked(first, second, **fields))))[:2] == [32 + names, 64 + names]
    assert estimated_bytes(lambda: sizes_of(asked(first, second, third, **fields))) == [96 + names]
    assert estimated_bytes(lambda: sizes_of(asked(first, second, third, **fields))) == []
    assert estimated_bytes(lambda: sizes_of(asked(third, first, temperature=1, **fields))) == []
    assert len(estimated_bytes(lambda: sizes_of(asked(first, **fields), family="o200k"))) == 2


def test_other_fields_are_estimated_again_and_their_messages_are_not() -> None:
    text = new()
    sizes_of(asked(text))
    assert len(estimated_bytes(lambda: sizes_of(asked(text, tools=[{**TOOL, "description": new()}])))) == 1


def test_a_text_in_place_of_messages_is_one_message() -> None:
    text = new()
    request = read(RESPONSES, {"model": "a/b", "input": text})
    assert sizes_of(request, RESPONSES).messages == (1 + millitokens(text.encode(), "U"),)


def test_what_comes_after_a_known_prefix_is_summed() -> None:
    sizes = TextSizes("U", 1000, (10, 200, 3))
    assert sizes.after(None) == 1213
    assert [sizes.after(count) for count in range(4)] == [213, 203, 3, 0]


def test_a_long_message_is_estimated_apart_and_many_short_ones_in_steps() -> None:
    """Else others would wait for it."""
    long, short = STEP_COST // ESTIMATE_COST, STEP_COST // ESTIMATE_COST // 4
    works = list(drained(asked(new() * (long // 32))))
    assert [work is None for work in works] == [True, False]
    works = list(drained(asked(*(new() * (short // 32) for _ in range(12)))))
    assert works == [None] * len(works)
    assert 12 // 4 - 1 <= len(works) <= 12 // 2


def test_long_fields_are_estimated_apart() -> None:
    works = list(drained(asked("hi", tools=[{**TOOL, "description": new() * (STEP_COST // 32)}])))
    assert [callable(work) for work in works] == [True]


def drained(request: Request) -> Any:
    steps = text_sizes(CHAT, request, "U")
    reply = None
    try:
        while True:
            work = steps.send(reply)
            yield work
            reply = None if work is None else work()
    except StopIteration:
        return
