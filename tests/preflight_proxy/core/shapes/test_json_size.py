"""The computed length is what a template's serialiser writes, and depth is bounded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.json_size import DEPTH_MAX, indented_bytes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(VALUES)
def test_no_serialisation_with_indent_4_is_longer(value: object) -> None:
    size = indented_bytes(body.value(json.dumps(value).encode()))
    assert size >= len(json.dumps(value, indent=4, ensure_ascii=True))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_becomes_longer_than_it_is_counted(number: float) -> None:
    assert indented_bytes(body.value(json.dumps(number).encode())) >= len(json.dumps(number))


def test_a_deep_schema_is_counted_at_what_it_becomes() -> None:
    schema: object = {}
    for _ in range(DEPTH_MAX - 1):
        schema = {"p": schema}
    size = indented_bytes(body.value(json.dumps(schema).encode()))
    assert size >= len(json.dumps(schema, indent=4))
    assert size > 10 * len(json.dumps(schema))


def test_more_than_64_levels_are_refused() -> None:
    deep = b'{"a":' * (DEPTH_MAX + 2) + b"1" + b"}" * (DEPTH_MAX + 2)
    with pytest.raises(BadRequest, match="64 levels"):
        indented_bytes(body.value(deep))
