"""The variables that an agent gets: where the proxy is, which roots it trusts, which HTTP proxies it uses."""

from __future__ import annotations

from collections.abc import Mapping

from agent_preflight.environment.variables import (
    CONTAINER_BUNDLE,
    GATE_BASE_URL,
    TRUST_VARIABLES,
    agent_env,
    own_proxy,
    proxy_env,
    trust_warnings,
)
from tests.support.cases import each

PROXIES = [
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "ftp_proxy"),
]
EXCEPTIONS = ["NO_PROXY", "no_proxy"]
PAST = ("127.0.0.1", "openrouter.ai", "los")
OURS = "127.0.0.1,openrouter.ai,los"
EGRESS = "http://127.0.0.1:8789"
IMAGE = dict.fromkeys(PROXIES, "http://image.example:3128") | dict.fromkeys(EXCEPTIONS, "image.example")


def env_of(user: dict[str, str]) -> dict[str, str]:
    return agent_env(user, token="pf-t", base_url=GATE_BASE_URL, budget_file="/b", model_id="m/m")


def test_every_client_family_finds_the_proxy_and_the_token() -> None:
    env = env_of({})
    assert env["OPENROUTER_API_KEY"] == env["OPENAI_API_KEY"] == env["ANTHROPIC_AUTH_TOKEN"] == "pf-t"
    assert env["CODEX_API_KEY"] == "pf-t"
    assert env["OPENROUTER_BASE_URL"] == env["OPENROUTER_API_BASE"] == env["OPENAI_BASE_URL"] == GATE_BASE_URL
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8788/api"
    assert env["ANTHROPIC_API_KEY"] == ""
    assert env["PREFLIGHT_BUDGET_FILE"] == "/b"
    assert env["PREFLIGHT_MODEL"] == "m/m"


def test_a_client_family_that_the_user_sets_is_left_out_and_the_others_are_not() -> None:
    env = env_of({"OPENAI_API_KEY": "own"})
    assert env["OPENAI_API_KEY"] == "own"
    assert "CODEX_API_KEY" not in env
    assert "OPENAI_BASE_URL" not in env
    assert env["ANTHROPIC_AUTH_TOKEN"] == "pf-t"


def test_the_users_own_openrouter_key_never_reaches_the_agent() -> None:
    assert env_of({"OPENROUTER_API_KEY": "sk-or-real"})["OPENROUTER_API_KEY"] == "pf-t"


def test_the_users_other_variables_are_kept_and_their_model_wins() -> None:
    env = env_of({"X": "1", "PREFLIGHT_MODEL": "mine"})
    assert (env["X"], env["PREFLIGHT_MODEL"]) == ("1", "mine")


def test_every_variable_names_the_bundle() -> None:
    env = agent_env({}, token="pf-t", base_url=GATE_BASE_URL, budget_file="/b", model_id="m", own_authority=True)
    assert {name: env[name] for name in TRUST_VARIABLES} == dict.fromkeys(TRUST_VARIABLES, CONTAINER_BUNDLE)
    assert len(TRUST_VARIABLES) == 8


def test_the_users_own_value_wins_with_a_warning_that_says_what_to_do() -> None:
    env = agent_env(
        {"SSL_CERT_FILE": "/mine.pem", "PIP_CERT": ""},
        token="pf-t",
        base_url="http://127.0.0.1:8788/api/v1",
        budget_file="/run/preflight/budget.txt",
        model_id="m",
        own_authority=True,
    )
    assert (env["SSL_CERT_FILE"], env["PIP_CERT"], env["CURL_CA_BUNDLE"]) == ("/mine.pem", "", CONTAINER_BUNDLE)
    (warning,) = trust_warnings({"SSL_CERT_FILE": "/mine.pem", "PIP_CERT": "", "OTHER": "x"})
    assert "SSL_CERT_FILE, PIP_CERT are yours" in warning
    assert "base URL" in warning


def test_without_variables_of_the_user_there_is_no_warning() -> None:
    assert trust_warnings({"OTHER": "x"}) == []


def test_without_an_authority_no_trust_variable_is_set() -> None:
    env = agent_env({}, token="pf-t", base_url="http://127.0.0.1:1/api/v1", budget_file="/b", model_id="m")
    assert not env.keys() & set(TRUST_VARIABLES)


def sealed_env(user: Mapping[str, str], *, egress: str | None = None) -> dict[str, str]:
    return proxy_env(user, IMAGE, past=PAST, egress=egress, sealed=True)


def open_env(user: Mapping[str, str], image: Mapping[str, str] = IMAGE) -> dict[str, str]:
    return proxy_env(user, image, past=PAST, egress=None, sealed=False)


def test_a_sealed_agent_has_no_proxy_of_its_image() -> None:
    assert sealed_env({}) == dict.fromkeys([*PROXIES, *EXCEPTIONS], "")
    assert sealed_env({"OTHER": "x"}) == dict.fromkeys([*PROXIES, *EXCEPTIONS], "")


@each("name", PROXIES)
def test_the_users_proxy_wins_in_a_sealed_trial_but_not_for_the_gate(name: str) -> None:
    env = sealed_env({name: "http://los:3000"})
    assert {each: env.get(each) for each in PROXIES} == dict.fromkeys(PROXIES, "") | {name: None}
    assert env["NO_PROXY"] == env["no_proxy"] == f"{OURS},image.example"


@each("name", EXCEPTIONS)
def test_the_users_exceptions_win_in_a_sealed_trial(name: str) -> None:
    others = [*PROXIES, *(other for other in EXCEPTIONS if other != name)]
    assert sealed_env({name: "mine"}) == dict.fromkeys(others, "")


def test_with_an_egress_list_only_http_has_a_proxy() -> None:
    web = [name for name in PROXIES if name.lower().startswith("http")]
    rest = [name for name in PROXIES if name not in web]
    past = dict.fromkeys(EXCEPTIONS, f"{OURS},image.example")
    wanted = dict.fromkeys(web, EGRESS) | dict.fromkeys(rest, "") | past | {"NODE_USE_ENV_PROXY": "1"}
    assert sealed_env({}, egress=EGRESS) == wanted


@each("name", PROXIES)
def test_the_users_proxy_replaces_the_one_of_the_egress_list(name: str) -> None:
    for value in ("http://los:3000", ""):
        env = sealed_env({name: value}, egress=EGRESS)
        assert EGRESS not in env.values()
        assert name not in env
        assert env["NO_PROXY"] == env["no_proxy"] == f"{OURS},image.example"


def test_an_agent_with_a_network_keeps_its_proxies_with_exceptions_for_the_gate() -> None:
    assert open_env({}) == dict.fromkeys(EXCEPTIONS, f"{OURS},image.example")
    assert open_env({}, {}) == dict.fromkeys(EXCEPTIONS, OURS)
    assert open_env({"HTTPS_PROXY": "http://mine:1"}, {}) == dict.fromkeys(EXCEPTIONS, OURS)


def test_exceptions_are_added_to_those_of_user_and_image() -> None:
    user = {"NO_PROXY": "a, b", "no_proxy": "b los c"}
    image = {"NO_PROXY": "d", "no_proxy": "e,a"}
    assert open_env(user, image) == dict.fromkeys(EXCEPTIONS, f"{OURS},a,b,c,d,e")


@each("user, image", [({"NO_PROXY": "*"}, {}), ({"no_proxy": "a,*"}, {}), ({"NO_PROXY": "a"}, {"no_proxy": " * "})])
def test_an_exception_for_everything_stays_the_only_one(user: dict[str, str], image: dict[str, str]) -> None:
    assert open_env(user, image) == dict.fromkeys(EXCEPTIONS, "*")


def test_an_empty_proxy_variable_counts_as_the_users() -> None:
    assert own_proxy({"https_proxy": "", "no_proxy": "x"}) == ["https_proxy"]
