"""The orphans of a dead run are ended; its proxy only after it knows the costs of its calls."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_preflight.runs.folder import open_named
from agent_preflight.sweeping.orphans import end_orphan, end_orphans
from openrouter_sim import Scenario
from preflight_proxy.core.errors import ConfigError
from tests.drills.stage import stage

pytestmark = pytest.mark.wire


async def test_without_a_listener_there_is_no_orphan(tmp_path: Path) -> None:
    assert await end_orphan(tmp_path / "none.sock", 0, dry_run=False) is None


async def test_an_orphan_proxy_is_ended_and_verified_as_gone(tmp_path: Path) -> None:
    async with stage(tmp_path, run="torture") as play:
        await play.proxy.start()
        socket = tmp_path / "c.sock"
        rehearsed = await end_orphan(socket, 0, dry_run=True)
        assert rehearsed is not None
        assert await play.proxy.control("GET", "/accounts") == {"accounts": []}
        ended = await end_orphan(socket, 0, dry_run=False)
        assert ended == rehearsed
        assert ended.gone
        assert await end_orphan(socket, 0, dry_run=False) is None


async def test_an_orphan_proxy_stays_while_a_cost_is_unknown_and_admits_no_call(tmp_path: Path) -> None:
    async with stage(tmp_path, Scenario(tokens_per_s=20.0), run="torture") as play:
        await play.proxy.start()
        account, socket = await play.open("a", "1"), tmp_path / "c.sock"
        async with play.start(account, max_tokens=60, stream=True) as answer:
            await answer.content.readline()
            found = await end_orphan(socket, 0, dry_run=False)
            assert found is not None
            assert not found.gone
            assert "still finding out what $0.0" in found.note
            assert b"upstream" not in await answer.read()
        assert (await play.call(account))[0] != 200
        ended = await end_orphan(socket, 60, dry_run=False)
        assert ended is not None
        assert ended.gone
        assert play.billed_usd(account) > 0


async def test_a_proxy_that_restarted_without_keys_is_ended_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path, Scenario(tokens_per_s=20.0), run="torture") as play:
        await play.proxy.start()
        account = await play.open("a", "1")
        async with play.start(account, max_tokens=60, stream=True) as answer:
            await answer.content.readline()
            play.proxy.kill()
            await play.proxy.died()
            play.proxy.accounts.clear()  # whoever knew the keys is dead
            await play.proxy.start()
            (balance,) = (await play.proxy.control("GET", "/accounts"))["accounts"]
            assert (balance["keyed"], balance["unknown"]) == (False, 1)
            ended = await end_orphan(tmp_path / "c.sock", 60, dry_run=False)
        assert ended is not None
        assert ended.gone


async def test_a_live_run_is_not_touched(tmp_path: Path) -> None:
    with ExitStack() as held:
        run_dir = held.enter_context(open_named(tmp_path, "r", ["a"])).path
        with pytest.raises(ConfigError, match="going on"):
            await end_orphans(run_dir, ["a"], print)


async def test_a_dead_run_that_left_nothing_needs_no_work(tmp_path: Path) -> None:
    said: list[str] = []
    with open_named(tmp_path, "r", ["a"]) as folder:
        run_dir = folder.path
    await end_orphans(run_dir, ["a"], said.append)
    await end_orphans(tmp_path / "never", ["a"], said.append)
    assert said == []
