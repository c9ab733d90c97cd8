"""One rule says by which HTTP proxy a URL is reached, for every client of the house."""

from __future__ import annotations

import base64
from itertools import product

import pytest

from preflight_proxy.core.environment_proxy import HttpProxy, http_proxy
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret
from tests.support.cases import each

URL = "https://openrouter.ai/api/v1"


def url_of(variables: dict[str, str], url: str = URL) -> str | None:
    found = http_proxy(url, variables)
    return found.url if found is not None else None


def test_without_variables_the_way_is_direct() -> None:
    assert http_proxy(URL, {}) is None


@each(
    "variables, chosen",
    [
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1"}, "http://a:1"),
        ({"ALL_PROXY": "http://a:1"}, "http://a:1"),
        ({"all_proxy": "http://a:1"}, "http://a:1"),
        ({"HTTP_PROXY": "http://a:1"}, None),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:2"}, "http://b:2"),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": ""}, None),
        ({"HTTPS_PROXY": "", "ALL_PROXY": "http://a:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1", "all_proxy": "http://b:2"}, "http://a:1"),
        ({"HTTPS_PROXY": "a:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "http://a"}, "http://a:80"),
        ({"HTTPS_PROXY": " http://a:1/ "}, "http://a:1"),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, "http://[2001:db8::1]:3128"),
        ({"HTTPS_PROXY": "HTTP://A:1"}, "http://a:1"),
    ],
)
def test_the_scheme_decides_then_all_and_lower_case_goes_first(variables: dict[str, str], chosen: str | None) -> None:
    assert url_of(variables) == chosen


def test_an_http_url_has_a_variable_of_its_own() -> None:
    variables = {"http_proxy": "http://a:1", "https_proxy": "http://b:2"}
    assert url_of(variables, "http://openrouter.test/api/v1") == "http://a:1"


@each("host", ["localhost", "sim.localhost", "127.0.0.1", "127.3.4.5", "[::1]", "LOCALHOST."])
def test_a_loopback_address_never_uses_a_proxy(host: str) -> None:
    assert url_of({"ALL_PROXY": "http://a:1"}, f"http://{host}:8000/api/v1") is None


EXEMPT = (
    ("*", True),
    ("openrouter.ai", True),
    ("OpenRouter.AI", True),
    (".openrouter.ai", True),
    ("*.openrouter.ai", True),
    ("other.test, openrouter.ai", True),
    ("other.test openrouter.ai", True),
    ("openrouter.ai:443", True),
    ("ai", True),
    ("openrouter.ai:80", False),
    ("router.ai", False),
    ("eu.openrouter.ai", False),
    ("", False),
    (",", False),
    (".", False),
)


@each("entry, spelling", product(EXEMPT, ["no_proxy", "NO_PROXY"]))
def test_no_proxy_exempts_a_host_and_what_lies_below_it(entry: tuple[str, bool], spelling: str) -> None:
    no_proxy, exempt = entry
    assert (url_of({"HTTPS_PROXY": "http://a:1", spelling: no_proxy}) is None) is exempt


@each(
    "no_proxy, exempt",
    [
        *(("10.1.2.3", True), ("10.0.0.0/8", True), ("10.1.2.3:8443", True)),
        *(("10.1.2.4", False), ("11.0.0.0/8", False), ("10.1.2.3:443", False), ("2.3", False)),
    ],
)
def test_no_proxy_takes_addresses_and_networks(no_proxy: str, exempt: bool) -> None:
    found = url_of({"HTTPS_PROXY": "http://a:1", "NO_PROXY": no_proxy}, "https://10.1.2.3:8443/api/v1")
    assert (found is None) is exempt


def test_no_proxy_takes_networks_of_ipv6() -> None:
    variables = {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "2001:db8::/32"}
    assert url_of(variables, "https://[2001:db8::5]/api/v1") is None
    assert url_of(variables, "https://[2001:db9::5]/api/v1") == "http://a:1"


def test_a_login_is_decoded_and_not_shown() -> None:
    found = http_proxy(URL, {"HTTPS_PROXY": "http://me%40corp:p%2Fss@proxy.corp:3128"})
    login = base64.b64encode(b"me@corp:p/ss").decode()
    assert found == HttpProxy("http://proxy.corp:3128", Secret(f"Basic {login}"), "HTTPS_PROXY")
    assert not any(shown in repr(found) for shown in ("p/ss", "p%2Fss", login))


def test_a_name_without_a_password_is_a_login_too() -> None:
    found = http_proxy(URL, {"HTTPS_PROXY": "http://me@proxy.corp:3128"})
    assert found is not None
    assert found.authorization == Secret("Basic " + base64.b64encode(b"me:").decode())


def test_without_a_login_none_is_sent() -> None:
    assert http_proxy(URL, {"HTTPS_PROXY": "http://a:1"}) == HttpProxy("http://a:1", None, "HTTPS_PROXY")


@each(
    "value, said",
    [
        ("socks5://me:hunter2@a:1", "SOCKS"),
        ("socks5h://a:1", "SOCKS"),
        ("https://me:hunter2@a:1", "https"),
        ("http://me:hunter2@a:port", "http://HOST:PORT"),
        ("http://", "http://HOST:PORT"),
        ("http://me:hunter2@[a:1", "http://HOST:PORT"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_in_words_without_its_password(value: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        http_proxy(URL, {"ALL_PROXY": value})
    assert "ALL_PROXY" in str(raised.value)
    assert said in str(raised.value)
    assert "Nothing was sent" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_proxy_that_cannot_be_used_does_no_harm_where_it_is_not_used() -> None:
    assert http_proxy("http://127.0.0.1:1/api/v1", {"ALL_PROXY": "socks5://a:1"}) is None
