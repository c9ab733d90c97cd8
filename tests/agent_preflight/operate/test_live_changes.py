"""Top-ups and stops of a live run."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.operate.live_changes import (
    PlannedRun,
    TrialStop,
    check_alias,
    find_planned_run,
    stop,
    top_up,
    until_over,
)
from agent_preflight.runs.folder import RunFolder, open_named, read_control
from agent_preflight.sidecar.control_client import ControlClient
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.errors import ConfigError, OperatingError
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen
from tests.support.live_field import LiveField
from tests.support.trial_field import Field

Serve = Callable[[Script], ScriptedServer]


CENT_PUSD = 10**10


def begun(tmp_path: Path, **trial: str) -> RunFolder:
    folder = open_named(tmp_path, "r", ["a"])
    folder.write_plan({"trials": [{"alias": "a", "key_name": "k", **trial}]})
    return folder


def test_the_plan_names_the_trials(tmp_path: Path) -> None:
    with begun(tmp_path):
        plan = find_planned_run("r", tmp_path)
    assert plan == PlannedRun(tmp_path / "r", {"a": "k"}, {"a": CENT_PUSD})
    with pytest.raises(ConfigError, match="its trials are a"):
        check_alias(plan, "b")


def test_a_trial_that_was_begun_again_has_its_latest_key(tmp_path: Path) -> None:
    with open_named(tmp_path, "r", ["a"]) as folder:
        for key_name in ("k1", "k2"):
            folder.write_plan({"trials": [{"alias": "a", "key_name": key_name}]})
    assert find_planned_run("r", tmp_path) == PlannedRun(
        tmp_path / "r", {"a": "k2"}, {"a": CENT_PUSD}, frozenset({"a"})
    )


def test_a_run_in_its_checks_has_no_plan_yet(tmp_path: Path) -> None:
    with open_named(tmp_path, "r", ["a"]), pytest.raises(ConfigError, match="no plan yet"):
        find_planned_run("r", tmp_path)


def test_an_end_is_verified_only_if_every_step_was() -> None:
    assert not TrialStop("a", None).verified
    assert TrialStop("a", {"preflight": {"cleanup": {"kill": "ok"}}}).verified
    assert not TrialStop("a", {"preflight": {"cleanup": {"kill": "ok", "sub_key": "unverified"}}}).verified


def test_the_summary_of_an_interrupted_attempt_is_not_the_end_of_the_current_one() -> None:
    assert not TrialStop("a", None).is_latest
    for ended_by, latest in {"interrupted": False, "lost": False, "stopped": True, "agent": True}.items():
        assert TrialStop("a", {"preflight": {"ended_by": ended_by}}).is_latest is latest


def test_a_trial_that_was_stopped_before_anything_was_made_never_began() -> None:
    assert not TrialStop("a", None).never_began
    assert TrialStop("a", {"preflight": {"ended_by": "stopped", "cleanup": {}}}).never_began
    assert not TrialStop("a", {"preflight": {"ended_by": "stopped", "cleanup": {"sub_key": "ok"}}}).never_began
    assert not TrialStop("a", {"preflight": {"ended_by": "provisioning", "cleanup": {}}}).never_began


@pytest.mark.wire
async def test_a_proxy_that_does_not_answer_yet_is_an_error(tmp_path: Path) -> None:
    with begun(tmp_path):
        plan = find_planned_run("r", tmp_path)
        with pytest.raises(ConfigError, match="does not answer"):
            await stop(plan, "a")
        with pytest.raises(ConfigError, match="does not answer"):
            await top_up(plan, "a", 1, "adm", None)
        assert await until_over(plan, None, 0.0) is None
    assert await until_over(plan, None, 0.0) == [TrialStop("a", None)]


@pytest.mark.wire
def test_a_raised_limit_survives_a_restart_of_the_proxy(trials: Field, tmp_path: Path) -> None:
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
        plan = find_planned_run("live", trials.runs_dir)
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
    async with ControlClient(control.socket) as client:
        os.kill((await client.health()).pid, signal.SIGKILL)


class KeysApi:
    """OpenRouter's list of keys with the one of the trial, which takes the new limits that it is told to take."""

    def __init__(self, limit: str | None = "1.01", takes: Callable[[Decimal], bool] = lambda limit: True) -> None:
        self.limit = None if limit is None else Decimal(limit)
        self.takes = takes
        self.asked: list[Decimal] = []

    def __call__(self, seen: Seen) -> tuple[int, Any]:
        if seen.method == "PATCH":
            wanted = Decimal(str(seen.body["limit"]))
            self.asked.append(wanted)
            if not self.takes(wanted):
                return 500, {"error": {"code": 500, "message": "no"}}
            self.limit = wanted
        shown = {"hash": "h", "name": "k", "limit": None if self.limit is None else float(self.limit), "usage": 0}
        is_rest = "offset=0" not in seen.path
        return 200, {"data": shown if seen.method == "PATCH" else [] if is_rest else [shown]}


@asynccontextmanager
async def proxy_that(tmp_path: Path, tops_up: bytes | None, **trial: str) -> AsyncIterator[list[str]]:
    """A proxy of the run `r` with a budget of $1 for `a`; how it answers a top-up, None for a broken connection."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        asked.append(head.partition(" HTTP")[0])
        document = b'{"id": "a", "limit_usd": "1"}' if head.startswith("GET") else tops_up
        if document is not None:
            status = b"409 Conflict" if b"error" in document else b"200 OK"
            headers = b"Content-Length: %d\r\nConnection: close" % len(document)
            writer.write(b"HTTP/1.1 %s\r\n%s\r\n\r\n%s" % (status, headers, document))
            await writer.drain()
        writer.close()

    with begun(tmp_path, **trial) as folder:
        control = read_control(folder.path)
        assert control is not None
        server = await asyncio.start_unix_server(answer, control.socket)
        async with server:
            yield asked


TEN_CENTS_PUSD = 10**11
REFUSES = b'{"error": {"code": "unknown_account", "message": "There is no account a"}}'
ADDS = b'{"id": "a", "limit_usd": "1.1"}'
POST = "POST /accounts/a/top-up"


async def topped_up(tmp_path: Path, base_url: str) -> Balance:
    return await top_up(find_planned_run("r", tmp_path), "a", TEN_CENTS_PUSD, "adm", base_url)


@pytest.mark.wire
async def test_the_key_is_raised_before_the_budget(tmp_path: Path, serve: Serve) -> None:
    api = KeysApi()
    async with proxy_that(tmp_path, ADDS) as asked:
        done = await topped_up(tmp_path, serve(api).base_url)
    assert done.limit_pusd == 11 * 10**11
    assert (api.asked, asked[-1]) == ([Decimal("1.11")], POST)


@pytest.mark.wire
async def test_a_raised_key_keeps_the_room_of_the_plan(tmp_path: Path, serve: Serve) -> None:
    api = KeysApi(limit="1.61")
    async with proxy_that(tmp_path, ADDS, key_room_usd="0.61"):
        await topped_up(tmp_path, serve(api).base_url)
    assert api.asked == [Decimal("1.71")]


@pytest.mark.wire
async def test_a_key_that_is_not_raised_leaves_the_budget_as_it_was(tmp_path: Path, serve: Serve) -> None:
    api = KeysApi(takes=lambda limit: limit == Decimal("1.01"))
    async with proxy_that(tmp_path, ADDS) as asked:
        with pytest.raises(OperatingError, match=r"did not take the new limit .* 'k'\. Nothing was changed\."):
            await topped_up(tmp_path, serve(api).base_url)
    assert asked == ["GET /accounts/a"]
    assert (api.asked, api.limit) == ([Decimal("1.11"), Decimal("1.01")], Decimal("1.01"))


@pytest.mark.wire
async def test_a_key_that_may_be_raised_is_reported_as_that(tmp_path: Path, serve: Serve) -> None:
    async with proxy_that(tmp_path, ADDS) as asked:
        with pytest.raises(OperatingError, match="It may be raised all the same; the budget was not changed"):
            await topped_up(tmp_path, serve(KeysApi(takes=lambda limit: False)).base_url)
    assert asked == ["GET /accounts/a"]


@pytest.mark.wire
async def test_a_budget_that_is_not_raised_gives_the_key_its_old_limit_back(tmp_path: Path, serve: Serve) -> None:
    api = KeysApi()
    async with proxy_that(tmp_path, REFUSES) as asked:
        with pytest.raises(OperatingError, match=r"There is no account a\. Nothing was changed\."):
            await topped_up(tmp_path, serve(api).base_url)
    assert (api.asked, api.limit) == ([Decimal("1.11"), Decimal("1.01")], Decimal("1.01"))
    assert asked[-1] == POST


@pytest.mark.wire
async def test_a_key_that_could_not_be_set_back_is_named(tmp_path: Path, serve: Serve) -> None:
    api = KeysApi(takes=lambda limit: limit == Decimal("1.11"))
    async with proxy_that(tmp_path, REFUSES):
        with pytest.raises(OperatingError, match=r"key 'k' at OpenRouter was raised, and could not be set back"):
            await topped_up(tmp_path, serve(api).base_url)


@pytest.mark.wire
async def test_a_key_without_a_limit_is_not_given_one(tmp_path: Path, serve: Serve) -> None:
    api = KeysApi(limit=None)
    async with proxy_that(tmp_path, ADDS):
        assert (await topped_up(tmp_path, serve(api).base_url)).limit_pusd == 11 * 10**11
    async with proxy_that(tmp_path, REFUSES):
        with pytest.raises(OperatingError, match="Nothing was changed"):
            await topped_up(tmp_path, serve(api).base_url)
    assert (api.asked, api.limit) == ([], None)


@pytest.mark.wire
async def test_a_top_up_whose_answer_is_lost_is_sent_once_and_reported_as_unknown(tmp_path: Path, serve: Serve) -> None:
    """Sent again it might count twice; a person looks first. The key stays raised, for a budget that may be."""
    api = KeysApi()
    async with proxy_that(tmp_path, None) as asked:
        with pytest.raises(OperatingError, match=r"answer was lost.*agent-preflight status r"):
            await topped_up(tmp_path, serve(api).base_url)
    assert asked == ["GET /accounts/a", POST]
    assert api.limit == Decimal("1.11")
