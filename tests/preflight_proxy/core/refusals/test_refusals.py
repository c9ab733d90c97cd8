"""Refusals say one fixed sentence with a status on which clients stop, and no text of ours makes a client retry."""

import json
import re
from dataclasses import dataclass
from itertools import product

from preflight_proxy.core.pricing.fits import FIXED_TOKENS, PriceTier, PromptRate
from preflight_proxy.core.refusals.refusals import (
    OVERDUE,
    Code,
    Refusal,
    allowed_detail,
    answer,
    budget_headers,
    error_body,
)
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.shape import Reading
from tests.support.cases import each

RETRY_PATTERN = re.compile(
    r"429|500|502|503|504|524|rate.?limit|rate increased|too many requests|overloaded|exhausted|unavailable|at capacity"
    r"|provider.?returned.?error|(server|internal|network|connection|websocket).?error"
    r"|connection.?(refused|lost|was closed)|websocket.?closed"
    r"|fetch failed|failed to fetch|upstream.?connect|reset before headers|socket|other side closed|ended without"
    r"|ended before|http2 request"
    r"|timed? ?out|timeout|terminated|retry delay|try again|(try|retry) your request|econn|enotfound|eai_again|getaddrinfo"
    r"|prompt is too long|input is too long|context.?(length|window)|too many tokens|token limit exceeded"
    r"|exceeds the limit of \d|request_too_large|reduce the length of the messages"
    r"|overloaded_error|OAuth token has been revoked|credit balance is too low|server_error|insufficient_quota"
    r"|usage_not_included|context_length_exceeded",
    re.IGNORECASE,
)
"""Texts that clients were seen to retry, or to answer with a second call: pi, opencode, litellm, Claude Code, codex."""

PASSING = {Code.UNREACHABLE, Code.PRICE_STALE, Code.DAILY_LIMIT, Code.HELD}
"""What passes by itself is told with a status that says so: only its sentence is free of such texts."""
BY_NAME = {shape.name: shape for shape in SHAPES.values()}


@each("shape, code, escalated", product(BY_NAME, Code, [False, True]))
def test_no_refusal_makes_a_client_retry(shape: str, code: Code, escalated: bool) -> None:
    detail = allowed_detail(["openai/gpt-4.1-nano", "mistralai/mistral-small-2503", "x/a-500b"])
    _, body = answer(BY_NAME[shape], Refusal(code, 500 * 10**12), escalated, detail)
    text = body.decode() if code not in PASSING else code.sentence
    assert RETRY_PATTERN.search(text) is None


@each("shape, sentence", product(BY_NAME, [*(code.sentence for code in Code), OVERDUE]))
def test_no_final_cut_makes_a_client_retry(shape: str, sentence: str) -> None:
    cut = BY_NAME[shape].cut(Reading(), 7, sentence).decode()
    for line in cut.split("\n"):
        if line.startswith("data: {"):
            told = json.loads(line[6:])
            assert RETRY_PATTERN.search(json.dumps(told["error"])) is None
            assert RETRY_PATTERN.search(json.dumps(told.get("response", {}).get("error"))) is None


@each("code", [code for code in Code if code.escalates])
def test_a_money_refusal_is_402_and_repeated_what_ends_the_last_clients(code: Code) -> None:
    ends = {"chat": 401, "completions": 401, "embeddings": 401, "responses": 400, "messages": 402}
    assert {shape: answer(BY_NAME[shape], Refusal(code), False)[0] for shape in ends} == dict.fromkeys(ends, 402)
    assert {shape: answer(BY_NAME[shape], Refusal(code), True)[0] for shape in ends} == ends


def test_what_passes_by_itself_says_so_by_its_status() -> None:
    assert answer(BY_NAME["chat"], Refusal(Code.PRICE_STALE), True)[0] == 503
    assert answer(BY_NAME["chat"], Refusal(Code.UNREACHABLE), True)[0] == 503
    assert answer(BY_NAME["chat"], Refusal(Code.DAILY_LIMIT), True)[0] == 429
    assert answer(BY_NAME["chat"], Refusal(Code.HELD), True)[0] == 429


@each("code", [Code.MODEL_NOT_ALLOWED, Code.UNPRICED, Code.QUARANTINED])
def test_a_refusal_for_the_model_is_403_and_never_escalates(code: Code) -> None:
    assert {answer(BY_NAME["chat"], Refusal(code), escalated)[0] for escalated in (False, True)} == {403}


def test_a_store_that_cannot_be_written_is_402() -> None:
    assert answer(BY_NAME["chat"], Refusal(Code.STORE), True)[0] == 402


def test_the_chat_refusal_is_openrouters_own_shape() -> None:
    status, body = answer(BY_NAME["chat"], Refusal(Code.SPENT), False)
    sentence = "Budget spent. This run has used its whole allowance. Do not retry."
    assert json.loads(body) == {
        "error": {"code": status, "message": sentence, "metadata": {"error_type": "payment_required"}}
    }


def test_the_messages_refusal_is_anthropics_shape() -> None:
    _, body = answer(BY_NAME["messages"], Refusal(Code.SPENT), False)
    assert json.loads(body)["error"]["type"] == "billing_error"
    assert json.loads(body)["request_id"] is None


def test_a_model_refusal_says_which_models_are_allowed() -> None:
    _, body = answer(BY_NAME["chat"], Refusal(Code.MODEL_NOT_ALLOWED), False, allowed_detail(["a/b", "c/d"]))
    assert json.loads(body)["error"]["message"] == "This model is not allowed in this run. Allowed: a/b, c/d."
    assert allowed_detail(["x/y-2503"]) == ""


def test_codes_stand_in_order_of_precedence() -> None:
    assert [code.name.lower() for code in Code] == [
        *("store", "frozen", "model_not_allowed", "unpriced"),
        *("unreachable", "price_stale", "quarantined", "spent", "does_not_fit"),
        *("key_limit", "trial_key_limit", "account_credit", "account_affords", "daily_limit", "held"),
    ]
    assert [code for code in Code if code.is_budget] == [Code.FROZEN, Code.SPENT, Code.DOES_NOT_FIT]


@dataclass(frozen=True)
class Account:
    limit_pusd: int = 10**12
    posted_pusd: int = 5 * 10**11
    pending_pusd: int = 10**9
    available_pusd: int = 499 * 10**9
    rate: PromptRate | None = None


def test_the_headers_carry_exact_dollars() -> None:
    assert budget_headers(Account()) == [
        ("X-Budget-Limit", "1"),
        ("X-Budget-Spent", "0.5"),
        ("X-Budget-Reserved", "0.001"),
        ("X-Budget-Available", "0.499"),
    ]


def test_the_largest_new_prompt_that_fits_is_told_where_its_price_is_known() -> None:
    rate = PromptRate("a/b", 10**6, 100, (PriceTier(-1, 99 * 10**9, 3 * 10**12),))
    fits = (400 * 10**9 // (3 * 10**6)) - FIXED_TOKENS
    refusal = Refusal(Code.DOES_NOT_FIT, available_pusd=499 * 10**9, rate=rate)
    for balance in (Account(rate=rate), refusal):
        assert dict(budget_headers(balance))["X-Budget-Fits-Tokens"] == str(fits)


def test_the_headers_of_a_refusal_also_say_what_was_needed_and_not_to_retry() -> None:
    headers = dict(budget_headers(Refusal(Code.DOES_NOT_FIT, 10**12, 10**12, 0, 0, 1)))
    assert headers["X-Budget-Needed"] == "0.000000000001"
    assert headers["x-should-retry"] == "false"
    assert "Retry-After" not in headers


def test_an_error_outside_any_shape_is_in_the_envelope() -> None:
    assert json.loads(error_body(None, 404, "no such path", "not_found"))["error"]["code"] == 404
    assert json.loads(error_body(BY_NAME["messages"], 413, "large", "payload_too_large"))["type"] == "error"
