"""Test keys and the calls made with them; what comes of them is in test_preflight."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from agent_preflight import provision
from agent_preflight.checks import smoke
from agent_preflight.checks.inputs import Inputs
from openrouter_sim import Simulator
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.conftest import Script, ScriptedServer

pytestmark = pytest.mark.wire

Serve = Callable[[Script], ScriptedServer]


def test_a_test_key_expires_even_if_nobody_deletes_it(simulator: Simulator) -> None:
    inputs = Inputs(simulator.admin_key, simulator.inference_key, (), 1.0, site_name="site")
    with smoke.temporary_key(inputs, "try", Decimal("0.01")) as temporary:
        (info,) = provision.list_keys(simulator.admin_key, name="site:try")
        assert info.limit_usd == Decimal("0.01")
        assert info.expires_at is not None
        assert provision.get_usage(temporary.key) == 0.0
    assert temporary.leftover == ""
    assert provision.list_keys(simulator.admin_key, name="site:try") == []


@pytest.mark.parametrize("body", [b"", {}, {"choices": None}, [1], {"error": {"message": "late error"}}])
def test_a_200_that_is_no_completion_is_an_error(serve: Serve, body: Any) -> None:
    serve(lambda _: (200, body))
    with pytest.raises(UpstreamError, match="no completion"):
        smoke.chat(Inputs("a", "k", (), 1.0), Secret("k"), {})
