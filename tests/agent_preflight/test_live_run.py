"""A person's hand on a live run; the commands have the tests of all that a person sees."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from agent_preflight.control_client import ControlClient
from agent_preflight.live_run import Ended, Plan, check_alias, find_plan, stop, top_up, until_over
from agent_preflight.run_control import read_control
from agent_preflight.runner.folder import RunFolder, open_named
from preflight_proxy.errors import ConfigError, OperatingError
from tests.agent_preflight.live_field import LiveField
from tests.agent_preflight.runner.conftest import Field, trials

__all__ = ["trials"]


def begun(tmp_path: Path) -> RunFolder:
    folder = open_named(tmp_path, "r", ["a"])
    folder.write_plan({"trials": [{"alias": "a", "key_name": "k"}]})
    return folder


def test_the_plan_names_the_trials(tmp_path: Path) -> None:
    with begun(tmp_path):
        plan = find_plan("r", tmp_path)
    assert plan == Plan(tmp_path / "r", {"a": "k"})
    with pytest.raises(ConfigError, match="its trials are a"):
        check_alias(plan, "b")


def test_a_trial_that_was_begun_again_has_its_latest_key(tmp_path: Path) -> None:
    with open_named(tmp_path, "r", ["a"]) as folder:
        for key_name in ("k1", "k2"):
            folder.write_plan({"trials": [{"alias": "a", "key_name": key_name}]})
    assert find_plan("r", tmp_path) == Plan(tmp_path / "r", {"a": "k2"}, frozenset({"a"}))


def test_a_run_in_its_checks_has_no_plan_yet(tmp_path: Path) -> None:
    with open_named(tmp_path, "r", ["a"]), pytest.raises(ConfigError, match="no plan yet"):
        find_plan("r", tmp_path)


def test_an_end_is_verified_only_if_every_step_was() -> None:
    assert not Ended("a", None).verified
    assert Ended("a", {"preflight": {"cleanup": {"kill": "ok"}}}).verified
    assert not Ended("a", {"preflight": {"cleanup": {"kill": "ok", "sub_key": "unverified"}}}).verified


@pytest.mark.wire
async def test_a_proxy_that_does_not_answer_yet_is_said_so(tmp_path: Path) -> None:
    with begun(tmp_path):
        plan = find_plan("r", tmp_path)
        with pytest.raises(ConfigError, match="does not answer"):
            await stop(plan, "a")
        with pytest.raises(ConfigError, match="does not answer"):
            await top_up(plan, "a", 1, None, None)
        assert await until_over(plan, None, 0.0) is None
    assert await until_over(plan, None, 0.0) == [Ended("a", None)]


@pytest.mark.wire
def test_a_limit_that_was_raised_holds_over_a_restart_of_the_proxy(trials: Field, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    source = f"""
        call(); say('ready')
        while not os.path.exists({str(flag)!r}): time.sleep(0.02)
        while True:
            try: call(); break
            except OSError: time.sleep(0.02)
        say('ready'); time.sleep(60)
    """
    with LiveField(trials, {"a": source}) as live:
        plan = find_plan("live", trials.runs_dir)
        asyncio.run(top_up(plan, "a", 10**11, trials.simulator.admin_key, trials.simulator.base_url))
        asyncio.run(_kill_proxy(live.run_dir))
        flag.touch()
        live.until()
        asyncio.run(stop(plan, None))
        (result,) = live.results()
    assert result.preflight["limit_usd"] == "0.15"
    assert any("starting it again" in line for line in trials.said)


async def _kill_proxy(run_dir: Path) -> None:
    control = read_control(run_dir)
    assert control is not None
    client = ControlClient(control.socket)
    os.kill(await client.pid(), signal.SIGKILL)
    await client.close()


@pytest.mark.wire
async def test_an_addition_whose_answer_is_lost_is_sent_once_and_told_as_unknown(tmp_path: Path) -> None:
    """Sent again it might count twice; a person looks first."""
    asked: list[str] = []

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.partition(" HTTP")[0])
        if head.startswith("GET"):
            body = b'{"id": "a", "limit_usd": "1"}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()

    with begun(tmp_path) as folder:
        control = read_control(folder.path)
        assert control is not None
        server = await asyncio.start_unix_server(break_off, control.socket)
        async with server:
            with pytest.raises(OperatingError, match=r"answer was lost.*agent-preflight status r"):
                await top_up(find_plan("r", tmp_path), "a", 10**10, None, None)
    assert asked == ["GET /accounts/a", "POST /accounts/a/top-up"]
