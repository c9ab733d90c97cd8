"""No body holds up the loop, and no account's bodies hold up another account."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.shape import Request
from preflight_proxy.core.shapes.steps import STEP_COST
from tests.support.proxy_process import Child, standalone
from tests.support.proxy_world import chat

CHAT = SHAPES["/chat/completions"]


def body(messages_count: int, mark: str = "") -> bytes:
    """A request of so many small messages."""
    messages = [{"role": "user", "content": f"{mark}{number}"} for number in range(messages_count)]
    return json.dumps({"model": "a/b", "messages": messages}).encode()


def one_message(parts_count: int) -> bytes:
    """A request of one message of so many parts, which a thread decodes."""
    parts = [{"type": "text", "text": str(number)} for number in range(parts_count)]
    return json.dumps({"model": "a/b", "messages": [{"role": "user", "content": parts}]}).encode()


def reading(parsing: RequestReader, account_id: str, raw: bytes) -> asyncio.Task[Request]:
    return asyncio.ensure_future(parsing.read(account_id, CHAT, raw))


async def test_a_body_is_read_the_same_whatever_its_size() -> None:
    parsing = RequestReader("drop")
    for raw in (body(3), body(2000), body(3, "x" * STEP_COST), one_message(3000)):
        assert await parsing.read("a", CHAT, raw) == CHAT.read(raw, "drop")


async def test_a_large_body_that_is_refused_says_why_and_the_next_one_is_read() -> None:
    parsing = RequestReader("drop")
    with pytest.raises(BadRequest, match="many values"):
        await parsing.read("a", CHAT, body(60_000))
    with pytest.raises(BadRequest, match="JSON"):
        await parsing.read("a", CHAT, b"[" + b"1," * 2000 + b"1]")
    with pytest.raises(BadRequest, match="without a type"):
        await parsing.read("a", CHAT, one_message(3000).replace(b'"type": "text", ', b""))
    assert (await parsing.read("a", CHAT, body(2000))).model == "a/b"


async def test_a_small_body_is_read_at_once_though_a_large_one_is_under_way() -> None:
    parsing = RequestReader("drop")
    large = reading(parsing, "a", body(10_000))
    await asyncio.sleep(0)
    small = reading(parsing, "b", body(3))
    await asyncio.sleep(0)
    assert small.done()
    assert not large.done()
    await large


async def test_a_large_body_leaves_the_loop_to_others() -> None:
    """The longest time that the loop did not turn is a small part of what the body takes."""
    parsing, gaps_s = RequestReader("drop"), [0.0]
    began_s = last_s = time.thread_time()  # not what other processes take
    large = reading(parsing, "a", body(24_000))
    while not large.done():
        await asyncio.sleep(0)
        now_s = time.thread_time()
        gaps_s.append(now_s - last_s)
        last_s = now_s
    assert (await large).model == "a/b"
    assert max(gaps_s) < (last_s - began_s) / 4


async def test_accounts_with_many_large_bodies_do_not_delay_one_with_a_smaller_one() -> None:
    parsing = RequestReader("drop")
    hostile = [reading(parsing, f"hostile {number % 4}", body(3000, f"{number}-")) for number in range(12)]
    await asyncio.sleep(0)
    await reading(parsing, "good", body(400))
    assert sum(each.done() for each in hostile) <= 2
    await asyncio.gather(*hostile)


async def test_a_client_that_leaves_keeps_its_turn_until_its_body_is_used_no_more() -> None:
    """Else it could have any number of bodies wait for the thread, and nobody would count their memory."""
    parsing = RequestReader("drop")
    left = reading(parsing, "a", one_message(20_000))
    waiting = reading(parsing, "a", body(400))
    gave_up = reading(parsing, "b", body(4000, "b"))
    await asyncio.sleep(0.01)
    left.cancel()
    gave_up.cancel()
    await asyncio.wait([gave_up])
    assert not left.done()
    await asyncio.wait([left])
    assert left.cancelled()
    assert (await waiting).model == "a/b"
    assert (await parsing.read("c", CHAT, body(400))).model == "a/b"


async def test_a_client_that_leaves_between_two_steps_gives_its_turn_to_the_next() -> None:
    parsing = RequestReader("drop")
    left, waiting = reading(parsing, "a", body(24_000, "left")), reading(parsing, "b", body(4000, "next"))
    await asyncio.sleep(0)
    left.cancel()
    assert (await waiting).model == "a/b"
    assert left.cancelled()


async def test_a_turn_that_comes_as_its_client_leaves_goes_to_the_next() -> None:
    parsing = RequestReader("drop")
    await parsing._turn("a", 1)
    leaving, next_one = (asyncio.ensure_future(parsing._turn(account_id, 1)) for account_id in "bc")
    await asyncio.sleep(0)
    parsing._next()
    leaving.cancel()
    async with asyncio.timeout(30):
        await next_one
    assert leaving.cancelled()


# At the wire, each side in a process of its own

HOSTILE = """
import asyncio, json, sys
asked = json.load(sys.stdin)
host, port = asked["base_url"].split("/")[2].split(":")

def body(mark):
    messages = [{"role": "user", "content": f"{mark}-{number}"} for number in range(24_000)]
    return json.dumps({"model": "openai/gpt-4.1-nano", "max_tokens": 16, "messages": messages}).encode()

async def send(mark, token):
    sent = body(mark)
    head = f"POST /api/v1/chat/completions HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {token}\\r\\n"
    head += f"Content-Length: {len(sent)}\\r\\n\\r\\n"
    reader, writer = await asyncio.open_connection(host, int(port))
    while True:
        writer.write(head.encode() + sent)
        await writer.drain()
        print("sent", flush=True)
        answer = await reader.readuntil(b"\\r\\n\\r\\n")
        length = next(line for line in answer.lower().split(b"\\r\\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))

async def main():
    await asyncio.gather(*(send(mark, token) for mark, token in enumerate(asked["tokens"])))

asyncio.run(main())
"""
CONNECTIONS = 32
CALLS = 15


@pytest.fixture
async def slow_upstream(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """A simulator that takes 50 ms for an answer, as a process; what its ready file says."""
    scenario, ready = tmp_path / "scenario.toml", tmp_path / "sim.json"
    scenario.write_text("first_token_s = 0.05\n")
    options = ["--listen", "127.0.0.1:0", "--scenario", str(scenario), "--ready-file", str(ready)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "openrouter_sim", *options, stdout=DEVNULL)
    try:
        async with asyncio.timeout(60):
            while not ready.exists():
                await asyncio.sleep(0.01)
        yield json.loads(ready.read_text())
    finally:
        process.kill()
        await process.wait()


async def p50_s(proxy: Child) -> float:
    """The median time of a small call of the account `good`."""
    headers = {"Authorization": f"Bearer {proxy.ready['accounts']['good']['api_key']}"}
    url, times_s = proxy.ready["base_url"] + "/chat/completions", []
    async with aiohttp.ClientSession() as client:
        for _ in range(CALLS):
            began_s = time.perf_counter()
            async with client.post(url, json=chat(max_tokens=16), headers=headers) as response:
                await response.read()
                assert response.status == 200
            times_s.append(time.perf_counter() - began_s)
    return statistics.median(times_s)


@contextlib.asynccontextmanager
async def hostile(proxy: Child) -> AsyncIterator[None]:
    """Connections that send bodies of 24,000 small messages, each for another account, without end."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HOSTILE, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    tokens = [account["api_key"] for name, account in proxy.ready["accounts"].items() if name != "good"]
    process.stdin.write(json.dumps({"base_url": proxy.ready["base_url"], "tokens": tokens}).encode())
    process.stdin.close()
    try:
        for _ in range(CONNECTIONS):
            assert await process.stdout.readline() == b"sent\n"
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.wire
async def test_beside_hostile_bodies_a_good_account_is_served_almost_as_alone(
    tmp_path: Path, slow_upstream: dict[str, Any]
) -> None:
    accounts = {"good": "1.00", **{f"hostile{number}": "0.001" for number in range(CONNECTIONS)}}
    upstream, key = slow_upstream["base_url"], slow_upstream["inference_key"]
    async with asyncio.timeout(240), standalone(tmp_path, upstream, key, limits_usd=accounts) as proxy:
        await p50_s(proxy)
        alone_s = await p50_s(proxy)
        async with hostile(proxy):
            beside_s = await p50_s(proxy)
        assert beside_s < 10 * alone_s
