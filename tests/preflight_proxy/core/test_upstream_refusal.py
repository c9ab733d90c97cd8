"""What an answer without a 2xx proves, and what is done about it (M13 ii, M20)."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.upstream_refusal import (
    FREE_STATUSES,
    RETRY_AFTER_S_DEFAULT,
    RETRY_AFTER_S_MIN,
    Remedy,
    read_refusal,
    told_generation,
)
from tests.cases import each


def envelope(message: str = "no", **more: Any) -> bytes:
    return json.dumps({"error": {"code": 400, "message": message, **more}}).encode()


def limited(source: str) -> bytes:
    return envelope(metadata={"limit_source": source})


@each("status", sorted(FREE_STATUSES))
def test_these_statuses_in_the_envelope_prove_that_nothing_was_charged(status: int) -> None:
    refusal = read_refusal(status, envelope(), None)
    assert (refusal.status, refusal.is_envelope, refusal.proves_free) == (status, True, True)


@each("status", [300, 307, 308, 405, 408, 410, 418, 425, 451, 499, 500, 502, 503, 504, 520, 524, 529])
def test_any_other_status_proves_nothing(status: int) -> None:
    refusal = read_refusal(status, envelope(), None)
    assert (refusal.is_envelope, refusal.proves_free, refusal.remedy) == (True, False, Remedy.PASS)


@each(
    "body",
    [
        b"",
        b"<html>429 Too Many Requests</html>",
        b"null",
        b"[]",
        b'"error"',
        b'{"error": "no"}',
        b'{"error": null}',
        b'{"error": {}}',
        b'{"error": {"message": 5}}',
        b'{"message": "no"}',
        b'{"error": {"message": "cut',
        b'{"error": {"message": "\xff"}}',
        b"[" * 100_000,
        b'{"error":' * 100_000,
    ],
)
def test_a_body_that_is_no_envelope_proves_nothing(body: bytes) -> None:
    """A proxy on the way, or a page of somebody else's, says nothing about a charge."""
    for status in (402, 429, 502):
        refusal = read_refusal(status, body, "1")
        assert (refusal.is_envelope, refusal.proves_free, refusal.remedy) == (False, False, Remedy.PASS), status


def test_anthropics_dialect_is_an_envelope_too() -> None:
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: required"}}'
    assert read_refusal(400, body, None).proves_free


@each("odd", [None, "text", [], [{"a": 1}], 5, True, {"limit_source": ["x"]}, {"limit_source": 5}])
def test_details_of_another_type_do_not_unmake_the_proof(odd: object) -> None:
    refusal = read_refusal(400, envelope(metadata=odd, availability=odd), None)
    assert (refusal.is_envelope, refusal.proves_free) == (True, True)


@each(
    "status, body, retry_after, remedy",
    [
        (402, limited("openrouter_credits"), None, Remedy.REWRITE),
        (402, limited("openrouter_in_flight_budget"), "3", Remedy.WAIT_PROCESS),
        (402, limited("openrouter_in_flight_budget"), None, Remedy.REWRITE),
        (402, limited("openrouter_key_limit"), None, Remedy.FREEZE),
        (402, limited("openrouter_key_limit"), "3", Remedy.FREEZE),
        (402, envelope("Insufficient credits"), "3", Remedy.REWRITE),
        (403, limited("openrouter_key_limit"), None, Remedy.FREEZE),
        (403, envelope("Key limit exceeded (total limit)."), None, Remedy.FREEZE),
        (403, limited("openrouter_workspace_budget"), None, Remedy.REWRITE),
        (403, envelope("This content was flagged"), None, Remedy.PASS),
        (403, envelope("flagged", metadata={"reasons": ["x"]}), None, Remedy.PASS),
        (404, envelope("no endpoints", availability={"constraint": "max_price"}), None, Remedy.REQUOTE),
        (404, envelope("no endpoints", availability={"constraint": "data_policy"}), None, Remedy.PASS),
        (404, envelope("no endpoints"), None, Remedy.PASS),
        (429, envelope("rate limited"), "7", Remedy.WAIT_MODEL),
        (429, envelope("rate limited"), None, Remedy.WAIT_MODEL),
        (400, envelope("max_price"), None, Remedy.PASS),
        (401, envelope("No auth"), None, Remedy.PASS),
    ],
)
def test_each_refusal_has_its_remedy(status: int, body: bytes, retry_after: str | None, remedy: Remedy) -> None:
    assert read_refusal(status, body, retry_after).remedy is remedy


@each(
    "header, seconds",
    [
        ("1", 1.0),
        ("30", 30.0),
        ("0", RETRY_AFTER_S_MIN),
        (None, RETRY_AFTER_S_DEFAULT),
        ("", RETRY_AFTER_S_DEFAULT),
        ("-1", RETRY_AFTER_S_DEFAULT),
        ("1.5", RETRY_AFTER_S_DEFAULT),
        ("1e3", RETRY_AFTER_S_DEFAULT),
        ("٣", RETRY_AFTER_S_DEFAULT),
        ("9" * 400, RETRY_AFTER_S_DEFAULT),
        ("Wed, 21 Oct 2026 07:28:00 GMT", RETRY_AFTER_S_DEFAULT),
    ],
)
def test_the_wait_is_what_the_header_asks_for_and_never_none(header: str | None, seconds: float) -> None:
    """Asked for no wait at all, the proxy still does not knock in a loop."""
    assert read_refusal(429, envelope(), header).retry_after_s == seconds


@given(st.integers(100, 599), st.binary(max_size=60), st.none() | st.text(max_size=8))
def test_no_bytes_make_it_raise(status: int, body: bytes, retry_after: str | None) -> None:
    refusal = read_refusal(status, body, retry_after)
    assert not refusal.proves_free or status in FREE_STATUSES


@each("told, provider", [("Azure", "Azure"), (None, None), (5, None), (["Azure"], None)])
def test_the_provider_that_refused_is_read_where_it_is_named(told: object, provider: str | None) -> None:
    assert read_refusal(429, envelope(metadata={"provider_name": told}), None).provider == provider


@each(
    "body, told",
    [
        (b'{"request_id":"gen-1","error":{}}', "gen-1"),
        (b'{"id":"gen-1","request_id":"req-2"}', "gen-1"),
        (b'{"id":"err-1","request_id":"gen-2"}', "gen-2"),
        (b'{"request_id":null}', None),
        (b'{"request_id":["gen-1"]}', None),
        (b'{"request_id":"req-1"}', None),
        (b"<html>gen-1</html>", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_generation_that_an_error_names(body: bytes, told: str | None) -> None:
    assert told_generation(body) == told
