"""A run whose only way to OpenRouter is an HTTP proxy, and runs that have no way at all."""

from collections.abc import Callable
from typing import Any

import pytest

from agent_preflight.runs.result import exit_code
from preflight_proxy.core.errors import ConfigError
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen
from tests.support.forward_proxy import ForwardProxy
from tests.support.trial_field import Field

pytestmark = pytest.mark.wire

NAMED = "http://openrouter.test/api/v1"
"""A name that no machine knows: only the proxy leads there."""
CALLS_ONCE = "status, _ = call(); say('told', status=status)"


def lead(trials: Field) -> tuple[str, int]:
    host, _, port = trials.simulator.base_url.removeprefix("http://").partition("/")[0].partition(":")
    return host, int(port)


def test_a_run_behind_an_http_proxy_is_served_and_its_agents_reach_our_proxy_without_it(
    trials: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy(lead(trials), login="me:hunter2") as forward:
        monkeypatch.setenv("http_proxy", f"http://me:hunter2@{forward.address}")
        (result,) = trials.run({"a": CALLS_ONCE}, openrouter_base_url=NAMED)
        assert result.ok, result.error
        assert exit_code([result]) == 0
        assert result.preflight["calls"] == 1
        assert f"POST {NAMED}/chat/completions HTTP/1.1" in forward.asked
        assert not any("127.0.0.1" in first for first in forward.asked)
    for path in trials.run_dirs[-1].rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_a_run_with_an_unusable_http_proxy_does_not_start(trials: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(ConfigError, match="SOCKS"):
        trials.run({"a": CALLS_ONCE}, openrouter_base_url=NAMED)
    assert not trials.runs_dir.exists()


def test_a_run_that_cannot_reach_openrouter_fails_with_a_verified_clean_up(trials: Field) -> None:
    (result,) = trials.run({"a": CALLS_ONCE}, openrouter_base_url=NAMED)
    assert result.error is not None
    assert exit_code([result]) == 1


def test_a_trial_without_an_account_has_a_verified_clean_up(
    serve: Callable[[Script], ScriptedServer], trials: Field
) -> None:
    """Sub-keys can be made and deleted, and nothing else is answered."""
    alive = {"h1"}

    def script(seen: Seen) -> tuple[int, Any] | None:
        match seen.method, seen.path.removeprefix("/api/v1"):
            case "POST", "/keys":
                return 201, {"data": {"hash": "h1"}, "key": "sk-or-v1-made"}
            case "DELETE", "/keys/h1":
                alive.discard("h1")
                return 200, {"deleted": True}
            case "GET", "/keys/h1":
                return (200, {"data": {"hash": "h1", "usage": 0, "byok_usage": 0}}) if alive else (404, {})
            case "GET", path if path.startswith("/keys?"):
                return 200, {"data": []}
        return 503, {}

    trials.may_differ = True
    (result,) = trials.run({"a": CALLS_ONCE}, openrouter_base_url=serve(script).base_url)
    assert result.error == "OpenRouter answered 503 for the key's usage."
    assert result.cost_usd is None
    assert set(result.preflight["cleanup"].values()) == {"ok"}
    assert exit_code([result]) == 1
    assert not alive
