"""The control socket, route by route."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gzip
import io
import os
import platform
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openrouter_sim import Scenario
from preflight_proxy.base.config import VERSION
from preflight_proxy.core.ledger.commands import Quarantine
from preflight_proxy.server.intake import REQUEST_BYTES_MAX
from tests.support.control_world import Controlled, controlled
from tests.support.raw_http import Raw

pytestmark = pytest.mark.wire

BALANCE = {
    "id": "a",
    "run": "run",
    "limit_usd": "1",
    "posted_usd": "0",
    "pending_usd": "0",
    "available_usd": "1",
    "assumed_usd": "0",
    "overrun_usd": "0",
    "calls": 0,
    "calls_in_flight": 0,
    "refused": 0,
    "frozen": None,
    "spent": False,
    "gate": None,
    "unknown": 0,
    "prompt_tokens": 0,
    "cached_tokens": 0,
    "cache_write_tokens": 0,
    "completion_tokens": 0,
    "cache_hit_requests": 0,
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Controlled]:
    """A proxy whose runner may be away as long as a test takes."""
    async with controlled(tmp_path) as made:
        yield made


async def test_health_tells_who_serves(world: Controlled) -> None:
    status, told = await world.ask("GET", "/health")
    assert (status, told.pop("uptime_s") >= 0) == (200, True)
    served = {"upstream": world.sim.base_url, "base_url": world.base_url}
    assert told == {"pid": os.getpid(), "version": VERSION, **served}


async def test_the_socket_is_its_owners_alone(world: Controlled, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "c.sock").stat().st_mode) == 0o600


# Opening


async def test_an_opened_account_serves_its_token(world: Controlled) -> None:
    assert BALANCE.items() <= (await world.put("a")).items()
    async with world.post() as response:
        assert response.status == 200
    _, balance = await world.ask("GET", "/accounts/a")
    assert (balance["calls"], balance["prompt_tokens"] > 0) == (1, True)
    assert await world.ask("GET", "/accounts") == (200, {"accounts": [{**balance, "as_of": balance["as_of"] + 1}]})


async def test_opening_again_keeps_what_is_posted_and_takes_the_new_figures(world: Controlled) -> None:
    await world.put("a")
    async with world.post() as response:
        await response.read()
    before = (await world.ask("GET", "/accounts/a"))[1]
    again = await world.put("a", "2.00")
    new = {name: again[name] for name in ("limit_usd", "available_usd", "as_of")}
    assert (again, new["limit_usd"]) == ({**before, **new}, "2")


async def test_usage_counts_from_the_figure_at_the_opening(world: Controlled) -> None:
    key = await world.sub_key("used")
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hi"}]}
    async with world.client.post(f"{world.sim.base_url}/chat/completions", json=body, headers=headers) as response:
        await response.read()
    world.may_differ = True
    await world.put("a", key=key)
    assert world.proxy.ledger.account("a").key_usage_base_pusd == int(world.billed_usd() * 10**12) > 0


SPEC: dict[str, Any] = {
    "limit_usd": "1",
    "token": "pf-secret-token-0123456789",
    "key": "sk-or-v1-secret-key-0123456789",
}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        {},
        {**SPEC, "limit_usd": 1},
        {**SPEC, "limit_usd": "x"},
        {**SPEC, "limit_usd": "-1"},
        {**SPEC, "limit_usd": "1000001"},
        {**SPEC, "key": 5},
        {**SPEC, "token": None},
        {**SPEC, "models": "m"},
        {**SPEC, "gate": {"socket": "/x"}},
    ],
)
async def test_what_is_no_account_is_a_400_that_repeats_no_secret(world: Controlled, body: object) -> None:
    status, document = await world.ask("PUT", "/accounts/x", body)
    assert (status, document["error"]["code"]) == (400, "invalid_request")
    assert "secret" not in str(document)
    assert (await world.ask("GET", "/accounts"))[1] == {"accounts": []}


async def test_a_compressed_or_endless_body_is_refused_as_such(world: Controlled) -> None:
    status, _ = await world.ask("PUT", "/accounts/x", gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})
    assert status == 415
    too_long = io.BytesIO(b"x" * (REQUEST_BYTES_MAX + 1))
    async with world.control.put("http://control/accounts/x", data=too_long) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (413, "invalid_request")


async def test_a_token_belongs_to_one_account(world: Controlled) -> None:
    await world.put("a")
    status, document = await world.ask("PUT", "/accounts/b", {**SPEC, "token": world.tokens["a"]})
    assert (status, "token" in document["error"]["message"]) == (400, True)


async def test_a_key_whose_usage_cannot_be_read_opens_nothing(world: Controlled) -> None:
    status, document = await world.ask("PUT", "/accounts/a", {**SPEC, "key_is_own": True})
    assert (status, document["error"]["code"]) == (502, "operation")
    assert "secret" not in str(document)
    assert (await world.ask("GET", "/accounts/a"))[0] == 404


async def test_an_id_is_what_the_path_says_unescaped(world: Controlled) -> None:
    status, balance = await world.ask("PUT", "/accounts/a%2Fb%20c", {**SPEC, "run": "run"})
    assert (status, balance["id"]) == (200, "a/b c")


async def test_of_top_ups_at_the_same_time_each_counts(world: Controlled) -> None:
    await world.put("a", "1.00")
    one = world.ask("POST", "/accounts/a/top-up", {"more_usd": "0.01"})
    more = [world.ask("POST", "/accounts/a/top-up", {"more_usd": "0.000000000001"}) for _ in range(9)]
    answers = await asyncio.gather(one, *more)
    assert [status for status, _ in answers] == [200] * 10
    assert len({balance["limit_usd"] for _, balance in answers}) == 10
    assert world.proxy.ledger.account("a").limit_pusd == 10**12 + 10**10 + 9


@pytest.mark.parametrize("more_usd", ["999999.000000000001", "-1", "x", ""])
async def test_a_top_up_that_cannot_be_changes_nothing(world: Controlled, more_usd: str) -> None:
    await world.put("a", "1.00")
    status, document = await world.ask("POST", "/accounts/a/top-up", {"more_usd": more_usd})
    assert (status, document["error"]["code"]) == (400, "invalid_request")
    assert world.proxy.ledger.account("a").limit_pusd == 10**12


# What is not there


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/accounts/x", "unknown_account"),
        ("PATCH", "/accounts/x", "unknown_account"),
        ("POST", "/accounts/x/top-up", "unknown_account"),
        ("POST", "/accounts/x/freeze", "unknown_account"),
        ("POST", "/accounts/x/unfreeze", "unknown_account"),
        ("DELETE", "/accounts/x", "unknown_account"),
        ("GET", "/", "unknown_path"),
        ("POST", "/accounts", "unknown_path"),
        ("GET", "/accounts/x/freeze", "unknown_path"),
        ("GET", "/api/v1/key", "unknown_path"),
        ("PUT", "/accounts/", "unknown_path"),
    ],
)
async def test_what_is_not_there_is_a_404(world: Controlled, method: str, path: str, code: str) -> None:
    body = {"limit_usd": "1", "more_usd": "1"} if method == "PATCH" or path.endswith("top-up") else None
    status, document = await world.ask(method, path, body)
    assert (status, document["error"]["code"]) == (404, code)


# Limits, freezing, closing


async def test_a_new_limit_counts_at_once(world: Controlled) -> None:
    await world.put("a", "0")
    async with world.post() as response:
        assert response.status == 402
    status, balance = await world.ask("PATCH", "/accounts/a", {"limit_usd": "0.5"})
    assert (status, balance["limit_usd"], balance["refused"]) == (200, "0.5", 1)
    async with world.post() as response:
        assert response.status == 200
    assert (await world.ask("PATCH", "/accounts/a", {"limit_usd": "much"}))[0] == 400


async def test_a_freeze_returns_when_running_streams_have_ended(world: Controlled) -> None:
    world.sim.scenario = Scenario(tokens_per_s=50)
    await world.put("a")
    async with world.post(stream=True, text="[[sim tokens=100]]", max_tokens=100) as response:
        await response.content.readany()
        status, balance = await world.ask("POST", "/accounts/a/freeze", {"reason": "ejected"})
        assert (status, balance["frozen"]) == (200, "ejected")
        assert (await response.content.read()).endswith(b"data: [DONE]\n\n")
    async with world.post() as refused:
        assert refused.status in (401, 402)


async def test_a_thawed_account_admits_calls(world: Controlled) -> None:
    await world.put("a")
    assert (await world.ask("POST", "/accounts/a/freeze"))[1]["frozen"] == "frozen by its operator"
    assert (await world.ask("POST", "/accounts/a/unfreeze"))[1]["frozen"] is None
    async with world.post() as response:
        assert response.status == 200


async def test_an_account_with_something_pending_is_closed_only_by_force(world: Controlled) -> None:
    world.sim.scenario = Scenario(tokens_per_s=50)
    await world.put("a")
    async with world.post(stream=True, text="[[sim tokens=50]]", max_tokens=50) as response:
        await response.content.readany()
        status, document = await world.ask("DELETE", "/accounts/a")
        assert (status, document["error"]["code"]) == (409, "pending")
        status, balance = await world.ask("DELETE", "/accounts/a?force=1")
        assert (status, balance["frozen"]) == (200, "closed")
        await response.read()
    await world.settled("a")
    assert world.proxy.ledger.account_state("a").key is None


async def test_a_closed_account_keeps_its_books_and_knows_its_token_no_more(world: Controlled) -> None:
    await world.put("a")
    async with world.post() as response:
        await response.read()
    posted = (await world.ask("GET", "/accounts/a"))[1]["posted_usd"]
    assert (await world.ask("DELETE", "/accounts/a"))[1]["posted_usd"] == posted != "0"
    async with world.post() as response:
        assert response.status == 401


# Stopping by hand


async def test_who_stops_a_run_freezes_its_accounts_and_tells_its_runner(world: Controlled) -> None:
    for name in "ab":
        await world.put(name)
    async with world.follow() as events:
        assert await world.ask("POST", "/stop", {"trial": "a"}) == (200, {"frozen": ["a"]})
        told = await events.next("stop")
        assert (told["account"], told["trial"], told["reason"]) == ("", "a", "stopped by a person")
        assert world.proxy.ledger.account("b").frozen is None
        assert await world.ask("POST", "/stop", {"reason": "enough"}) == (200, {"frozen": ["b"]})
        told = await events.next("stop")
        assert (told.get("trial"), told["reason"]) == (None, "enough")
    assert [world.proxy.ledger.account(name).frozen for name in "ab"] == ["stopped by a person", "enough"]


async def test_a_trial_without_an_account_is_stopped_too_and_no_other_run_hears_of_it(world: Controlled) -> None:
    async with world.follow() as events, world.follow("other") as others:
        assert await world.ask("POST", "/stop", {"trial": "later"}) == (200, {"frozen": []})
        assert (await events.next("stop"))["trial"] == "later"
        assert (await others.next())["type"] == "heartbeat"


# Quarantine


async def test_quarantined_endpoints_are_listed_and_cleared(world: Controlled) -> None:
    assert await world.ask("GET", "/quarantine") == (200, {"quarantined": []})
    world.proxy.ledger.commit(Quarantine("m/x", "tag", "billed above its bound"))
    assert await world.ask("GET", "/quarantine") == (200, {"quarantined": [["m/x", "tag"]]})
    other = "/quarantine?model=m%2Fx&tag=tag&upstream=https%3A%2F%2Fopenrouter.ai"
    assert await world.ask("DELETE", other) == (200, {"cleared": False})
    assert await world.ask("GET", "/quarantine") == (200, {"quarantined": [["m/x", "tag"]]})
    assert await world.ask("DELETE", "/quarantine?model=m%2Fx&tag=tag") == (200, {"cleared": True})
    assert await world.ask("GET", "/quarantine") == (200, {"quarantined": []})


# Events


async def test_events_come_with_balances_from_a_cursor_on(world: Controlled) -> None:
    await world.put("a")
    async with world.follow() as events:
        opened = await events.next()
        assert (opened["type"], opened["account"]) == ("opened", "a")
        assert BALANCE.items() <= opened["balance"].items()
        async with world.post() as response:
            cost = (await response.json())["usage"]["cost"]
        settled = await events.next("settled")
    assert settled["seq"] > opened["seq"]
    assert float(settled["cost_usd"]) == float(settled["balance"]["posted_usd"]) == cost
    assert (settled["outcome"], settled["model"]) == ("posted", "openai/gpt-4.1-nano")
    async with world.follow(cursor=settled["seq"] - 1) as events:
        assert await events.next() == settled


async def test_a_silent_stream_has_a_heart(world: Controlled) -> None:
    async with world.follow() as events:
        assert await events.next() == {"type": "heartbeat"}


async def test_a_follower_hears_of_its_own_run_only(world: Controlled) -> None:
    await world.ask("PUT", "/accounts/stranger", {**SPEC, "run": "another"})
    await world.put("a")
    async with world.follow() as events:
        assert (await events.next())["account"] == "a"
    async with world.follow("another") as events:
        assert (await events.next())["account"] == "stranger"


async def test_a_cursor_that_is_no_number_is_a_400(world: Controlled) -> None:
    assert (await world.ask("GET", "/events?cursor=x"))[0] == 400


# Another user


SETRESUID = {"x86_64": 117, "aarch64": 147}


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux" or platform.machine() not in SETRESUID,
    reason="only root can be another user, and this machine's system call must be known",
)
async def test_another_user_is_refused_even_where_the_mode_lets_him_in() -> None:
    folder = Path(tempfile.mkdtemp(prefix="ap-"))
    try:
        folder.chmod(0o711)
        async with controlled(folder):
            (folder / "c.sock").chmod(0o666)
            async with _as_another_user(folder / "c.sock") as connection:
                connection.send(b"GET /health HTTP/1.1\r\nHost: control\r\n\r\n")
                status, _, body = await connection.answer()
        assert (status, b'"peer"' in body) == (403, True)
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def _as_another_user(path: Path) -> AsyncIterator[Raw]:
    """A connection that the kernel counts as another user's: who connects is who asks."""
    sock = socket.socket(socket.AF_UNIX)

    def connect() -> None:
        # glibc's setresuid would change every thread of the process; the system call changes this one alone.
        if ctypes.CDLL(None).syscall(SETRESUID[platform.machine()], -1, 65534, -1):
            raise OSError("this thread cannot become another user")
        sock.connect(str(path))

    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(connect).result()
    sock.setblocking(False)
    async with Raw(*await asyncio.open_unix_connection(sock=sock)) as connection:
        yield connection
