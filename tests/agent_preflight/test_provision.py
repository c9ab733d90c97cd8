"""Keys, credits and models, read from the simulator and from servers that misbehave."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

import agent_preflight
from agent_preflight import provision
from openrouter_sim import Simulator
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen

pytestmark = pytest.mark.wire

EXPIRES = "2099-01-31T23:59:59Z"

Serve = Callable[[Script], ScriptedServer]


def test_a_key_is_made_and_deleted(simulator: Simulator) -> None:
    key, key_hash = provision.provision_key_full(simulator.admin_key, "label", 0.25)
    assert hashlib.sha256(key.encode()).hexdigest() == key_hash
    assert provision.get_usage(key) == 0.0
    assert provision.delete_key(simulator.admin_key, key_hash)
    assert provision.get_usage(key) is None


def test_provision_key_returns_the_key_alone(simulator: Simulator) -> None:
    assert provision.provision_key(simulator.admin_key, "label", 0.25).startswith("sk-or-")


def test_a_refused_key_raises_httpx_error(simulator: Simulator) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        provision.provision_key(simulator.inference_key, "label", 0.25)
    assert caught.value.response.status_code in (401, 403)
    assert simulator.inference_key not in str(caught.value)


def test_an_answer_without_a_key_is_not_quoted(serve: Serve) -> None:
    serve(lambda _: (201, {"data": {"hash": "h"}, "secret": "sk-or-v1-verysecret"}))
    with pytest.raises(RuntimeError) as caught:
        provision.provision_key("admin", "label", 0.25)
    assert "verysecret" not in str(caught.value)


def test_the_key_may_be_inside_data(serve: Serve) -> None:
    server = serve(lambda _: (201, {"data": {"key": "sk-1"}}))
    assert provision.provision_key_full("admin", "label", 0.25) == ("sk-1", "")
    assert server.seen[0].body == {"name": "label", "limit": 0.25}
    assert server.seen[0].headers["Authorization"] == "Bearer admin"


@pytest.mark.parametrize("key_hash", ["", "absent", "../credits", "a b?c"])
def test_deleting_a_missing_key_returns_false(simulator: Simulator, key_hash: str) -> None:
    assert not provision.delete_key(simulator.admin_key, key_hash)


def test_the_balance_is_read_with_a_management_key(simulator: Simulator) -> None:
    assert provision.get_account_balance(simulator.admin_key) == (100.0, 100.0, 0.0)
    assert provision.get_account_balance(simulator.inference_key) == (None, None, None)


def test_models_are_listed_by_id_with_plain_numbers(simulator: Simulator) -> None:
    models = provision.get_available_models(simulator.inference_key)
    assert models is not None
    assert "openai/gpt-4.1-nano" in models
    json.dumps(models)


NONSENSE: list[Any] = [b"", b"{", b"[]", {"data": 5}, {"data": {"usage": "x"}}, {"data": None}, b"\xff", b"[" * 10**5]


@pytest.mark.parametrize(("status", "body"), [*((200, body) for body in NONSENSE), (404, b"{"), (500, b"")])
def test_readers_never_raise(serve: Serve, status: int, body: Any) -> None:
    serve(lambda _: (status, body))
    assert provision.get_usage("k") is None
    assert provision.get_account_balance("k") in ((None, None, None), (0.0, 0.0, 0.0))
    assert provision.get_available_models("k") is None
    assert provision.get_available_models_or_empty("k") == {}


LISTS: list[Any] = [[{"id": "a/b"}, "x"], [{"id": "a/b"}, {}], [{"id": None}], [None], [{"id": ["a"]}], {"id": "a/b"}]


@pytest.mark.parametrize("models", LISTS)
def test_a_list_of_models_that_cannot_be_read_whole_is_none(serve: Serve, models: Any) -> None:
    serve(lambda _: (200, {"data": models}))
    assert provision.get_available_models("k") is None


def test_readers_return_none_for_a_key_that_cannot_be_sent(serve: Serve, tmp_path: Path) -> None:
    """And for whatever else the HTTP library raises, such as for a missing file of certificates."""
    serve(lambda _: (200, {"data": []}))
    for odd in (5, b"k", "k\nX: y", "\ud800"):
        assert provision.get_available_models(odd) is None  # type: ignore[arg-type]
        assert provision.get_usage(odd) is None  # type: ignore[arg-type]
        assert provision.get_account_balance(odd) == (None, None, None)  # type: ignore[arg-type]
        assert provision.delete_key(odd, "hash") is False  # type: ignore[arg-type]
    code = "from agent_preflight.provision import *; print(get_available_models('k'), get_usage('k'), delete_key('k', 'h'))"
    env = {**os.environ, "SSL_CERT_FILE": str(tmp_path / "absent.pem"), "OPENROUTER_BASE_URL": "https://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("None None False\n", 0)


def test_readers_do_not_raise_for_a_bad_address() -> None:
    for base in ("http://127.0.0.1:1", "nonsense", "http://["):
        assert provision.get_usage("k", base_url=base) is None
        assert not provision.delete_key("k", "hash", base_url=base)


def test_a_failed_read_is_repeated(serve: Serve) -> None:
    answers = iter([None, (503, b""), (200, {"data": {"usage": 0.5}})])
    serve(lambda _: next(answers))
    assert provision.get_usage("k") == 0.5


def test_a_missing_usage_is_zero(serve: Serve) -> None:
    serve(lambda _: (200, {"data": {}}))
    assert provision.get_usage("k") == 0.0


def test_an_empty_list_of_models_is_an_empty_dict(serve: Serve) -> None:
    serve(lambda _: (200, {"data": []}))
    assert provision.get_available_models("k") == {}


def test_the_base_url_is_the_argument_else_the_variable_else_the_constant(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    argument = serve(lambda _: (200, {"data": {"usage": 1}}))
    constant = serve(lambda _: (200, {"data": {"usage": 3}}))
    serve(lambda _: (200, {"data": {"usage": 2}}))
    assert provision.get_usage("k", base_url=argument.base_url + "/") == 1.0
    assert provision.get_usage("k") == 2.0
    monkeypatch.delenv("OPENROUTER_BASE_URL")
    monkeypatch.setattr(provision, "OR_BASE", constant.base_url)
    assert provision.get_usage("k") == 3.0


def test_a_sub_key_is_made_read_and_deleted(simulator: Simulator) -> None:
    admin = Secret(simulator.admin_key)
    made = provision.create_sub_key(admin, "run:a:1", Decimal("0.26"), EXPIRES)
    assert made.hash == hashlib.sha256(made.key.reveal().encode()).hexdigest()
    (info,) = provision.list_keys(admin, name="run:a:1")
    assert info == provision.KeyInfo(made.hash, "run:a:1", False, Decimal(0), Decimal("0.26"), EXPIRES)
    assert provision.read_sub_key_usage(admin, made.hash) == Decimal(0)
    assert provision.delete_sub_key(admin, made.hash)
    assert provision.list_keys(admin, name="run:a:1") == []
    assert provision.delete_sub_key(admin, made.hash)
    assert provision.read_sub_key_usage(admin, made.hash) is None


def test_a_sub_key_is_not_shown(simulator: Simulator) -> None:
    made = provision.create_sub_key(simulator.admin_key, "n", Decimal(1), EXPIRES)
    assert made.key.reveal() not in repr(made)


def test_a_refused_sub_key_has_the_reason_and_is_not_repeated(serve: Serve) -> None:
    server = serve(lambda _: (403, {"error": {"message": "sk-or-secret"}}))
    with pytest.raises(UpstreamError, match="management key") as caught:
        provision.create_sub_key("admin", "n", Decimal(1), EXPIRES)
    assert "secret" not in str(caught.value)
    assert server.asked("POST", "/keys") == 1


class Keys:
    """A management API that makes keys but loses some of its answers."""

    def __init__(self, *, lose: int) -> None:
        self.lose = lose
        self.made: dict[str, str] = {"other": "someone else's"}

    def __call__(self, seen: Seen) -> tuple[int, Any] | None:
        if seen.method == "POST":
            secret = f"sk-{len(self.made)}"
            key_hash = hashlib.sha256(secret.encode()).hexdigest()
            self.made[key_hash] = seen.body["name"]
            self.lose -= 1
            return None if self.lose >= 0 else (201, {"data": {"hash": key_hash}, "key": secret})
        if seen.method == "DELETE":
            return (200, {"deleted": True}) if self.made.pop(seen.path[6:], None) else (404, {})
        if seen.path.startswith("/keys?"):
            return 200, {"data": [{"hash": h, "name": n} for h, n in self.made.items()]}
        return (200, {"data": {"hash": seen.path[6:]}}) if seen.path[6:] in self.made else (404, {})


def test_a_key_whose_answer_was_lost_is_found_by_name_and_deleted(serve: Serve) -> None:
    keys = Keys(lose=2)
    server = serve(keys)
    made = provision.create_sub_key("admin", "run:a:1", Decimal(1), EXPIRES)
    assert keys.made == {"other": "someone else's", made.hash: "run:a:1"}
    assert server.asked("POST", "/keys") == 3


def test_if_every_answer_is_lost_the_error_names_the_key(serve: Serve) -> None:
    serve(Keys(lose=99))
    with pytest.raises(UpstreamError, match="run:a:1"):
        provision.create_sub_key("admin", "run:a:1", Decimal(1), EXPIRES)


def test_a_key_that_still_exists_does_not_count_as_deleted(serve: Serve) -> None:
    serve(lambda seen: (200, {"deleted": True}) if seen.method == "DELETE" else (200, {"data": {"hash": "h"}}))
    assert not provision.delete_sub_key("admin", "h")


def test_a_failed_deletion_is_repeated(serve: Serve) -> None:
    keys = Keys(lose=0)
    keys.made["h"] = "n"
    hang_ups = iter([True, True])

    def script(seen: Seen) -> tuple[int, Any] | None:
        return None if seen.method == "DELETE" and next(hang_ups, False) else keys(seen)

    serve(script)
    assert provision.delete_sub_key("admin", "h")


def test_keys_are_listed_page_by_page(simulator: Simulator) -> None:
    for number in range(102):
        provision.provision_key(simulator.admin_key, f"n{number}", 1.0)
    names = {info.name for info in provision.list_keys(simulator.admin_key)}
    assert {f"n{number}" for number in range(102)} <= names


def test_a_list_of_keys_without_an_end_is_not_followed(serve: Serve) -> None:
    server = serve(lambda _: (200, {"data": [{"hash": "same", "name": "n"}]}))
    assert len(provision.list_keys("admin")) == 1
    assert server.asked("GET", "/keys") == 2


def test_a_list_that_cannot_be_read_is_an_error(serve: Serve) -> None:
    serve(lambda _: (401, {}))
    with pytest.raises(UpstreamError, match="list of keys"):
        provision.list_keys("admin")


def test_a_replaced_provision_key_makes_the_sub_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_preflight, "provision_key", lambda admin, label, limit: f"{admin}/{label}/{limit}")
    made = provision.create_sub_key(Secret("admin"), "n", Decimal("0.26"), EXPIRES)
    assert made.key.reveal() == "admin/n/0.26"
    assert made.hash == hashlib.sha256(b"admin/n/0.26").hexdigest()


def test_a_failure_of_a_replaced_provision_key_is_an_upstream_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(agent_preflight, "provision_key", fail)
    with pytest.raises(UpstreamError, match="no route"):
        provision.create_sub_key("admin", "n", Decimal(1), EXPIRES)
