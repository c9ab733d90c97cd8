"""One call: what is sent, what is read, and how much of it."""

from collections.abc import Callable
from decimal import Decimal

import httpx
import pytest

from agent_preflight import openrouter
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.conftest import Script, ScriptedServer
from tests.cases import each

Serve = Callable[[Script], ScriptedServer]


@each(
    "value, expected",
    [
        (1, Decimal(1)),
        (Decimal("0.1"), Decimal("0.1")),
        (-1, Decimal(-1)),
        (True, None),
        ("1", None),
        (None, None),
        (Decimal("1e900000"), None),
        (Decimal("NaN"), None),
        (10**30, None),
        ([], None),
    ],
)
def test_only_sums_of_money_are_amounts(value: object, expected: Decimal | None) -> None:
    assert openrouter.amount(value) == expected


@pytest.mark.wire
def test_the_key_travels_in_the_header_only(serve: Serve) -> None:
    server = serve(lambda _: (200, {"data": 0.1}))
    answer = openrouter.call("POST", "/x", Secret("sk-1"), timeout_s=10, body={"a": 1}, headers={"X-Title": "t"})
    assert answer.ok
    assert answer.data == Decimal("0.1")
    (seen,) = server.seen
    assert (seen.path, seen.body) == ("/x", {"a": 1})
    assert seen.headers["Authorization"] == "Bearer sk-1"
    assert seen.headers["X-Title"] == "t"


@pytest.mark.wire
def test_blanks_around_a_key_are_not_sent(serve: Serve) -> None:
    server = serve(lambda _: (200, {}))
    openrouter.call("GET", "/x", " sk-1\n", timeout_s=10)
    assert server.seen[0].headers["Authorization"] == "Bearer sk-1"


@each("key", ["sk-1\nX-Evil: 1", "sk-ключ", "sk\x00", "sk\ud800"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="characters") as caught:
        openrouter.call("GET", "/x", key, timeout_s=10)
    assert "sk" not in str(caught.value)


@pytest.mark.wire
def test_an_answer_that_is_no_json_has_no_body(serve: Serve) -> None:
    serve(lambda _: (502, b"<html>"))
    answer = openrouter.call("GET", "/x", "k", timeout_s=10)
    assert (answer.ok, answer.body, answer.data) == (False, None, None)


@pytest.mark.wire
def test_an_enormous_answer_is_refused(serve: Serve) -> None:
    serve(lambda _: (200, b" " * (openrouter.ANSWER_BYTES_MAX + 1)))
    with pytest.raises(httpx.DecodingError):
        openrouter.call("GET", "/x", "k", timeout_s=30)


@pytest.mark.wire
def test_a_redirect_is_not_followed_with_the_key(serve: Serve) -> None:
    server = serve(lambda _: (302, b""))
    assert openrouter.call("GET", "/x", "k", timeout_s=10).status == 302
    assert len(server.seen) == 1
