"""A request's top level: model, bound, digest, and both spellings of the bound."""

import json

import pytest

from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.request_writer import write_request
from tests.support.cases import each
from tests.support.quote_cases import CHAT, MESSAGES, RESPONSES, chat, read


def emitted(bound: int | None, **fields: object) -> dict[str, object]:
    written = json.loads(write_request(chat(**fields), bound=bound, only=(), max_price={}))
    assert isinstance(written, dict)
    return written


def test_the_smaller_of_both_spellings_is_what_was_asked() -> None:
    asked = chat(max_tokens=100, max_completion_tokens=200)
    assert (asked.bound, asked.bound_fields) == (100, ("max_completion_tokens", "max_tokens"))
    assert chat().bound is None


def test_both_spellings_are_written_equal() -> None:
    for fields in ({}, {"max_tokens": 100}, {"max_completion_tokens": 100}, {"max_tokens": None}):
        written = emitted(50, **fields)
        assert written["max_tokens"] == written["max_completion_tokens"] == 50


def test_no_bound_is_written_where_none_is_given() -> None:
    assert not {"max_tokens", "max_completion_tokens"} & emitted(None).keys()
    assert emitted(None, max_tokens=7)["max_tokens"] == 7


def test_the_same_request_has_the_same_digest_whatever_its_labels_and_their_order() -> None:
    first = chat(user="a", metadata={"try": 1}, max_tokens=7)
    again = chat(max_tokens=7, metadata={"try": 2}, user="b")
    assert first.digest == again.digest
    assert first.digest != chat(max_tokens=8).digest
    assert first.digest != chat("other", max_tokens=7).digest


def test_dropped_fields_make_no_other_request_but_a_provider_wish_does() -> None:
    assert chat(new=1).digest == chat(new=2).digest
    assert chat(provider={"only": ["a"]}).digest != chat(provider={"only": ["b"]}).digest


@each("shape", [CHAT, RESPONSES, MESSAGES])
def test_a_request_without_its_prompt_is_a_400(shape: object) -> None:
    with pytest.raises(BadRequest, match="missing"):
        read(shape, {"model": "a/b"})  # type: ignore[arg-type]


def test_a_stream_is_asked_for_by_true_alone() -> None:
    assert chat(stream=True).stream
    assert not chat(stream=False).stream
    assert not chat().stream
