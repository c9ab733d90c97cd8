"""Every shape stands behind the one interface, under its own path."""

import pytest

from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.shape import Reading, Shape
from tests.support.cases import each


def test_the_table_leads_from_path_to_shape() -> None:
    assert {path: shape.name for path, shape in SHAPES.items()} == {
        "/chat/completions": "chat",
        "/responses": "responses",
        "/messages": "messages",
        "/completions": "completions",
        "/embeddings": "embeddings",
    }


@each("shape", SHAPES.values())
def test_a_shape_never_raises_on_an_answer(shape: Shape) -> None:
    for body in (b"", b"  \n", b"[]", b"null", b"\xff", b"{", b'{"usage":[]}', b"[" * 100_000, b'{"choices":7}'):
        read = shape.read_body(body)
        assert read.usage is None or read.usage.cost_pusd is None


@each("shape", SHAPES.values())
def test_an_encoded_body_is_a_415(shape: Shape) -> None:
    with pytest.raises(BadRequest) as caught:
        shape.read(b"{}", {"Content-Encoding": "gzip"}, "drop")
    assert caught.value.status == 415


def test_a_reading_is_empty_unless_something_was_said() -> None:
    assert Reading() == Reading(None, None, None, None, None, False, False, ())
