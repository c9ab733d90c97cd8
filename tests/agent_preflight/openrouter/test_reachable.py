"""Why OpenRouter cannot be reached, from real sockets: the cause comes first."""

import json
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest

from agent_preflight.openrouter import reachable
from agent_preflight.openrouter.http import Answer
from agent_preflight.openrouter.reachable import KEYS_PAGE, cannot_reach, cause_of, refusal_of, trouble, why_unread
from openrouter_sim import Simulator
from preflight_proxy.core.errors import ConfigError
from tests.agent_preflight.conftest import Script, ScriptedServer
from tests.support.cases import each

Serve = Callable[[Script], ScriptedServer]
CHECK = "Check OPENROUTER_BASE_URL and your network. Nothing was spent."


@pytest.fixture
def port() -> int:
    """A port that is closed."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        number: int = server.getsockname()[1]
    return number


@pytest.mark.wire
def test_a_closed_port_is_a_refused_connection(port: int) -> None:
    url = f"http://127.0.0.1:{port}/api/v1"
    assert trouble("key", url) == f"Cannot reach OpenRouter at {url}: connection refused. {CHECK}"


@pytest.mark.wire
def test_an_unknown_host_name_is_reported_as_such() -> None:
    url = "https://no-such-host.invalid/api/v1"
    assert trouble("key", url) == (
        f"Cannot reach OpenRouter at {url}: the name no-such-host.invalid cannot be found (DNS). {CHECK}"
    )


@pytest.mark.wire
def test_a_server_without_tls_and_an_untrusted_certificate_have_different_messages(serve: Serve) -> None:
    plain_url = serve(lambda seen: (200, {})).base_url.replace("http:", "https:")
    assert "TLS failed (" in trouble("key", plain_url)
    assert "is it an http:// address?" in trouble("key", plain_url)
    untrusted = ssl.SSLCertVerificationError("x")
    untrusted.verify_message = "self-signed certificate"
    error = httpx.ConnectError("wrapped")
    error.__cause__ = untrusted
    assert cause_of(error) == "its TLS certificate is not trusted (self-signed certificate)"


@pytest.mark.wire
def test_a_server_that_does_not_answer_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "REACHABLE_S_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        message = trouble("key", f"http://127.0.0.1:{server.getsockname()[1]}")
    assert ": no answer within 0 s. " in message


@pytest.mark.wire
def test_a_server_that_closes_the_connection_is_reported_as_such(serve: Serve) -> None:
    assert "it closed the connection" in trouble("key", serve(lambda seen: None).base_url)


@pytest.mark.wire
@pytest.mark.parametrize("status", [200, 302, 404])
@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"", b"\xff"])
def test_another_api_is_reported_as_such(serve: Serve, status: int, body: bytes) -> None:
    url = serve(lambda seen: (status, body)).base_url
    assert trouble("key", url) == (
        f"What answers at {url} is not OpenRouter's API (HTTP {status}). "
        "Check OPENROUTER_BASE_URL: usually it is unset, or https://openrouter.ai/api/v1. Nothing was spent."
    )


@pytest.mark.wire
@pytest.mark.parametrize("status", [500, 503])
def test_a_server_error_is_reported_with_its_message(serve: Serve, status: int) -> None:
    url = serve(lambda seen: (status, {"error": {"message": "down\x1b[2J for now"}})).base_url
    assert trouble("key", url) == f"Cannot reach OpenRouter at {url}: it answers with {status}: down for now. {CHECK}"


@pytest.mark.wire
def test_an_openrouter_that_refuses_the_key_is_reachable(simulator: Simulator) -> None:
    assert trouble(simulator.inference_key) == ""
    assert trouble("sk-wrong") == ""


@pytest.mark.wire
def test_a_password_in_the_address_is_not_shown(port: int) -> None:
    assert "secret" not in trouble("key", f"http://me:secret@127.0.0.1:{port}")


@each(
    "body, refusal",
    [
        ({"error": {"message": "no"}}, "401: no"),
        ({"error": {"message": "x" * 900}}, f"401: {'x' * 200}"),
        ({"error": "no"}, "401"),
        (None, "401"),
        ([], "401"),
    ],
)
def test_a_refusal_is_the_status_and_the_error_message(body: Any, refusal: str) -> None:
    assert refusal_of(Answer(401, body)) == refusal


@each(
    "error, message",
    [
        (ConfigError("HTTPS_PROXY is no URL."), "HTTPS_PROXY is no URL. Nothing was spent."),
        (
            ValueError("the key holds characters that no key has"),
            (
                "OpenRouter was not called: the key holds characters that no key has. Check the keys in the environment. "
                "Nothing was spent."
            ),
        ),
        (
            httpx.UnsupportedProtocol("x"),
            f"Cannot reach OpenRouter at u: this is no http:// or https:// address. {CHECK}",
        ),
        (OSError(101, "Network is unreachable"), f"Cannot reach OpenRouter at u: network is unreachable. {CHECK}"),
        (httpx.ProxyError("407\x1b[1m no"), f"Cannot reach OpenRouter at u: the HTTP proxy refuses: 407 no. {CHECK}"),
        (RuntimeError(), f"Cannot reach OpenRouter at u: RuntimeError. {CHECK}"),
    ],
)
def test_each_error_has_a_message(error: Exception, message: str) -> None:
    assert cannot_reach("u", error) == message


def test_errors_that_cause_each_other_end() -> None:
    first, second = OSError(), OSError(1, "No")
    first.__cause__, second.__cause__ = second, first
    assert json.dumps(cause_of(first)) == '"no"'


@pytest.mark.wire
def test_a_failed_read_has_its_reason_and_says_nothing_about_money(port: int, serve: Serve) -> None:
    url = f"http://127.0.0.1:{port}/api/v1"
    assert why_unread(None, "key", url) == (
        f"Cannot reach OpenRouter at {url}: connection refused. Check OPENROUTER_BASE_URL and your network"
    )
    answers = serve(lambda _: (200, {"data": {}})).base_url
    assert why_unread(None, "key", answers) == "OpenRouter gave no answer. Try again"
    assert why_unread(Answer(401, {"error": {"message": "no such key"}}), "key", url) == (
        f"OpenRouter refuses the management key (401: no such key). Set OR_ADMIN_KEY to a management key: {KEYS_PAGE}"
    )
    assert why_unread(Answer(429, None), "key", url) == "OpenRouter answers with 429"
