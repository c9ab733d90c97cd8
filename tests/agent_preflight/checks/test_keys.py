"""The key check in its bounds; what it does on the wire is in test_preflight."""

from collections.abc import Callable
from typing import Any

import pytest

from agent_preflight.checks import keys
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine
from openrouter_sim import Simulator
from tests.agent_preflight.conftest import Script, ScriptedServer

Serve = Callable[[Script], ScriptedServer]


def own(key: str) -> CheckLine:
    inputs = Inputs("admin", key, (), 1.0)
    (line,) = keys.check_api_key(inputs, Facts(inputs))
    return line


def test_it_may_spend_a_cent_at_most() -> None:
    assert str(keys.LIMIT_USD) == "0.01"


def test_whatever_goes_wrong_is_a_finding() -> None:
    inputs = Inputs("admin\nkey", "key", (), 1.0)
    (line,) = keys.check_key_smoke(inputs, Facts(inputs))
    assert line.ok is False
    assert line.failure.startswith("Key provisioning failed: ")
    assert "admin" not in line.failure


@pytest.mark.wire
def test_an_inference_key_works_and_another_is_refused_with_what_to_do(simulator: Simulator) -> None:
    assert own(simulator.inference_key) == CheckLine(ok=True, name="Inference key", detail="works")
    for wrong, said in (
        ("sk-or-v1-wrong", "OpenRouter refuses the inference key (401: "),
        (" ", "No inference key is given."),
    ):
        line = own(wrong)
        assert line.failure.startswith(said)
        assert "Set OPENROUTER_API_KEY to an inference key: https://openrouter.ai/settings/keys" in line.failure


@pytest.mark.wire
def test_a_management_key_cannot_make_calls(simulator: Simulator) -> None:
    assert own(simulator.admin_key).failure.startswith(
        "OPENROUTER_API_KEY is a management key, which cannot make calls."
    )


@pytest.mark.wire
@pytest.mark.parametrize(
    ("data", "ok", "detail"),
    [
        ({"limit_remaining": 0}, None, "works, but its own limit is used up"),
        ({"limit_remaining": -0.5}, None, "works, but its own limit is used up"),
        ({"limit_remaining": 0.01}, True, "works"),
        ({"limit_remaining": None}, True, "works"),
        ({"is_provisioning_key": True}, False, "is a management key"),
        (5, None, "OpenRouter told nothing of it"),
    ],
)
def test_what_openrouter_tells_of_a_key_is_heard(serve: Serve, data: Any, ok: bool | None, detail: str) -> None:
    serve(lambda seen: (200, {"data": data}))
    line = own("key")
    assert (line.ok, line.detail) == (ok, detail)


@pytest.mark.wire
def test_a_key_of_which_nothing_can_be_learned_is_no_wrong_key(serve: Serve) -> None:
    serve(lambda seen: (503, {}))
    assert own("key").failure.startswith("Cannot reach OpenRouter at ")
