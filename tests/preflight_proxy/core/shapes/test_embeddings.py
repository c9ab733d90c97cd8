"""Embeddings: inputs alone are priced."""

import json

import pytest

from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.request_writer import write_request
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.core.sse import Event
from tests.support.cases import each
from tests.support.quote_cases import EMBEDDINGS, read


@each("texts, count, size", [("abc", 1, 3), (["a", "bc"], 2, 3), ([[1, 2], [3]], 2, 3), ([1, 2], 1, 2)])
def test_texts_and_tokens_are_counted(texts: object, count: int, size: int) -> None:
    prompt = read(EMBEDDINGS, {"model": "a/b", "input": texts}).prompt
    assert (prompt.sequence_count, prompt.ascii_bytes) == (count, size)


def test_an_input_of_parts_is_one() -> None:
    parts = [{"content": [{"type": "text", "text": "abc"}, {"type": "image_url", "image_url": {"url": "http://x"}}]}]
    prompt = read(EMBEDDINGS, {"model": "a/b", "input": parts}).prompt
    assert (prompt.sequence_count, prompt.opaque_media) == (1, True)


@pytest.mark.parametrize("texts", [[], None])
def test_nothing_to_embed_is_a_400(texts: object) -> None:
    with pytest.raises(BadRequest):
        read(EMBEDDINGS, {"model": "a/b", "input": texts})


def test_no_bound_is_written() -> None:
    request = read(EMBEDDINGS, {"model": "a/b", "input": "x", "dimensions": 8})
    assert write_request(
        request, bound=0, only=(), max_price={}
    ) == b'{"model":"a/b","input":"x","dimensions":8}'.replace(b":", b":")
    assert (request.bound, request.bound_fields) == (None, ())


def test_the_cost_is_in_the_usage() -> None:
    usage = CallUsage(160_000, 8)
    assert EMBEDDINGS.read_body(b'{"data":[],"usage":{"prompt_tokens":8,"cost":1.6e-7}}').usage == usage
    assert EMBEDDINGS.read_event(Event(b"", data=b'{"usage":{"prompt_tokens":8,"cost":1.6e-7}}')).usage == usage


def test_a_cut_is_an_error_body() -> None:
    assert json.loads(EMBEDDINGS.cut(Reading(), 0, "why"))["error"]["message"] == "why"
