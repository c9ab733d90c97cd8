"""The price list of a model: the endpoints that the proxy would use, read without a key where there is none."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.base.usd import pusd
from agent_preflight.estimates.price_list import read_endpoints, widest_prompt_pusd
from openrouter_sim import Simulator
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.config import origin, user_quarantine_file
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import Prices
from tests.agent_preflight.conftest import Script, ScriptedServer

pytestmark = pytest.mark.wire

Serve = Callable[[Script], ScriptedServer]
SONNET = "anthropic/claude-sonnet-4.5"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_the_endpoints_are_those_that_the_proxy_reads(simulator: Simulator) -> None:
    async def of_the_proxy(model: str) -> object:
        async with Upstream(simulator.base_url) as upstream:
            return (await Prices(upstream, SystemClock()).of(model)).endpoints

    for model in simulator.catalog:
        assert read_endpoints(model, None) == asyncio.run(of_the_proxy(model)), model
    assert len(read_endpoints(SONNET, None)) > 0


def test_without_a_key_none_is_sent_and_with_one_it_is(serve: Serve) -> None:
    server = serve(lambda seen: (200, {"data": {"endpoints": []}}))
    assert read_endpoints(SONNET, None) == ()
    assert read_endpoints(SONNET, "sk-test") == ()
    assert [seen.headers.get("Authorization") for seen in server.seen] == [None, "Bearer sk-test"]


def test_a_steering_suffix_and_a_clients_prefix_are_left_out_and_what_is_no_name_is_not_asked_for(serve: Serve) -> None:
    server = serve(lambda seen: (200, {"data": {"endpoints": []}}))
    for model in (f"{SONNET}:floor", f"openrouter/{SONNET}", "a/b:free", "a/../b c", "../keys", "no-slash"):
        read_endpoints(model, None)
    paths = [seen.path for seen in server.seen]
    assert paths == [*[f"/models/{SONNET}/endpoints"] * 2, "/models/a/b:free/endpoints"]


def test_a_quarantined_endpoint_of_this_upstream_is_not_used(simulator: Simulator) -> None:
    before = read_endpoints(SONNET, None)
    listed = QuarantineFile(user_quarantine_file())
    listed.add(QuarantinedEndpoint(SONNET, before[0].tag, "overrun", 0.0, origin(simulator.base_url)))
    listed.add(QuarantinedEndpoint(SONNET, before[-1].tag, "overrun", 0.0))  # OpenRouter's own, not the simulator's
    assert read_endpoints(SONNET, None) == before[1:]


def test_a_model_that_is_not_there_has_none(simulator: Simulator) -> None:
    assert read_endpoints("no/such", simulator.inference_key) == ()


@pytest.mark.parametrize("answer", [(500, {}), (200, []), (200, b"no json"), (401, {"data": {}})])
def test_a_list_that_cannot_be_read_is_told(serve: Serve, answer: tuple[int, Any]) -> None:
    serve(lambda seen: answer)
    with pytest.raises(UpstreamError, match=SONNET):
        read_endpoints(SONNET, None)


def listed(tag: str, context: int, prompt: str, **more: Any) -> dict[str, Any]:
    """Return an endpoint as OpenRouter lists it."""
    pricing = {"prompt": prompt, "completion": "0.00001", **more.pop("pricing", {})}
    return {"tag": tag, "provider_name": tag, "context_length": context, "pricing": pricing, **more}


@pytest.mark.parametrize(
    ("endpoints", "usd"),
    [
        ([listed("a", 200_000, "0.000003")], "0.60"),
        ([listed("a", 200_001, "0.000003")], "0.61"),
        ([listed("a", 100_000, "0.000003"), listed("b", 50_000, "0.000007")], "0.35"),
        ([listed("a", 200_000, "0.000003", max_prompt_tokens=100_000)], "0.30"),
        (
            [listed("a", 10**6, "0.000003", pricing={"overrides": [{"prompt": "0.000006", "min_prompt_tokens": 2}]})],
            "6",
        ),
        ([listed("a", 1000, "0.0000001")], "0.01"),
        ([listed("a", 1000, "0")], "0"),
        ([listed("a", 200_000, "0.000003"), listed("b", 10**6, "no price")], "0.60"),
    ],
)
def test_the_widest_prompt_is_that_of_the_dearest_endpoint_rounded_up_to_a_cent(
    serve: Serve, endpoints: list[Any], usd: str
) -> None:
    serve(lambda seen: (200, {"data": {"architecture": None, "endpoints": endpoints}}))
    assert widest_prompt_pusd(SONNET, None) == pusd(usd)


@pytest.mark.parametrize("answer", [(500, {}), (404, {}), (200, {"data": {"endpoints": []}})])
def test_a_widest_prompt_without_prices_is_an_error(serve: Serve, answer: tuple[int, Any]) -> None:
    serve(lambda seen: answer)
    with pytest.raises(UpstreamError, match=SONNET):
        widest_prompt_pusd(SONNET, None)


def test_an_endpoint_without_a_price_is_left_out(serve: Serve) -> None:
    serve(lambda seen: (200, {"data": {"architecture": None, "endpoints": [1, {}, {"tag": "x"}]}}))
    assert read_endpoints(SONNET, None) == ()
