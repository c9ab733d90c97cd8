"""What an answer without a 2xx proves, and what is done about it (M13 ii, M20)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.refusals.upstream_refusal import (
    EDGE_STATUSES,
    FREE_STATUSES,
    NO_INSTANCES,
    RETRY_AFTER_S_DEFAULT,
    RETRY_AFTER_S_MIN,
    Remedy,
    never_served,
    read_refusal,
    told_generation,
)
from tests.support.cases import each


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
        ("999999", 999_999.0),
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
    "status, message, metadata, cause",
    [
        (402, "Insufficient credits. Add more", {}, Code.ACCOUNT_CREDIT),
        (402, "Insufficient credits", {"limit_source": "openrouter_credits"}, Code.ACCOUNT_CREDIT),
        (402, "words that nobody knows", {}, Code.ACCOUNT_CREDIT),
        (402, "but can only afford 9. visit https://openrouter.ai/settings/credits", {}, Code.ACCOUNT_AFFORDS),
        (402, "Prompt tokens limit exceeded: 15000 > 9000. visit /settings/credits", {}, Code.ACCOUNT_AFFORDS),
        (402, "no", {"reason": "weight_exceeds_budget"}, Code.ACCOUNT_AFFORDS),
        (402, "no", {"limit_source": "openrouter_in_flight_budget"}, Code.ACCOUNT_AFFORDS),
        (402, "but can only afford 9", {"limit_source": "openrouter_key_limit"}, Code.KEY_LIMIT),
        (402, "but can only afford 9. visit https://openrouter.ai/settings/keys", {}, Code.KEY_LIMIT),
        (402, "Prompt tokens limit exceeded: 2 > 1. visit https://openrouter.ai/settings/keys", {}, Code.KEY_LIMIT),
        (403, "Key limit exceeded (total limit).", {}, Code.KEY_LIMIT),
        (403, "no", {"limit_source": "openrouter_key_limit"}, Code.KEY_LIMIT),
        (403, "no", {"limit_source": "openrouter_guardrail_budget"}, Code.KEY_LIMIT),
        (403, "no", {"limit_source": "openrouter_workspace_budget"}, Code.KEY_LIMIT),
    ],
)
def test_a_refusal_for_money_says_whose(status: int, message: str, metadata: dict[str, str], cause: Code) -> None:
    assert read_refusal(status, envelope(message, metadata=metadata), None).cause is cause


KEYS_PAGE = "To increase, visit https://openrouter.ai/settings/keys"


@each(
    "status, message, source, is_key_check",
    [
        (402, "but can only afford 9.", "openrouter_key_limit", True),
        (402, "Prompt tokens limit exceeded: 2 > 1.", "openrouter_key_limit", True),
        (402, f"but can only afford 9. {KEYS_PAGE}", None, True),
        (402, f"Prompt tokens limit exceeded: 2 > 1. {KEYS_PAGE}", None, True),
        (402, "but can only afford 9.", "openrouter_credits", False),
        (402, "Prompt tokens limit exceeded: 2 > 1. visit /settings/credits", None, False),
        (402, "words that nobody knows", "openrouter_key_limit", False),
        (403, "Key limit exceeded (total limit).", "openrouter_key_limit", False),
        (403, f"but can only afford 9. {KEYS_PAGE}", "openrouter_key_limit", False),
        (429, "but can only afford 9.", "openrouter_key_limit", False),
    ],
)
def test_a_check_of_a_calls_size_by_the_keys_limit_is_a_402_that_says_so(
    status: int, message: str, source: str | None, is_key_check: bool
) -> None:
    metadata = {} if source is None else {"limit_source": source}
    assert read_refusal(status, envelope(message, metadata=metadata), None).is_key_check is is_key_check


@each(
    "text, affords",
    [
        ("1200. To increase, visit", 1200),
        ("1200", 1200),
        ("0.", 0),
        ("007.", 7),
        ("999999999", 999_999_999),
        ("9999999999", None),
        ("1,200.", None),
        ("1200.5.", None),
        ("-5", None),
        ("+5", None),
        ("\u0663", None),
        ("twelve", None),
        ("", None),
    ],
)
def test_the_bound_that_is_affordable_is_a_whole_number(text: str, affords: int | None) -> None:
    body = envelope(f"You requested up to 64000 tokens, but can only afford {text}")
    assert read_refusal(402, body, None).affords == affords
    assert read_refusal(403, body, None).affords is None


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


EDGE = [("Server", "cloudflare"), ("CF-RAY", "8f00aa11bb22cc33-FRA")]
PAGE = b"<html><body><h1>Error</h1></body></html>"
NOBODY = b'{"error":{"code":503,"message":"No instances available","metadata":{"error_type":"x","provider_name":null}}}'
FILTERED = b'{"error":{"code":503,"message":"no","availability":{"code":"constraint_filtered"}},"request_id":null}'


@each("status", sorted(EDGE_STATUSES))
def test_cloudflares_own_refusal_proves_that_nobody_was_called(status: int) -> None:
    assert {403, 413, 429, 521, 523} == EDGE_STATUSES
    assert never_served(status, EDGE, PAGE)
    assert never_served(status, [(name.lower(), value.upper()) for name, value in EDGE], b"")


@each("status", [*range(300, 403), *range(404, 413), *range(414, 429), *range(430, 521), 522, *range(524, 600)])
def test_no_other_status_of_cloudflares_proves_anything(status: int) -> None:
    """520, 522, 524 above all: OpenRouter may have had the call."""
    assert not never_served(status, EDGE, PAGE)


@each(
    "headers, body",
    [
        ([], PAGE),
        (EDGE[:1], PAGE),
        (EDGE[1:], PAGE),
        ([("Server", "nginx"), EDGE[1]], PAGE),
        ([("Server", "not cloudflare"), EDGE[1]], PAGE),
        ([EDGE[0], ("CF-RAY", "")], PAGE),
        ([*EDGE, ("X-Generation-Id", "gen-1")], PAGE),
        ([*EDGE, ("x-generation-id", "")], PAGE),
        ([*EDGE, ("X-Generation-Id", "no id at all /")], PAGE),
        (EDGE, b"<html>gen-1760000000-AbC</html>"),
        (EDGE, b'{"detail":"x","id":"gen-1"}'),
        (EDGE, None),
    ],
)
def test_without_one_of_its_marks_cloudflares_refusal_proves_nothing(
    headers: list[tuple[str, str]], body: bytes | None
) -> None:
    """Each condition dropped by itself; a body that was not read may hold anything."""
    for status in EDGE_STATUSES:
        assert not never_served(status, headers, body)


@each("status", [520, 521, 522, 523, 524, 500, 502, 504, 529])
def test_an_envelope_is_openrouters_own_and_not_cloudflares(status: int) -> None:
    for body in (NOBODY, FILTERED, envelope()):
        assert not never_served(status, EDGE, body)


@each("body", [NOBODY, FILTERED])
def test_an_envelope_that_says_that_nobody_could_be_called_proves_it(body: bytes) -> None:
    assert never_served(503, [], body)
    assert never_served(503, EDGE, body)
    assert NO_INSTANCES.encode() in NOBODY


@each(
    "body",
    [
        envelope("Service unavailable"),
        envelope("no instances available"),
        envelope("No instances available."),
        envelope("Error: No instances available"),
        envelope("no", availability=None),
        envelope("no", availability=True),
        envelope("no", availability="constraint_filtered"),
        envelope(NO_INSTANCES, metadata={"provider_name": "Azure"}),
        envelope(NO_INSTANCES, metadata={"previous_errors": [{"code": 429}]}),
        envelope(NO_INSTANCES, provider_name="Azure"),
        envelope(NO_INSTANCES, previous_errors=[{"code": 429}]),
        envelope("no", availability={"code": "x"}, metadata={"provider_name": "Azure"}),
        envelope("no", availability={"code": "x"}, metadata={"previous_errors": [{"code": 429}]}),
        NOBODY[:-1] + b',"id":"gen-1"}',
        NOBODY[:-1] + b',"id":"x"}',
        NOBODY[:-1] + b',"request_id":"req-1"}',
        FILTERED.replace(b"null", b'"gen-1"'),
        envelope(NO_INSTANCES, metadata={"raw": "gen-1760000000-AbC"}),
        b'{"error":{"message":"no"},"availability":{"code":"x"}}',
        PAGE,
        b"",
        None,
    ],
)
def test_any_other_503_proves_nothing(body: bytes | None) -> None:
    assert not never_served(503, [], body)
    assert not never_served(503, EDGE, body)


@each("status", [500, 502, 504, 529])
def test_the_same_words_under_another_status_prove_nothing(status: int) -> None:
    assert not never_served(status, [], NOBODY)
    assert not never_served(status, [], FILTERED)


def test_a_503_whose_head_names_a_generation_proves_nothing() -> None:
    assert not never_served(503, [("X-Generation-Id", "gen-1")], NOBODY)


@given(st.integers(100, 599), st.none() | st.binary(max_size=60))
def test_without_cloudflares_headers_no_bytes_prove_anything(status: int, body: bytes | None) -> None:
    assert not never_served(status, [("Server", "nginx")], body)


@each(
    "retry_after, resets_at, seconds, names_time",
    [
        (None, "1760000010000", 10.0, True),
        (None, "1760000010500", 10.5, True),
        ("7", "1760000010000", 7.0, True),
        ("soon", "1760000010000", 10.0, True),
        (None, "1760000000000", RETRY_AFTER_S_MIN, True),
        (None, "5", RETRY_AFTER_S_MIN, True),
        (None, "99999999999999", 99_999_999_999.999 - 1_760_000_000, True),
        (None, "999999999999999", RETRY_AFTER_S_DEFAULT, False),
        (None, "-1", RETRY_AFTER_S_DEFAULT, False),
        (None, "tomorrow", RETRY_AFTER_S_DEFAULT, False),
        (None, None, RETRY_AFTER_S_DEFAULT, False),
    ],
)
def test_the_time_of_a_reset_is_a_wait_too(
    retry_after: str | None, resets_at: str | None, seconds: float, names_time: bool
) -> None:
    refusal = read_refusal(429, envelope(), retry_after, resets_at=resets_at, now_s=1_760_000_000.0)
    assert refusal.retry_after_s == pytest.approx(seconds)
    assert refusal.names_time is names_time


@each("told", [{"X-RateLimit-Reset": "1760000010000"}, {"X-RateLimit-Reset": 5}, {}, [], None, "x"])
def test_the_reset_is_read_in_the_body_as_well(told: object) -> None:
    refusal = read_refusal(429, envelope(metadata={"headers": told}), None, now_s=1_760_000_000.0)
    in_text = isinstance(told, dict) and told.get("X-RateLimit-Reset") == "1760000010000"
    assert refusal.retry_after_s == (10.0 if in_text else RETRY_AFTER_S_DEFAULT)


@each(
    "message, cause, free_models",
    [
        ("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000", Code.DAILY_LIMIT, True),
        ("Rate limit exceeded: free-models-per-day-high-balance", Code.DAILY_LIMIT, True),
        ("Rate limit exceeded: limit_rpd/meta/one", Code.DAILY_LIMIT, False),
        ("You have reached the daily limit", Code.DAILY_LIMIT, False),
        ("Rate limit exceeded: free-models-per-min", Code.HELD, True),
        ("Provider returned error", Code.HELD, False),
    ],
)
def test_a_limit_for_the_day_is_told_from_one_that_passes(message: str, cause: Code, free_models: bool) -> None:
    refusal = read_refusal(429, envelope(message), None)
    assert (refusal.cause, refusal.free_models) == (cause, free_models)
