"""Which HTTP proxies an agent's variables name."""

from __future__ import annotations

from collections.abc import Mapping

from agent_preflight.environment.proxy_env import own_proxy, proxy_env
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


def sealed_env(user: Mapping[str, str], *, egress: str | None = None) -> dict[str, str]:
    return proxy_env(user, IMAGE, past=PAST, egress=egress, sealed=True)


def open_env(user: Mapping[str, str], image: Mapping[str, str] = IMAGE) -> dict[str, str]:
    return proxy_env(user, image, past=PAST, egress=None, sealed=False)


def test_a_sealed_agent_has_none_of_the_images_proxies() -> None:
    assert sealed_env({}) == dict.fromkeys([*PROXIES, *EXCEPTIONS], "")
    assert sealed_env({"OTHER": "x"}) == dict.fromkeys([*PROXIES, *EXCEPTIONS], "")


@each("name", PROXIES)
def test_a_proxy_of_the_users_own_wins_in_a_sealed_trial_and_does_not_stand_before_the_gate(name: str) -> None:
    env = sealed_env({name: "http://los:3000"})
    assert {each: env.get(each) for each in PROXIES} == dict.fromkeys(PROXIES, "") | {name: None}
    assert env["NO_PROXY"] == env["no_proxy"] == f"{OURS},image.example"


@each("name", EXCEPTIONS)
def test_exceptions_of_the_users_own_win_in_a_sealed_trial(name: str) -> None:
    others = [*PROXIES, *(other for other in EXCEPTIONS if other != name)]
    assert sealed_env({name: "mine"}) == dict.fromkeys(others, "")


def test_with_an_egress_list_the_web_goes_there_and_all_else_nowhere() -> None:
    web = [name for name in PROXIES if name.lower().startswith("http")]
    rest = [name for name in PROXIES if name not in web]
    past = dict.fromkeys(EXCEPTIONS, f"{OURS},image.example")
    wanted = dict.fromkeys(web, EGRESS) | dict.fromkeys(rest, "") | past | {"NODE_USE_ENV_PROXY": "1"}
    assert sealed_env({}, egress=EGRESS) == wanted


@each("name", PROXIES)
def test_a_proxy_of_the_users_own_stands_for_the_egress_lists(name: str) -> None:
    for value in ("http://los:3000", ""):
        env = sealed_env({name: value}, egress=EGRESS)
        assert EGRESS not in env.values()
        assert name not in env
        assert env["NO_PROXY"] == env["no_proxy"] == f"{OURS},image.example"


def test_an_agent_with_a_network_keeps_its_proxies_and_reaches_the_gate_past_them() -> None:
    assert open_env({}) == dict.fromkeys(EXCEPTIONS, f"{OURS},image.example")
    assert open_env({}, {}) == dict.fromkeys(EXCEPTIONS, OURS)
    assert open_env({"HTTPS_PROXY": "http://mine:1"}, {}) == dict.fromkeys(EXCEPTIONS, OURS)


def test_exceptions_are_added_to_what_user_and_image_say_in_either_spelling() -> None:
    user = {"NO_PROXY": "a, b", "no_proxy": "b los c"}
    image = {"NO_PROXY": "d", "no_proxy": "e,a"}
    assert open_env(user, image) == dict.fromkeys(EXCEPTIONS, f"{OURS},a,b,c,d,e")


@each("user, image", [({"NO_PROXY": "*"}, {}), ({"no_proxy": "a,*"}, {}), ({"NO_PROXY": "a"}, {"no_proxy": " * "})])
def test_no_proxy_for_anything_stays_so(user: dict[str, str], image: dict[str, str]) -> None:
    assert open_env(user, image) == dict.fromkeys(EXCEPTIONS, "*")


def test_an_empty_value_is_the_users_word_too() -> None:
    assert own_proxy({"https_proxy": "", "no_proxy": "x"}) == ["https_proxy"]
