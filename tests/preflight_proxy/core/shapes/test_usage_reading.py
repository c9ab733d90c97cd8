"""Answers are read leniently: what is there is taken, what is not is missing."""

from preflight_proxy.core.shapes import usage_reading
from preflight_proxy.core.shapes.shape import CallUsage
from tests.support.cases import each


@each("raw", [None, b"", b"[]", b"null", b"\xff", b"{"])
def test_what_is_no_object_has_no_slices(raw: bytes | None) -> None:
    assert usage_reading.slices(raw) == {}


@each("raw", [None, b"", b"{}", b"null"])
def test_what_is_no_array_has_no_items(raw: bytes | None) -> None:
    assert list(usage_reading.items(raw)) == []


def test_what_is_too_deep_or_has_too_many_values_is_not_read() -> None:
    deep, many = b"[" * 100_000, b"," * (usage_reading.VALUES_MAX + 1)
    for raw in (deep, b"[1%b1]" % many, b'{"a":1%b}' % many):
        assert usage_reading.slices(raw) == {}
        assert list(usage_reading.items(raw)) == []


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
    assert usage_reading.text(raw) == text


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
    assert usage_reading.count(raw) == count


def test_usage_is_read_with_its_details() -> None:
    usage = usage_reading.chat_usage(
        b'{"prompt_tokens":1000,"completion_tokens":50,"cost":0.00159,"is_byok":false,'
        b'"prompt_tokens_details":{"cached_tokens":800,"cache_write_tokens":7},"completion_tokens_details":{"reasoning_tokens":20}}'
    )
    assert usage == CallUsage(1_590_000_000, 1000, 800, 7, 50, 20, False)


@each("cost", [b"null", b'"0.5"', b"-1", b"1e900000", b"[]", b"true", b"1" * 5000])
def test_a_cost_that_cannot_be_read_is_missing_and_not_zero(cost: bytes) -> None:
    usage = usage_reading.chat_usage(b'{"prompt_tokens":3,"cost":' + cost + b"}")
    assert usage is not None
    assert usage.cost_pusd is None
    assert usage.prompt_tokens == 3


def test_usage_that_is_absent_or_null_is_none() -> None:
    assert usage_reading.chat_usage(None) is None
    assert usage_reading.chat_usage(b"null") is None


@each(
    "details, cost",
    [
        (b',"cost_details":{"upstream_inference_cost":0.5}', 600_000_000_000),
        (b',"cost_details":{"upstream_inference_cost":null}', None),
        (b"", None),
    ],
)
def test_on_a_key_of_ones_own_the_providers_bill_is_added(details: bytes, cost: int | None) -> None:
    usage = usage_reading.chat_usage(b'{"cost":0.1,"is_byok":true' + details + b"}")
    assert usage is not None
    assert usage.is_byok
    assert usage.cost_pusd == cost


@each("generation_id, epoch", [("gen-1760000000-AbC", 1_760_000_000), ("resp_1", 0), (None, 0)])
def test_the_time_of_a_generation_is_in_its_id(generation_id: str | None, epoch: int) -> None:
    assert usage_reading.created(generation_id) == epoch
