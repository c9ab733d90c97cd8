"""The proxy by hand, as a process: what it prints and leaves behind, what a second start finds, how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from openrouter_sim import FaultRule, Scenario, Simulator
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.config import Config, StandaloneConfig, user_counts_file, user_quarantine_file
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.commands import Freeze
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.secret import Secret
from preflight_proxy.ledger.store import Store
from preflight_proxy.standalone import config_of, serve
from tests.support.cases import each
from tests.support.paused_answer import PausedAnswer
from tests.support.proxy_process import Child, standalone
from tests.support.proxy_world import chat

wire = pytest.mark.wire


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as made:
        yield made


async def ask(child: Child, token: str | None = None, **body: Any) -> tuple[int, dict[str, Any]]:
    """One call through the proxy, with its first token unless told otherwise."""
    headers = {"Authorization": f"Bearer {token or child.ready['api_key']}"}
    url = child.ready["base_url"] + "/chat/completions"
    async with aiohttp.ClientSession() as client, client.post(url, json=chat(**body), headers=headers) as response:
        return response.status, await response.json()


async def key_info(child: Child, token: str) -> dict[str, Any]:
    """What `/key` says to this token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as client, client.get(child.ready["base_url"] + "/key", headers=headers) as got:
        return dict((await got.json())["data"])


def posted_usd(data: Path) -> Decimal:
    lines = (data / "costs.jsonl").read_text().splitlines()
    return sum((Decimal(json.loads(line)["cost_usd"]) for line in lines), Decimal(0))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# What it says and leaves


@wire
async def test_it_serves_says_how_and_leaves_books_that_balance(tmp_path: Path, sim: Simulator) -> None:
    data = tmp_path / "new" / "data"
    async with standalone(tmp_path, sim.base_url, sim.inference_key, data=str(data)) as child:
        token = child.ready["api_key"]
        assert child.ready == {
            "base_url": child.ready["base_url"],
            "api_key": token,
            "pid": child.process.pid,
            "control": str(data / "control.sock"),
            "accounts": {"default": {"api_key": token, "limit_usd": "1.00"}},
        }
        assert child.ready["base_url"] in child.said()
        assert token in child.said()
        status, answer = await ask(child)
        assert status == 200
        assert (await key_info(child, token))["usage"] == answer["usage"]["cost"]
        assert await child.stop() == 0
    assert posted_usd(data) == sim.bill().total_usd > 0
    assert [mode(data), mode(data / "tokens.json"), mode(child.ready_file)] == [0o700, 0o600, 0o600]
    assert [mode(data / "budget"), mode(data / "budget" / "default.txt")] == [0o755, 0o644]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert sim.inference_key.encode() not in written
    assert token.encode() not in (child.folder / "stderr").read_bytes()


@wire
async def test_the_control_socket_answers_its_own_user(tmp_path: Path, sim: Simulator) -> None:
    async with standalone(tmp_path, sim.base_url, sim.inference_key, unix=str(tmp_path / "p.sock")) as child:
        connector = aiohttp.UnixConnector(child.ready["control"])
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.get("http://control/health") as response,
        ):
            assert (response.status, (await response.json())["pid"]) == (200, child.process.pid)
        spec = {"limit_usd": "1", "token": "pf-0123456789abcdef", "key": sim.inference_key}
        connector = aiohttp.UnixConnector(child.ready["control"])
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.put("http://control/accounts/default", json=spec) as response,
        ):
            assert response.status == 404
        headers = {"Authorization": f"Bearer {child.ready['api_key']}"}
        connector = aiohttp.UnixConnector(str(tmp_path / "p.sock"))
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as client,
            client.post("http://proxy/api/v1/chat/completions", json=chat()) as response,
        ):
            assert response.status == 200
        assert [mode(Path(child.ready["control"])), mode(tmp_path / "p.sock")] == [0o600, 0o600]


@wire
async def test_a_long_path_of_data_gets_its_control_socket_elsewhere_and_leaves_nothing(
    tmp_path: Path, sim: Simulator
) -> None:
    async with standalone(tmp_path, sim.base_url, sim.inference_key, data=str(tmp_path / ("long" * 30))) as child:
        control = Path(child.ready["control"])
        assert mode(control.parent) == 0o700
        assert len(str(control)) < 100
        assert await child.stop() == 0
    assert not control.parent.exists()


# What it says of the key's own limit


@wire
@pytest.mark.parametrize(
    ("left", "is_said"), [("0.5", True), ("0.99", True), ("1", False), ("2", False), (None, False)]
)
async def test_it_says_at_its_start_if_the_key_has_less_left_than_the_budget(
    tmp_path: Path, sim: Simulator, left: str | None, is_said: bool
) -> None:
    key = sim.account.find(sim.inference_key)
    assert key is not None
    key.limit, key.limit_reset = None if left is None else Decimal(left), "daily"
    accounts = {"a": "0.4", "b": "0.6"}
    async with standalone(tmp_path, sim.base_url, sim.inference_key, limits_usd=accounts) as child:
        await until_logged(child, "proxy.ready")
        said = [line for line in child.said().splitlines() if "limit at OpenRouter" in line]
        assert len(said) == is_said
        assert all(f"${left}" in line and "$1" in line and "daily" in line for line in said)
        assert await child.stop() == 0


@wire
async def test_it_says_when_the_keys_limit_is_reached_and_no_account_is_frozen(tmp_path: Path, sim: Simulator) -> None:
    key = sim.account.find(sim.inference_key)
    assert key is not None
    async with standalone(tmp_path, sim.base_url, sim.inference_key) as child:
        await until_logged(child, "proxy.ready")
        key.limit, key.limit_reset = Decimal(0), "daily"
        for number in range(2):
            status, answer = await ask(child, messages=[{"role": "user", "content": f"{number}"}])
            assert (status, answer["error"]["message"]) == (402, Code.KEY_LIMIT.sentence)
        await until_logged(child, "key.limit_reached")
        assert child.said().count("limit at OpenRouter is reached") == 1
        key.limit = None
        assert (await ask(child))[0] == 200
        assert await child.stop() == 0


@wire
async def test_an_account_that_was_frozen_for_a_foreign_keys_limit_is_open_again_after_a_start(
    tmp_path: Path, sim: Simulator
) -> None:
    """One that a person froze is not."""
    async with standalone(tmp_path, sim.base_url, sim.inference_key, limits_usd={"a": "1", "b": "1"}) as child:
        assert await child.stop() == 0
    store = Store(tmp_path / "data" / "ledger.sqlite3", clock=SystemClock())
    store.commit(Freeze("a", "the sub-key's limit fired before the budget"))
    store.commit(Freeze("b", "by hand"))
    store.close()
    async with standalone(tmp_path, sim.base_url, sim.inference_key, limits_usd={"a": "1", "b": "1"}) as child:
        for name, status in (("a", 200), ("b", 402)):
            assert (await ask(child, child.ready["accounts"][name]["api_key"]))[0] == status
        assert await child.stop() == 0


async def until_logged(child: Child, event: str) -> None:
    async with asyncio.timeout(30):
        while event not in child.errors():
            await asyncio.sleep(0.01)


# The same data again


@wire
async def test_tokens_and_spend_survive_a_restart_and_limits_become_the_new_figures(
    tmp_path: Path, sim: Simulator
) -> None:
    async with standalone(tmp_path, sim.base_url, sim.inference_key, limits_usd={"a": "1", "b": "2"}) as child:
        before = child.ready["accounts"]
        assert before["a"]["api_key"] != before["b"]["api_key"]
        await ask(child, before["b"]["api_key"])
        assert await child.stop() == 0
    spent_usd = posted_usd(tmp_path / "data")
    async with standalone(tmp_path, sim.base_url, sim.inference_key, limits_usd={"b": "0.5", "c": "1"}) as child:
        after = child.ready["accounts"]
        assert after["b"] == {"api_key": before["b"]["api_key"], "limit_usd": "0.50"}
        assert after["c"]["api_key"] not in {account["api_key"] for account in before.values()}
        info = await key_info(child, after["b"]["api_key"])
        assert (Decimal(str(info["usage"])), Decimal(str(info["limit"]))) == (spent_usd, Decimal("0.5"))
        assert await child.stop() == 0


@wire
async def test_a_second_process_on_the_same_data_is_refused_and_the_first_goes_on(
    tmp_path: Path, sim: Simulator
) -> None:
    async with standalone(tmp_path, sim.base_url, sim.inference_key) as first:
        second = standalone(tmp_path, sim.base_url, sim.inference_key, name="second")
        await second.start()
        assert await second.ended() == 1
        assert second.errors().startswith("Another proxy, process ")
        assert second.errors().count("\n") == 1
        assert not second.ready_file.exists()
        assert (await ask(first))[0] == 200
        assert await first.stop() == 0


@wire
async def test_a_killed_proxy_is_followed_by_one_that_knows_what_it_spent(tmp_path: Path, sim: Simulator) -> None:
    async with standalone(tmp_path, sim.base_url, sim.inference_key) as child:
        token = child.ready["api_key"]
        await ask(child)
        await child.stop(signal.SIGKILL)
    async with standalone(tmp_path, sim.base_url, sim.inference_key) as child:
        assert child.ready["api_key"] == token
        assert Decimal(str((await key_info(child, token))["usage"])) == sim.bill().total_usd > 0
        assert (await ask(child))[0] == 200


# Its end


@wire
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_streams_are_served_to_their_end(tmp_path: Path, sim: Simulator, number: int) -> None:
    """The stream goes on until another call was refused."""
    refused = PausedAnswer()
    sim.scenario = Scenario(faults=(FaultRule(refused, times=1),))
    async with standalone(tmp_path, sim.base_url, sim.inference_key) as child, aiohttp.ClientSession() as client:
        headers = {"Authorization": f"Bearer {child.ready['api_key']}"}
        body = chat("[[sim tokens=60]]", stream=True, max_tokens=60)
        url = child.ready["base_url"] + "/chat/completions"
        async with client.post(url, json=body, headers=headers) as response:
            first = await response.content.readany()
            child.process.send_signal(number)
            async with asyncio.timeout(60):
                while (await ask(child))[0] != 503:
                    await asyncio.sleep(0.01)  # the signal is on its way
            async with client.get(child.ready["base_url"].removesuffix("/api/v1") + "/health") as health:
                assert (health.status, await health.json()) == (503, {"status": "draining"})
            refused.over.set()
            assert (first + await response.content.read()).endswith(b"data: [DONE]\n\n")
        assert await child.ended() == 0
    assert posted_usd(tmp_path / "data") == sim.bill().total_usd > 0


# What it does not start with


@wire
async def test_an_address_that_is_taken_is_named(tmp_path: Path, sim: Simulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        child = standalone(tmp_path, sim.base_url, sim.inference_key, listen=address)
        await child.start()
        assert await child.ended() == 1
    assert child.errors().startswith("The proxy cannot listen")
    assert child.errors().count("\n") == 1


@wire
async def test_a_ready_file_of_before_is_gone_before_anything_is_served(tmp_path: Path, sim: Simulator) -> None:
    """Who waits for the file must not take an earlier proxy's for this one's."""
    ready = tmp_path / "ready.json"
    ready.write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.sqlite3").mkdir()
    child = standalone(tmp_path, sim.base_url, sim.inference_key, ready_file=str(ready))
    await child.start()
    assert await child.ended() == 1
    assert not ready.exists()


async def test_a_ready_file_that_cannot_be_written_is_named(tmp_path: Path, sim: Simulator) -> None:
    nowhere = str(tmp_path / "nowhere" / "ready.json")
    child = standalone(tmp_path, sim.base_url, sim.inference_key, ready_file=nowhere)
    await child.start()
    assert await child.ended() == 1
    assert child.errors().startswith(f"The file {nowhere}")
    assert child.errors().count("\n") == 1


def refuse(tmp_path: Path, **more: Any) -> str:
    """Start with settings that are refused before anything is served; what is said."""
    settings = StandaloneConfig(
        data=str(tmp_path / "data"),
        upstream="http://127.0.0.1:9/api/v1",
        listen="127.0.0.1:0",
        limits_usd={"default": "1"},
    )
    with pytest.raises(ConfigError) as raised:
        serve(replace(settings, **more), Secret("sk-or-v1-x"))
    return str(raised.value)


@each(
    "options",
    [
        {},
        {"bound": "proven", "cache_bound": "billed", "weigh": False, "share_preambles": True},
        {"byok": True, "durability": "power", "unix": "/p.sock"},
    ],
)
def test_the_process_gets_the_options_of_the_stand_alone_proxy(options: dict[str, Any]) -> None:
    given = {"data": "/d", "upstream": "http://x/api/v1", "listen": "127.0.0.1:0", **options}
    config = config_of(StandaloneConfig(**given), Path("/d"), Path("/c.sock"))
    assert config == Config(
        **given,
        control="/c.sock",
        quarantine_file=str(user_quarantine_file()),
        shared_counts_file=str(user_counts_file()),
    )


def test_a_start_without_an_account_says_so_and_makes_nothing(tmp_path: Path) -> None:
    assert f"no account in {tmp_path / 'data'} yet" in refuse(tmp_path, limits_usd={})
    assert not (tmp_path / "data").exists()


def test_an_upstream_that_is_no_url_is_named_before_anything_is_made(tmp_path: Path) -> None:
    assert "not 'foo'" in refuse(tmp_path, upstream="foo")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("limit", ["", "x", "-1", "0", "1e3", "NaN", "1000000000", "1,5", "$1"])
def test_a_budget_that_is_no_dollar_figure_is_named_with_its_account(tmp_path: Path, limit: str) -> None:
    assert "'b'" in refuse(tmp_path, limits_usd={"a": "1", "b": limit})


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a b", "a\n", "ä", "a" * 65])
def test_a_name_that_could_be_a_path_is_named(tmp_path: Path, name: str) -> None:
    assert repr(name) in refuse(tmp_path, limits_usd={name: "1"})


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_tokens_that_cannot_be_read_are_not_replaced(tmp_path: Path, text: str) -> None:
    tokens = tmp_path / "data" / "tokens.json"
    tokens.parent.mkdir()
    tokens.write_text(text)
    assert str(tokens) in refuse(tmp_path)
    assert tokens.read_text() == text


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made: Not a directory" in refuse(tmp_path, data=str(tmp_path / "file" / "data"))
    assert "cannot be made: a file has that name" in refuse(tmp_path, data=str(tmp_path / "file"))


@wire
def test_an_address_without_a_port_is_named(tmp_path: Path) -> None:
    assert "HOST:PORT" in refuse(tmp_path, listen="localhost")
