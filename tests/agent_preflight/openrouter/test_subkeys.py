"""Sub-keys on a management API that loses answers, fails and contradicts itself. More of them is in test_provision."""

import hashlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from agent_preflight.openrouter import subkeys
from agent_preflight.openrouter.subkeys import SubKey, key_in, path_of, used_usd
from openrouter_sim import Simulator
from preflight_proxy.core.errors import UpstreamError
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen
from tests.support.cases import each

Serve = Callable[[Script], ScriptedServer]
NAME = "agent-preflight:run:a:1"
EXPIRES = "2099-01-31T23:59:59Z"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subkeys, "KEY_RETRY_PAUSE_S", 0.0)


def create(attempts: int = subkeys.CREATE_ATTEMPTS) -> SubKey:
    return subkeys.create_sub_key("admin", NAME, Decimal("0.26"), EXPIRES, attempts=attempts)


class Keys:
    """A management API: its keys by hash, and what it does with the answer to each `POST /keys`, in order.

    `answer` sends it, `lose` makes the key and sends nothing, `fail` makes the key and answers 500, `late` sends nothing and makes
    the key at the next POST.
    """

    def __init__(self, *posts: str) -> None:
        self.names: dict[str, str] = {"other": "someone else's"}
        self.bodies: list[dict[str, Any]] = []
        self._posts, self._late = list(posts), list[str]()

    def __call__(self, seen: Seen) -> tuple[int, Any] | None:
        if seen.method == "POST":
            return self._post(seen.body)
        if seen.method == "DELETE":
            return (200, {"deleted": True}) if self.names.pop(seen.path[6:], None) else (404, {})
        if seen.path.startswith("/keys?"):
            return 200, {"data": [{"hash": key_hash, "name": name} for key_hash, name in self.names.items()]}
        return (200, {"data": {"hash": seen.path[6:]}}) if seen.path[6:] in self.names else (404, {})

    def _post(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        self.bodies.append(body)
        self.names |= dict.fromkeys(self._late, body["name"])
        self._late = []
        post, key_hash = self._posts.pop(0), f"h{len(self.bodies)}"
        if post == "late":
            self._late = [key_hash]
            return None
        self.names[key_hash] = body["name"]
        if post == "lose":
            return None
        return (500, {}) if post == "fail" else (201, {"data": {"hash": key_hash}, "key": f"sk-{key_hash}"})


@pytest.mark.wire
def test_a_sub_key_has_a_limit_that_includes_provider_keys_and_an_expiry(serve: Serve) -> None:
    keys = Keys("answer")
    serve(keys)
    assert create().hash == "h1"
    assert keys.bodies == [{"name": NAME, "limit": 0.26, "include_byok_in_limit": True, "expires_at": EXPIRES}]


@pytest.mark.wire
def test_a_key_made_despite_a_server_error_is_deleted_before_the_next_attempt(serve: Serve) -> None:
    keys = Keys("fail", "lose", "lose")
    serve(keys)
    with pytest.raises(UpstreamError, match=f"attempts: 3.*{NAME}"):
        create()
    assert keys.names == {"other": "someone else's", "h3": NAME}


@pytest.mark.wire
def test_a_key_that_is_made_late_is_deleted_after_the_next_attempt(serve: Serve) -> None:
    keys = Keys("late", "answer")
    serve(keys)
    assert create().hash == "h2"
    assert keys.names == {"other": "someone else's", "h2": NAME}


@pytest.mark.wire
def test_a_missing_hash_is_computed_from_the_key(serve: Serve) -> None:
    serve(lambda _: (201, {"key": "sk-1"}))
    assert create().hash == hashlib.sha256(b"sk-1").hexdigest()


@pytest.mark.wire
@pytest.mark.parametrize("status", [401, 403])
def test_a_deletion_that_is_refused_is_not_repeated(serve: Serve, status: int) -> None:
    server = serve(lambda _: (status, {}))
    assert not subkeys.delete_sub_key("admin", "h")
    assert server.asked("DELETE", "/keys/h") == 1


@pytest.mark.wire
@pytest.mark.parametrize("answer", [(500, {}), (200, b"<html>"), (200, {"data": {"deleted": "true"}})])
def test_a_key_that_cannot_be_read_does_not_count_as_deleted(serve: Serve, answer: tuple[int, Any]) -> None:
    server = serve(lambda seen: (200, {"deleted": True}) if seen.method == "DELETE" else answer)
    assert not subkeys.delete_sub_key("admin", "h")
    assert server.asked("DELETE", "/keys/h") == subkeys.DELETE_ATTEMPTS


@pytest.mark.wire
def test_disabled_and_expired_keys_are_listed_too(serve: Serve) -> None:
    server = serve(Keys())
    assert [info.name for info in subkeys.list_keys("admin")] == ["someone else's"]
    assert "include_disabled=true" in server.seen[0].path
    assert "include_expired=true" in server.seen[0].path


@pytest.mark.wire
def test_a_limit_is_changed_only_if_the_answer_says_so(simulator: Simulator, serve: Serve) -> None:
    made = subkeys.create_sub_key(simulator.admin_key, NAME, Decimal("0.26"), EXPIRES, simulator.base_url)
    assert subkeys.set_key_limit(simulator.admin_key, made.hash, Decimal("0.5"), simulator.base_url)
    (info,) = subkeys.list_keys(simulator.admin_key, simulator.base_url, name=NAME)
    assert info.limit_usd == Decimal("0.5")
    old, right = {"data": {"limit": 0.26}}, {"data": {"limit": 0.5}}
    answers: list[tuple[int, Any] | None] = [(200, old), (200, {}), (403, right), None]
    server = serve(lambda _: answers[0])
    for _ in range(len(answers)):
        assert not subkeys.set_key_limit("admin", made.hash, Decimal("0.5"))
        answers.append(answers.pop(0))
    assert server.asked("PATCH", f"/keys/{made.hash}") == 4


def test_the_key_may_be_beside_data() -> None:
    assert key_in({"key": "sk", "data": {"hash": "h"}}) == ("sk", "h")


@each("body", [None, [], "x", {}, {"data": []}, {"key": 5, "data": {"hash": 5}}])
def test_an_answer_of_another_form_has_no_key(body: object) -> None:
    assert key_in(body) == ("", "")


def test_a_hash_is_quoted_in_the_path() -> None:
    assert path_of("../credits?x#y") == "/keys/..%2Fcredits%3Fx%23y"


def test_the_usage_includes_what_provider_keys_were_billed() -> None:
    assert used_usd({"usage": Decimal("0.1"), "byok_usage": Decimal("0.25")}) == Decimal("0.35")
    assert used_usd({"usage": Decimal("0.1")}) == Decimal("0.1")


@each("entry", [{}, {"usage": None}, {"usage": 1, "byok_usage": "1"}, {"usage": True}])
def test_a_usage_that_cannot_be_read_whole_is_none(entry: dict[str, object]) -> None:
    assert used_usd(entry) is None
