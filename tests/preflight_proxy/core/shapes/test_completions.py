"""Text completions: one prompt a call, as text or tokens."""

import json

import pytest

from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.request_writer import write_request
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.core.sse import Event
from tests.support.cases import each
from tests.support.events import events
from tests.support.quote_cases import COMPLETIONS, read


@each("prompt, size", [("abc", 3), (["abc"], 3), ([1, 20_000, 3, 4], 4), ([[1, 20_000]], 2), ("", 0)])
def test_one_prompt_is_a_text_or_an_array_of_tokens(prompt: object, size: int) -> None:
    assert read(COMPLETIONS, {"model": "a/b", "prompt": prompt}).prompt.ascii_bytes == size


@each("prompt", [None, True, [], ["a", "b"], [[1], [2]], ["a", 1], [1, "a"], [None]])
def test_no_prompt_or_several_are_refused(prompt: object) -> None:
    with pytest.raises(BadRequest):
        read(COMPLETIONS, {"model": "a/b", "prompt": prompt})


def test_a_suffix_is_text_too() -> None:
    assert read(COMPLETIONS, {"model": "a/b", "prompt": "ab", "suffix": "cd"}).prompt.ascii_bytes == 4


def test_the_bound_is_written() -> None:
    request = read(COMPLETIONS, {"model": "a/b", "prompt": "x", "max_tokens": 100})
    assert json.loads(write_request(request, bound=50, only=(), max_price={}))["max_tokens"] == 50


def test_answers_are_read_as_chats_are() -> None:
    told = COMPLETIONS.read_body(b'{"id":"gen-1","choices":[{"text":"x","finish_reason":"length"}],"usage":{"cost":1}}')
    assert told == Reading("gen-1", usage=CallUsage(10**12), finish="length", terminal=True)
    assert COMPLETIONS.read_event(Event(b"", data=b'{"usage":{"cost":1}}')).usage == CallUsage(10**12)


def test_a_cut_is_an_error_chunk_with_text() -> None:
    event, _done = events(COMPLETIONS.cut(Reading(), 0, "why"))
    told = json.loads(event.data)
    assert (told["object"], told["choices"][0]["text"]) == ("text_completion", "")
    assert COMPLETIONS.read_event(event).error
