"""What became of an account's calls: counted by cause, with the last word in order."""

import json

import msgspec

from preflight_proxy.core.refusals.outcomes import (
    CAUSES_MAX,
    LEFT,
    MODEL_CHARS_MAX,
    NONE_YET,
    TEXT_CHARS_MAX,
    Cause,
    Outcomes,
    answered_upstream,
    bad_request,
    failed_upstream,
    refused,
)
from preflight_proxy.core.refusals.refusals import Code, Source
from preflight_proxy.core.secret import Secret
from tests.support.cases import each

DEAR = refused(Code.DOES_NOT_FIT, "m/x")
GONE = failed_upstream("Not to be reached.", "m/x")
LATE = refused(Code.FROZEN, "m/x")


def after(*causes: Cause | None) -> Outcomes:
    outcomes = NONE_YET
    for cause in causes:
        outcomes = outcomes.with_served() if cause is None else outcomes.with_unserved(cause)
    return outcomes


def test_each_code_of_ours_has_a_source() -> None:
    budget = [code for code in Code if refused(code, "").source is Source.BUDGET]
    assert budget == [Code.SPENT, Code.DOES_NOT_FIT]
    upstream = [code for code in Code if refused(code, "").source is Source.UPSTREAM]
    assert upstream == [
        *(Code.UNREACHABLE, Code.PRICE_STALE, Code.KEY_LIMIT, Code.TRIAL_KEY_LIMIT),
        *(Code.ACCOUNT_CREDIT, Code.ACCOUNT_AFFORDS, Code.DAILY_LIMIT, Code.HELD),
    ]
    assert refused(Code.FROZEN, "").source is Source.END


def test_causes_are_counted_each_with_the_model_of_its_first_call() -> None:
    outcomes = after(None, DEAR, GONE, refused(Code.DOES_NOT_FIT, "m/other"), None)
    assert [(cause.code, cause.model, cause.count) for cause in outcomes.causes] == [
        ("does_not_fit", "m/x", 2),
        ("upstream_failed", "m/x", 1),
    ]
    assert (outcomes.served, outcomes.unserved, outcomes.last) == (2, 3, None)


def test_since_the_last_served_call_counts_what_came_after_it() -> None:
    outcomes = after(GONE, None, GONE, DEAR, GONE)
    assert (outcomes.since_served, outcomes.since_served_upstream, outcomes.last) == (3, 2, GONE)


@each("cause", [LEFT, LATE])
def test_who_hung_up_and_what_came_after_the_end_is_counted_and_is_not_the_last_word(cause: Cause) -> None:
    outcomes = after(None, DEAR, cause)
    assert (outcomes.last, outcomes.since_served, outcomes.unserved) == (DEAR, 1, 2)


def test_a_call_that_was_under_way_when_the_budget_refused_another_is_not_the_last_word() -> None:
    refused_last = after(None, DEAR)
    assert refused_last.with_served(overtaken=True).last == DEAR
    assert refused_last.with_unserved(GONE, overtaken=True).last == DEAR
    assert refused_last.with_served().last is None
    assert after(GONE).with_served(overtaken=True).last is None


def test_an_agent_that_words_wrong_requests_without_end_swells_nothing() -> None:
    outcomes = after(*(bad_request(f"field {number}") for number in range(100)))
    assert len(outcomes.causes) == CAUSES_MAX + 1
    assert outcomes.unserved == 100
    assert outcomes.causes[-1].code == "other"


def test_texts_are_one_short_line_without_escapes() -> None:
    told = bad_request("a\n\x1b[31mred\ud800 \u202e" + "x" * 5000)
    assert told.text.startswith("a [31mred x")
    assert len(told.text) == TEXT_CHARS_MAX
    assert len(refused(Code.UNPRICED, "m" * 500).model) == MODEL_CHARS_MAX


def test_what_upstream_said_is_kept_unless_it_holds_the_key() -> None:
    body = json.dumps({"error": {"message": "No endpoint\nfor sk-or-1"}}).encode()
    assert answered_upstream(404, body, Secret("sk-or-2"), "m/x").detail == "No endpoint for sk-or-1"
    assert answered_upstream(404, body, Secret("sk-or-1"), "m/x").detail == ""
    escaped = b'{"error": {"message": "\\u0073k-or-1"}}'
    assert answered_upstream(404, escaped, Secret("sk-or-1"), "m/x").detail == ""


@each("body", [b"", b"<html>", b"[" * 100_000, b'{"error": 3}', b"\xff"])
def test_a_body_that_is_no_error_document_says_nothing(body: bytes) -> None:
    cause = answered_upstream(502, body, Secret(""), "m/x")
    assert (cause.code, cause.text, cause.detail) == ("upstream_502", "OpenRouter answered with status 502", "")


def test_one_status_is_one_cause_whatever_upstream_says_with_it() -> None:
    bodies = [json.dumps({"error": {"message": f"request {number}"}}).encode() for number in range(3)]
    (cause,) = after(*(answered_upstream(404, body, Secret(""), "m/x") for body in bodies)).causes
    assert (cause.count, cause.detail) == (3, "request 0")


def test_outcomes_come_back_from_the_ledger_and_from_the_control_socket() -> None:
    outcomes = after(None, DEAR, GONE)
    assert msgspec.json.decode(msgspec.json.encode(outcomes), type=Outcomes) == outcomes
