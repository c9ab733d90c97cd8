"""Bodies are cut into the bytes that came, and what could mean two things is refused."""

import json
import re
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.body import DEPTH_MAX, BadRequest, Number, indented_bytes
from preflight_proxy.core.shapes.steps import run_steps
from tests.support.cases import each

NOT_AN_OBJECT = [
    b"",
    b" ",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"{",
    b"{}x",
    b"\xef\xbb\xbf{}",
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":01}',
    b'{"a":[1,]}',
    b"{'a':1}",
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\\ud800"}',
    b'{"\\udc00":1}',
    b'{"a":"\x01"}',
    b"\x1f\x8b\x08\x00gzip",
]


@each("raw", NOT_AN_OBJECT)
def test_what_is_no_json_object_is_a_400(raw: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        body.top_level(raw)
    assert caught.value.status == 400


HALVES = [
    b'{"a":"@\\ud83d"}',
    b'{"a":"@\\udC00"}',
    b'{"a":"@\\uDBFF"}',
    b'{"a":["x",{"b":"y@\\ud83d and more text than a pair is long"}]}',
    b'{"a":"@\\uD83D\\u0041"}',
    b'{"a":"@\\ud83d\\n\\n\\n\\n"}',
    b'{"a":"@\\ud83d\\ud83d\\ude00"}',
    b'{"a":"\\ud83d\\ude00@\\ude00"}',
    b'{"a":"\\ud83d\\ude00@\\ud83d" ,  "b":  1}',
    b'{"a":"\\\\ud83d@\\udc00 and more"}',
    b'{"a":"\\\\@\\ud83d and more"}',
    b'{"@\\ud83d":1,"b":2,"c":3}',
    b'{"a":"' + b"x" * 100_000 + b'@\\ud83d"}',
    b'{"a":"@\\ud83d',
    b'{"a":"@\xed\xa0\xbd"}',
]


@each("raw", HALVES)
def test_half_of_a_surrogate_pair_is_told_with_its_place(raw: bytes) -> None:
    """Clients cut texts within a character, and then send it with every call: they must learn which one."""
    place = raw.index(b"@")
    with pytest.raises(BadRequest, match=rf"half of a surrogate pair at byte {place}: ") as caught:
        body.top_level(raw.replace(b"@", b""))
    assert caught.value.status == 400


WHOLE = re.compile(rb"(?:[^\\]++|\\u[dD][89aAbB]..\\u[dD][c-fC-F]..|\\(?!u[dD][89a-fA-F]).)*+", re.DOTALL)
PIECES = [rb"\ud83d", rb"\ude00", rb"\ud83d\ude00", rb"\\", rb"\n", rb"\u0041", b"ab", b"ud83d", b"x" * 9]


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sampled_from([b'"}', b'","b":1}', b'"   ,"bbbbbbbb": 1}']))
def test_the_place_is_that_of_the_first_half_whatever_stands_around_it(pieces: list[bytes], tail: bytes) -> None:
    raw = b'{"a":"' + b"".join(pieces) + tail
    matched = WHOLE.match(raw)
    assert matched is not None
    if matched.end() == len(raw):
        assert body.top_level(raw)
        return
    with pytest.raises(BadRequest, match=f"at byte {matched.end()}: "):
        body.top_level(raw)


@each(
    "raw",
    [
        b'{"a":"\\ud83d\\ude00',
        b'{"a":"\\\\ud83d"',
        b'{"a":"\\ud83d\\ude00"]',
        b'{"a":"\\ud83"}',
        b'{"a":ud83d}',
        b'{"a":"x',
        b"{",
        b"",
    ],
)
def test_what_is_wrong_otherwise_is_not_told_as_half_a_pair(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="not a JSON object"):
        body.top_level(raw)


def test_whole_pairs_pass_as_they_came() -> None:
    raw = b'"\\ud83d\\ude00\\\\ud83d\\uD83D\\uDE00"'
    assert body.top_level(b'{"a":' + raw + b"}") == {"a": raw}


def test_bytes_that_are_no_utf8_are_told_with_their_place() -> None:
    for wrong in (b"\xff", b"\xff\xff", b"\xed", b"\xe9\xff"):
        with pytest.raises(BadRequest, match="not UTF-8 at byte 7"):
            body.top_level(b'{"a":"x' + wrong + b'"}')


def test_a_hundred_thousand_levels_are_a_400() -> None:
    with pytest.raises(BadRequest, match="deeply"):
        body.top_level(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(BadRequest, match="deeply"):
        body.value(b"[" * 100_000 + b"]" * 100_000)


def test_levels_are_bounded_far_below_what_recursion_allows() -> None:
    most, text = body.BODY_NESTING_MAX, b'["[[[["]' + b" " * 9
    assert body.value(b"[" * most + b"]" * most) != []
    assert body.value(text.replace(b"[[[[", b"[" * 999)) == ["[" * 999]
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(BadRequest, match="deeply"):
            body.value(opening * (most + 1) + b"1" + closing * (most + 1))


def test_more_values_than_may_be_walked_are_a_413() -> None:
    many = b'{"a":[' + b"1," * 60_000 + b"1]}"
    with pytest.raises(BadRequest) as caught:
        run_steps(body.check_values(many, many.count(b","), body.VALUES_MAX))
    assert caught.value.status == 413
    run_steps(body.check_values(many, many.count(b","), 60_000))
    run_steps(body.check_values(b'"' + many + b'"', many.count(b","), body.VALUES_MAX))


def test_commas_within_text_are_no_values() -> None:
    text = b"," * 5000 + b'\\",\\\\'
    assert body.count_commas(b'{"a":"' + text + b'","b":1,"c":[2,3]}') == 3
    assert body.count_commas(b'{"a":",,"}') == 2


@given(st.lists(st.text(alphabet='a,"\\\\\\n', max_size=40), max_size=60), st.integers(1, 50))
def test_commas_are_counted_wherever_the_windows_end(texts: list[str], window_bytes: int) -> None:
    raw = json.dumps([*texts, ",", ["x", 1]] + [","] * 1000).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body, "_WINDOW_BYTES", window_bytes)
        assert body.count_commas(raw) == len(texts) + 2 + 1000


def test_no_more_is_counted_than_says_that_it_is_too_much() -> None:
    many = b"[" + b"1," * 10**6 + b"1]"
    assert body.VALUES_MAX < body.count_commas(many) < body.VALUES_MAX + 10**5
    assert body.count_commas(many, 2 * 10**6) == 10**6


def test_escapes_without_end_take_no_longer_for_being_many() -> None:
    """Four times as many take about four times as long, not sixteen times."""

    def seconds(count: int) -> float:
        raw = b'["' + b'\\",' * count + b'"]'
        return min(timeit.repeat(lambda: body.count_commas(raw), number=1, repeat=5))

    assert seconds(400_000) < 10 * seconds(100_000)


def test_slices_are_the_bytes_that_came() -> None:
    raw = b'{ "a" : [1 ,  2.0e1] , "\\u0062":"\\u00e9\\/", "big":123456789012345678901234567890, "a2":{"z":1,"y":2} }'
    assert body.top_level(raw) == {
        "a": b"[1 ,  2.0e1]",
        "b": b'"\\u00e9\\/"',
        "big": b"123456789012345678901234567890",
        "a2": b'{"z":1,"y":2}',
    }


def test_of_a_key_that_comes_twice_only_the_last_is_kept() -> None:
    assert body.top_level(b'{"a":1,"\\u0061":2}') == {"a": b"2"}


@pytest.mark.parametrize("raw", [b'{"a":1,"a":2}', b'[{"x":{"a":1,"\\u0061":2}}]'])
def test_a_key_twice_within_a_value_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="twice"):
        body.value(raw)


@each("raw", [b"NaN", b"{", b"\xff", b""])
def test_a_value_that_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        body.value(raw)


def test_numbers_stay_text() -> None:
    decoded = body.value(b"[1e900000, 12345678901234567890123456789, -0.10]")
    assert decoded == ["1e900000", "12345678901234567890123456789", "-0.10"]
    assert isinstance(decoded, list)
    assert all(isinstance(item, Number) for item in decoded)
    assert Number("1e900000").decimal() is None
    assert Number("16").decimal() == 16
    assert Number("9" * 5000).decimal() is None


def test_arrays_are_cut_into_slices_and_nothing_else_is() -> None:
    assert [bytes(raw) for raw in body.elements(b"[1, {} ,[2]]")] == [b"1", b"{}", b"[2]"]
    with pytest.raises(BadRequest):
        body.elements(b"{}")


def test_arguments_are_read_as_leniently_as_a_template_does() -> None:
    assert body.arguments("no json") is None
    assert body.arguments('{"a":NaN}') == {"a": "NaN"}
    assert body.arguments('{"a":1,"a":[2]}') == {"0a": "1", "1a": ["2"]}
    with pytest.raises(BadRequest, match="deeply"):
        body.arguments("[" * 100_000)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_a_value_is_written_as_it_was_read(value: object) -> None:
    written = body.encode(body.value(json.dumps(value).encode()))
    assert json.loads(written) == value


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


def test_a_value_is_all_of_its_text_but_white_space() -> None:
    assert body.value(b" [1] \n") == ["1"]
    for raw in (b"1 2", b"[] x", b"{}}", b"", b" "):
        with pytest.raises(BadRequest, match="not JSON"):
            body.value(raw)
