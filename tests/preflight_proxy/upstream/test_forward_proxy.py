"""Calls reach OpenRouter by the HTTP proxy that the environment names, and its login is shown nowhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from openrouter_sim import Simulator
from preflight_proxy.core.environment_proxy import HttpProxy
from preflight_proxy.core.secret import Secret
from preflight_proxy.server.certificate import tls_context
from preflight_proxy.upstream.client import NotSentError, Upstream
from tests.support.forward_proxy import ForwardProxy
from tests.support.proxy_process import Child, standalone
from tests.support.proxy_world import chat
from tests.support.tls import new_authority

pytestmark = pytest.mark.wire

NAMED = "http://openrouter.test/api/v1"
"""A name that no machine knows: only the proxy leads there."""
LOGIN = "me:hunter2"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as made:
        yield made


@pytest.fixture
def forward(sim: Simulator) -> Iterator[ForwardProxy]:
    with ForwardProxy(address_of(sim), login=LOGIN) as made:
        yield made


def address_of(sim: Simulator) -> tuple[str, int]:
    url = URL(sim.base_url)
    assert url.host is not None
    assert url.port is not None
    return url.host, url.port


async def ask(child: Child) -> tuple[int, dict[str, object]]:
    headers = {"Authorization": f"Bearer {child.ready['api_key']}"}
    url = child.ready["base_url"] + "/chat/completions"
    async with aiohttp.ClientSession() as client, client.post(url, json=chat(), headers=headers) as response:
        return response.status, await response.json()


def written(folder: Path) -> str:
    """All that a proxy left behind: its log, its output, its files."""
    return "".join(path.read_text("latin-1") for path in folder.rglob("*") if path.is_file())


async def test_a_stand_alone_proxy_uses_it_for_prices_calls_and_key(
    sim: Simulator, forward: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{LOGIN}@{forward.address}")
    async with standalone(tmp_path, NAMED, sim.inference_key) as child:
        assert (await ask(child))[0] == 200
        await child.stop()
    assert f"POST {NAMED}/chat/completions HTTP/1.1" in forward.asked
    assert f"GET {NAMED}/models/openai/gpt-4.1-nano/endpoints HTTP/1.1" in forward.asked
    assert "hunter2" not in written(tmp_path)


async def test_without_it_no_call_leaves_and_the_log_names_the_cause(sim: Simulator, tmp_path: Path) -> None:
    async with standalone(tmp_path, NAMED, sim.inference_key) as child:
        status, body = await ask(child)
        await child.stop()
    assert (status, body["error"]) == (
        503,
        {
            "code": 503,
            "message": "OpenRouter cannot be reached.",
            "metadata": {"error_type": "provider_overloaded"},
        },
    )
    lines = [line for line in child.errors().splitlines() if "prices.unread" in line]
    assert len(lines) == 1
    assert "gaierror" in lines[0]


async def test_a_wrong_login_leaves_nothing_spent(
    sim: Simulator, forward: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", f"http://me:wrong-one@{forward.address}")
    async with standalone(tmp_path, NAMED, sim.inference_key) as child:
        assert (await ask(child))[0] == 503
        await child.stop()
    assert "wrong-one" not in written(tmp_path)


async def test_a_tunnel_leads_to_the_real_name_and_ssl_cert_file_makes_its_certificate_trusted(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = new_authority()
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.root)
    tls = tls_context(authority.certificate, authority.key)
    with ForwardProxy(address_of(sim), login=LOGIN, tls=tls) as forward:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{LOGIN}@{forward.address}")
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        async with standalone(tmp_path, "https://openrouter.ai/api/v1", sim.inference_key) as child:
            assert (await ask(child))[0] == 200
            await child.stop()
        assert set(forward.asked) == {"CONNECT openrouter.ai:443 HTTP/1.1"}
        monkeypatch.delenv("SSL_CERT_FILE")
        async with standalone(tmp_path, "https://openrouter.ai/api/v1", sim.inference_key) as child:
            assert (await ask(child))[0] == 503
            await child.stop()
    assert "SSLCertVerificationError" in child.errors()


async def test_a_tunnel_that_is_refused_is_a_call_that_was_not_sent() -> None:
    with ForwardProxy(("127.0.0.1", 9), login=LOGIN) as forward:
        proxy = HttpProxy(f"http://{forward.address}", Secret("Basic b3RoZXI="), "https_proxy")
        async with Upstream("https://openrouter.ai/api/v1", proxy) as upstream:
            with pytest.raises(NotSentError):
                await upstream.post("/chat/completions", b"{}", [], lambda: True)


async def test_a_proxy_that_is_not_there_is_a_call_that_was_not_sent() -> None:
    proxy = HttpProxy("http://127.0.0.1:9", None, "https_proxy")
    async with Upstream("https://openrouter.ai/api/v1", proxy) as upstream:
        with pytest.raises(NotSentError):
            await upstream.post("/chat/completions", b"{}", [], lambda: True)


async def test_no_netrc_file_adds_a_login(sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Upstream(sim.base_url) as upstream:
        status, body = await upstream.get("/key", sim.inference_key)
    assert status == 200
    assert "data" in json.loads(body)


async def test_a_kind_of_proxy_that_cannot_be_used_is_refused_at_the_start(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:hunter2@127.0.0.1:9")
    child = standalone(tmp_path, NAMED, sim.inference_key)
    await child.start()
    async with asyncio.timeout(60):
        assert await child.process.wait() == 1
    assert "SOCKS" in child.errors()
    assert "hunter2" not in child.errors()
    async with standalone(tmp_path, sim.base_url, sim.inference_key) as loopback:
        assert (await ask(loopback))[0] == 200
