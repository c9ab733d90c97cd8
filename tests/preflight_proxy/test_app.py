"""The parts wired together: what a start needs, what it leaves open when it fails, what an end leaves behind."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from openrouter_sim import Scenario, Simulator
from preflight_proxy.app import FILES_MIN, running
from preflight_proxy.base.config import Config
from preflight_proxy.core.errors import ConfigError, LedgerError
from preflight_proxy.core.ledger.commands import (
    ClearQuarantine,
    Freeze,
    OpenAccount,
    Post,
    Quarantine,
    Recover,
    Reserve,
)
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.core.ledger.state import Change
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from preflight_proxy.ledger.service import BYOK, KEY_LIMIT_FIRED
from preflight_proxy.ledger.shared_counts_file import carried_factors
from preflight_proxy.ledger.store import Store
from tests.support.fake_clock import FakeClock
from tests.support.proxy_world import World, quick_config

wire = pytest.mark.wire
NOWHERE = "http://127.0.0.1:9/api/v1"


def settings(data: Path, **more: str | bool) -> Config:
    return Config(data=str(data), upstream=NOWHERE, **more)  # type: ignore[arg-type]


@wire
async def test_a_start_needs_no_upstream_and_makes_its_folder(tmp_path: Path) -> None:
    data = tmp_path / "a" / "b"
    async with running(settings(data, listen="127.0.0.1:0")) as proxy:
        assert proxy.base_url is not None
        async with aiohttp.ClientSession() as client, client.get(proxy.base_url + "/key") as response:
            assert response.status == 401
        assert (data / "ledger.sqlite3").exists()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(proxy.base_url + "/key")


@wire
async def test_a_base_url_of_ipv6_can_be_used_as_it_stands(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with running(settings(tmp_path, listen="[::1]:0")) as proxy:
        assert str(proxy.base_url).startswith("http://[::1]:")
        async with aiohttp.ClientSession() as client, client.get(f"{proxy.base_url}/key") as response:
            assert response.status == 401


@wire
async def test_a_proxy_without_listeners_has_no_base_url(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as proxy:
        assert proxy.base_url is None


@wire
async def test_one_address_that_cannot_be_had_closes_the_others(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConfigError, match="cannot listen"):
        async with running(settings(tmp_path, listen=address, control=str(tmp_path / "nowhere" / "c.sock"))):
            raise AssertionError("it must not start")
    async with running(settings(tmp_path, listen=address)) as proxy:  # ledger and port are free again
        assert proxy.base_url == f"http://{address}/api/v1"


@wire
async def test_a_store_is_one_proxys(tmp_path: Path) -> None:
    async with running(settings(tmp_path)):
        with pytest.raises(LedgerError):
            async with running(settings(tmp_path)):
                raise AssertionError("it must not start")


@wire
async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        async with running(settings(tmp_path / "file")):
            raise AssertionError("it must not start")


@wire
async def test_all_the_open_files_that_the_system_allows_are_used(tmp_path: Path) -> None:
    async with running(settings(tmp_path)):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard >= FILES_MIN


@wire
async def test_an_end_waits_for_running_streams_and_their_cost(tmp_path: Path) -> None:
    async with Simulator(Scenario(tokens_per_s=100)) as sim, aiohttp.ClientSession() as client:
        config = Config(data=str(tmp_path), upstream=sim.base_url, listen="127.0.0.1:0")
        async with running(config) as proxy:
            world = World(sim, proxy, client, tmp_path)
            await world.open()
            begun = asyncio.Event()

            async def stream() -> bytes:
                async with world.post(stream=True, text="[[sim tokens=30]]", max_tokens=30) as response:
                    first = await response.content.readany()
                    begun.set()
                    return first + await response.content.read()

            reading = asyncio.ensure_future(stream())
            await begun.wait()
        assert (await reading).endswith(b"data: [DONE]\n\n")
        assert world.posted_usd() == world.billed_usd() > 0


@wire
async def test_an_end_waits_for_a_stream_whose_client_left(tmp_path: Path) -> None:
    async with Simulator(Scenario(tokens_per_s=100)) as sim, aiohttp.ClientSession() as client:
        config = Config(data=str(tmp_path), upstream=sim.base_url, listen="127.0.0.1:0")
        async with running(config) as proxy:
            world = World(sim, proxy, client, tmp_path)
            await world.open()
            async with world.post(stream=True, text="[[sim tokens=30]]", max_tokens=30) as response:
                await response.content.readany()
                response.close()
        assert world.posted_usd() == world.billed_usd() > 0


# Files


async def test_budget_files_that_the_last_process_did_not_write_are_written_at_start(tmp_path: Path) -> None:
    """Also those of accounts that nobody opens again (M10 step 7)."""
    folder = tmp_path / "budget"
    folder.mkdir()
    path = folder / "budget.txt"
    store = Store(tmp_path / "ledger.sqlite3", clock=FakeClock())
    opening = OpenAccount(
        account="a", run="r", limit_pusd=10**12, token_hash="h", budget_file=str(path), budget_mode="detailed"
    )
    store.commit(opening)
    store.commit(Reserve("r1", "a", 10**11, "chat", "m", ("t",), 10))
    store.commit(Post("r1", 10**11))
    store.close()
    async with running(Config(data=str(tmp_path), upstream="http://127.0.0.1:9/api/v1")):
        text = path.read_text()
    assert text.startswith("Budget: $0.900 remaining of $1.00 (90% left)\n")
    assert "$0.1000  (thinking)" in text


async def test_a_call_that_the_last_process_left_pending_is_unknown_from_the_start(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.sqlite3", clock=FakeClock())
    store.commit(OpenAccount("a", "r", 10**12, "h"))
    store.commit(Reserve("r1", "a", 10**11, "chat", "m/x", ("t",), 9))
    store.close()
    async with running(settings(tmp_path)) as proxy:
        assert [call.unknown_since_s is None for call in proxy.ledger.store.pending()] == [False]


async def test_each_line_of_a_run_has_its_tags_also_those_that_no_call_wrote(tmp_path: Path) -> None:
    config = Config(data=str(tmp_path), upstream=NOWHERE, tags={"task": "refactor", "seed": "7"})
    async with running(config) as proxy:
        proxy.ledger.commit(OpenAccount("a", "r", 10**12, "hash"))
        assert isinstance(proxy.ledger.commit(Reserve("r1", "a", 10**9, "chat", "m/x", ("t",), 16)), Change)
        proxy.ledger.commit(Post("r1", 10**8))
        proxy.ledger.commit(Recover("a", 5))
    lines = [json.loads(line) for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert [(line["outcome"], line["tags"]) for line in lines] == [
        ("posted", {"task": "refactor", "seed": "7"}),
        ("recovered", {"task": "refactor", "seed": "7"}),
    ]


async def test_an_end_writes_budget_files_that_wait(tmp_path: Path) -> None:
    path = tmp_path / "budget.txt"
    async with running(settings(tmp_path)) as proxy:
        proxy.ledger.commit(OpenAccount("a", "r", 10**12, "h", budget_file=str(path)))
        for count in range(1, 3):  # the second comes too soon after the first to be written at once
            proxy.ledger.commit(Reserve(f"r{count}", "a", 10**11, "chat", "m/x", ("t",), 9))
    assert path.read_text().startswith("Budget: $0.80")


@wire
async def test_a_failure_ends_every_running_call_before_the_ledger_is_closed(tmp_path: Path) -> None:
    async with Simulator(Scenario(tokens_per_s=1)) as sim, aiohttp.ClientSession() as client:
        with suppress(ZeroDivisionError):
            async with running(quick_config(tmp_path, sim.base_url)) as proxy:
                world = World(sim, proxy, client, tmp_path)
                await world.open()
                call = asyncio.ensure_future(world.post(stream=True).__aenter__())
                await sim.until(lambda: len(sim.requests) == 1)
                raise ZeroDivisionError
        assert len(proxy.tasks) == 0
        call.cancel()


async def test_what_ran_on_a_provider_key_of_the_users_own_is_used_again_once_that_is_wanted(tmp_path: Path) -> None:
    """Whether this ledger shut it out or the user's list; what billed too much stays out (M14, M16)."""
    listed = QuarantineFile(tmp_path / "quarantine.jsonl")
    listed.add(QuarantinedEndpoint("m/x", "listed", BYOK, 0.0, "http://127.0.0.1:9"))
    shared = {"quarantine_file": str(tmp_path / "quarantine.jsonl")}
    async with running(settings(tmp_path / "data", **shared)) as proxy:
        proxy.ledger.commit(Quarantine("m/x", "found", BYOK))
        proxy.ledger.commit(Quarantine("m/x", "dear", "billed too much"))
        assert len(proxy.ledger.store.state.quarantined) == 3
    async with running(settings(tmp_path / "data", byok=True, **shared)) as proxy:
        assert list(proxy.ledger.store.state.quarantined) == [("m/x", "dear")]
    async with running(settings(tmp_path / "data", **shared)) as proxy:
        assert len(proxy.ledger.store.state.quarantined) == 3


async def test_the_counts_that_runs_share_are_opened_after_the_start_and_closed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token_counts.sqlite3"
    async with running(settings(tmp_path / "data", shared_counts_file=str(path))):
        pass
    assert carried_factors(path, 0.0) == []
    assert sorted(file.name for file in path.parent.iterdir()) == ["token_counts.key", "token_counts.sqlite3"]
    assert "shared-counts" not in {thread.name for thread in threading.enumerate()}


async def test_a_proxy_without_such_a_file_shares_nothing(tmp_path: Path) -> None:
    async with running(settings(tmp_path / "data")):
        assert "shared-counts" not in {thread.name for thread in threading.enumerate()}


async def test_an_upstreams_findings_take_no_endpoint_of_another_out_of_use(tmp_path: Path) -> None:
    """Neither by the user's list nor by a ledger that was used before both; and each keeps its own."""
    path = tmp_path / "quarantine.jsonl"
    QuarantineFile(path).add(QuarantinedEndpoint("m/x", "real", "dear", 0.0))
    ours, theirs = NOWHERE, "https://openrouter.ai/api/v1"

    def before(upstream: str) -> Config:
        return Config(data=str(tmp_path / "data"), upstream=upstream, quarantine_file=str(path))

    async with running(before(ours)) as proxy:
        assert not proxy.ledger.store.state.quarantined
        proxy.ledger.commit(Quarantine("m/x", "simulated", "dear"))
        assert list(proxy.ledger.store.state.quarantined) == [("m/x", "simulated")]
    async with running(before(theirs)) as proxy:
        assert list(proxy.ledger.store.state.quarantined) == [("m/x", "real")]
        proxy.ledger.commit(ClearQuarantine("m/x", "simulated"))
    async with running(before(ours.replace("/api/v1", ""))) as proxy:
        assert list(proxy.ledger.store.state.quarantined) == [("m/x", "simulated")]
        proxy.ledger.commit(ClearQuarantine("m/x", "real"))
        proxy.ledger.commit(ClearQuarantine("m/x", "simulated"))
        assert not proxy.ledger.store.state.quarantined
    async with running(before(theirs)) as proxy:
        assert list(proxy.ledger.store.state.quarantined) == [("m/x", "real")]
    assert {(row.tag, row.upstream) for row in QuarantineFile(path).read()} == {
        ("real", "https://openrouter.ai"),
        ("simulated", "http://127.0.0.1:9"),
    }


@wire
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"bound": "proven"}, True),
        ({"bound": "proven", "cache_bound": "billed"}, False),
        ({"cache_bound": "billed"}, False),
    ],
)
async def test_only_proven_bounds_at_the_write_price_leave_no_exposure(
    tmp_path: Path, options: dict[str, Any], expected: bool
) -> None:
    async with running(settings(tmp_path / "data", **options)) as proxy:
        assert proxy.ledger.reserves_proven is expected


async def test_a_start_lifts_the_freeze_for_a_key_limit_of_foreign_keys_alone(tmp_path: Path) -> None:
    """On a sub-key of its own the account stays frozen: its ledger is too low (M20)."""
    store = Store(tmp_path / "ledger.sqlite3", clock=FakeClock())
    for name, is_own in (("own", True), ("foreign", False)):
        store.commit(OpenAccount(name, "run", 10**12, name, key_hash="k", key_is_own=is_own, key_usage_pusd=0))
        store.commit(Freeze(name, KEY_LIMIT_FIRED))
    store.close()
    async with running(settings(tmp_path)) as proxy:
        assert proxy.ledger.account("own").frozen == KEY_LIMIT_FIRED
        assert proxy.ledger.account("foreign").frozen is None
