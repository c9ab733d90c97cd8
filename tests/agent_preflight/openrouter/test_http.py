"""One call: what is sent, what is read, and how much of it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from agent_preflight import provision
from agent_preflight.openrouter import http, subkeys
from openrouter_sim import Simulator
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.conftest import Script, ScriptedServer
from tests.support.cases import each
from tests.support.forward_proxy import ForwardProxy

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
def test_only_finite_numbers_are_amounts(value: object, expected: Decimal | None) -> None:
    assert http.amount(value) == expected


@pytest.mark.wire
def test_the_key_is_sent_in_the_header_only(serve: Serve) -> None:
    server = serve(lambda _: (200, {"data": 0.1}))
    answer = http.call("POST", "/x", Secret("sk-1"), timeout_s=10, body={"a": 1}, headers={"X-Title": "t"})
    assert answer.ok
    assert answer.data == Decimal("0.1")
    (seen,) = server.seen
    assert (seen.path, seen.body) == ("/x", {"a": 1})
    assert seen.headers["Authorization"] == "Bearer sk-1"
    assert seen.headers["X-Title"] == "t"


@pytest.mark.wire
def test_blanks_around_a_key_are_not_sent(serve: Serve) -> None:
    server = serve(lambda _: (200, {}))
    http.call("GET", "/x", " sk-1\n", timeout_s=10)
    assert server.seen[0].headers["Authorization"] == "Bearer sk-1"


@pytest.mark.wire
@pytest.mark.parametrize("key", [None, "", " \n", Secret("")])
def test_without_a_key_no_authorization_is_sent(serve: Serve, key: http.Key | None) -> None:
    server = serve(lambda _: (200, {}))
    http.call("GET", "/x", key, timeout_s=10)
    assert "Authorization" not in server.seen[0].headers


@each("key", ["sk-1\nX-Evil: 1", "sk-ключ", "sk\x00", "sk\ud800"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="characters") as caught:
        http.call("GET", "/x", key, timeout_s=10)
    assert "sk" not in str(caught.value)


@pytest.mark.wire
def test_an_answer_that_is_not_json_has_no_body(serve: Serve) -> None:
    serve(lambda _: (502, b"<html>"))
    answer = http.call("GET", "/x", "k", timeout_s=10)
    assert (answer.ok, answer.body, answer.data) == (False, None, None)


@pytest.mark.wire
def test_an_answer_that_is_too_large_is_an_error(serve: Serve) -> None:
    serve(lambda _: (200, b" " * (http.ANSWER_BYTES_MAX + 1)))
    with pytest.raises(httpx.DecodingError):
        http.call("GET", "/x", "k", timeout_s=30)


@pytest.mark.wire
def test_a_redirect_is_not_followed_with_the_key(serve: Serve) -> None:
    server = serve(lambda _: (302, b""))
    assert http.call("GET", "/x", "k", timeout_s=10).status == 302
    assert len(server.seen) == 1


@pytest.mark.wire
def test_a_call_uses_the_http_proxy_of_the_environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, port = simulator.base_url.removeprefix("http://").partition("/")[0].partition(":")
    with ForwardProxy((host, int(port)), login="me:hunter2") as forward:
        monkeypatch.setenv("http_proxy", f"http://me:hunter2@{forward.address}")
        base_url = "http://openrouter.test/api/v1"
        answer = http.get("/key", simulator.inference_key, timeout_s=10, base_url=base_url)
        assert answer is not None
        assert answer.ok
        assert forward.asked == ["GET http://openrouter.test/api/v1/key HTTP/1.1"]
        monkeypatch.setenv("no_proxy", "")
        answer = http.get("/key", simulator.inference_key, timeout_s=10, base_url=simulator.base_url)
        assert answer is not None
        assert answer.ok, "a loopback address is reached without the proxy"
        assert len(forward.asked) == 1
        monkeypatch.setenv("no_proxy", "openrouter.test")
        assert http.get("/key", simulator.inference_key, timeout_s=10, base_url=base_url) is None
        assert len(forward.asked) == 1


@pytest.mark.wire
def test_a_netrc_file_adds_no_login(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(lambda _: (200, {}))
    with http.opened("GET", f"{server.base_url}/x", timeout_s=10) as response:
        response.read()
    assert "Authorization" not in server.seen[0].headers


def test_an_http_proxy_that_cannot_be_used_is_a_config_error_and_readers_return_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    base_url = "http://openrouter.test/api/v1"
    with pytest.raises(ConfigError, match="SOCKS"):
        http.check_way(base_url)
    with pytest.raises(ConfigError, match="SOCKS"):
        http.call("GET", "/key", "k", timeout_s=10, base_url=base_url)
    assert http.get("/key", "k", timeout_s=10, base_url=base_url) is None
    assert not provision.delete_key("k", "hash", base_url=base_url)
    assert not subkeys.delete_sub_key("k", "hash", base_url)
    http.check_way("http://127.0.0.1:9/api/v1")


def test_a_base_url_that_is_no_address_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"^OPENROUTER_BASE_URL is no address: 'http://\[::1'"):
        http.check_way("http://[::1")


def test_many_threads_that_need_root_certificates_read_them_once() -> None:
    http._roots.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        contexts = set(threads.map(http._trust, ["https://openrouter.ai/api/v1"] * 8))
    assert len(contexts) == http._roots.cache_info().misses == 1


def test_a_url_without_tls_trusts_nobody_and_reads_no_certificate() -> None:
    assert http._trust("http://127.0.0.1:1/api/v1").get_ca_certs() == []
