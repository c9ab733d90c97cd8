"""A 2xx answer on its way: the same bytes, booked before its end, given up when nobody listens."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from openrouter_sim import FaultRule, Scenario, make_fault
from preflight_proxy import relay
from preflight_proxy.core.refusals import OVERDUE, Code
from tests.preflight_proxy.world import World

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("chopped", [False, True])
@pytest.mark.parametrize("usage_chunk", ["choice", "empty", "merged"])
@pytest.mark.parametrize("crlf", [False, True])
async def test_a_stream_is_relayed_byte_for_byte_and_its_cost_found(
    world: World, usage_chunk: str, crlf: bool, chopped: bool
) -> None:
    faults = (FaultRule(make_fault("chop")),) if chopped else ()
    world.sim.scenario = Scenario(usage_chunk=usage_chunk, crlf=crlf, faults=faults)  # type: ignore[arg-type]
    async with world.post(stream=True, text="[[sim tokens=40 text='fünf Äpfel und 𝅘𝅥𝅮']]") as response:
        through = await response.read()
    end = b"\r\n" if crlf else b"\n"
    assert through.endswith(b"data: [DONE]" + end + end)
    assert (b"\r" in through) is crlf
    (line,) = world.cost_lines()
    assert line["outcome"] == "posted"


async def test_white_space_ahead_of_a_document_arrives_while_it_is_being_made(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("whitespace")),))
    async with world.post() as response:
        raw = await response.read()
    assert raw[:1].isspace()
    assert raw.lstrip().startswith(b"{")


async def test_a_compressed_answer_is_passed_on_as_it_is_and_its_cost_found_by_its_id(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("gzip")),))
    async with world.post() as response:
        assert "choices" in await response.json()
    await world.settled()
    assert [line["outcome"] for line in world.cost_lines()] == ["posted"]


async def test_a_stream_of_comments_ends_once_nobody_listens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is a constant; the test shortens it and looks at the cause, not at a clock."""
    monkeypatch.setattr(relay, "DRAIN_SILENCE_S_MAX", 0.05)
    monkeypatch.setattr(relay, "DRAIN_S_MAX", 0.2)
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("comment_drip", {"every_s": 0.02})),))
    world.may_differ = True
    async with world.post(stream=True) as response:
        await response.content.readany()
        response.close()
    async with asyncio.timeout(20):
        while world.proxy.books.live("a").running:
            await asyncio.sleep(0.01)
    await world.settled()


async def test_a_call_has_a_longest_time_whoever_listens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CALL_S_MAX", 0.2)
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("comment_drip", {"every_s": 0.02})),))
    world.may_differ = True
    async with world.post(stream=True) as response:
        raw = await response.read()
    assert OVERDUE.encode() in raw
    await world.settled()


ASKED: dict[str, dict[str, Any]] = {
    "/chat/completions": {"max_tokens": 100},
    "/completions": {"prompt": "[[sim tokens=60]]", "max_tokens": 100},
    "/responses": {"input": "[[sim tokens=60]]", "max_output_tokens": 100},
    "/messages": {"max_tokens": 100},
}
"""A call of each shape that streams."""
RETRIED = {
    "/chat/completions": (502, "Provider returned error"),
    "/completions": (502, "Provider returned error"),
    "/responses": ("server_error", "Provider returned error"),
    "/messages": ("api_error", "Provider returned error"),
}
"""Code and text of the error event on which clients of each shape ask again."""
FINAL = {"/chat/completions": 402, "/completions": 402, "/responses": "invalid_prompt", "/messages": "billing_error"}
"""The code on which they give up."""


def asked(path: str) -> dict[str, Any]:
    """The fields of a call that streams."""
    return {"text": "[[sim tokens=60]]", "stream": True, **ASKED[path]}


def last_error(raw: bytes) -> tuple[Any, str]:
    """Code and text of the error in the last event of a stream, at the place where the clients of its API look."""
    data = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: {")]
    told = json.loads(data[-1])
    error = told["response"]["error"] if "response" in told else told["error"]
    return error.get("code") or error["type"], error["message"]


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("fault", [("silent_close", {}), ("silent_close", {"clean": True}), ("reset", {})], ids=str)
async def test_a_break_upstream_takes_the_form_that_is_retried_and_the_retry_is_a_call_of_its_own(
    world: World, path: str, fault: tuple[str, dict[str, Any]]
) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault(*fault), times=1),))
    async with world.post(path, **asked(path)) as response:
        raw = await response.read()
        assert response.status == 200
    assert last_error(raw) == RETRIED[path]
    async with world.post(path, **asked(path)) as response:
        raw = await response.read()
    assert b'"error":{' not in raw
    await world.settled()
    broken, retried = world.cost_lines()
    assert broken["reservation_id"] != retried["reservation_id"]
    assert min(Decimal(line["reserved_usd"]) for line in (broken, retried)) > 0


@pytest.mark.parametrize("path", ASKED)
async def test_a_limit_of_ours_takes_the_final_form_for_a_retry_would_pay_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(relay, "CALL_S_MAX", 0.2)
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("comment_drip", {"every_s": 0.02})),))
    world.may_differ = True
    async with world.post(path, **asked(path)) as response:
        raw = await response.read()
    assert last_error(raw) == (FINAL[path], OVERDUE)
    await world.settled()


@pytest.mark.parametrize("path", ASKED)
async def test_a_freeze_takes_the_final_form(world: World, path: str) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("slow", {"first_s": 0.1, "each_s": 0.2})),))
    async with world.post(path, **asked(path)) as response:
        await response.content.readany()
        await world.proxy.accounts.freeze("a", "test")
        raw = await response.content.read()
    assert last_error(raw) == (FINAL[path], Code.FROZEN.sentence)
    await world.settled()


async def test_a_document_that_breaks_off_is_retried_and_one_that_we_end_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("reset")),))
    async with world.post() as response:
        assert (response.status, (await response.json())["error"]["code"]) == (502, 502)
        assert "x-should-retry" not in response.headers
    monkeypatch.setattr(relay, "CALL_S_MAX", 0.2)
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("slow", {"first_s": 1.0})),))
    async with world.post() as response:
        assert (response.status, (await response.json())["error"]["message"]) == (402, OVERDUE)
        assert response.headers["x-should-retry"] == "false"
    world.may_differ = True
    await world.settled()


async def test_a_document_that_is_cut_after_its_white_space_is_still_a_document(world: World) -> None:
    faults = (FaultRule(make_fault("slow", {"first_s": 0.5})), FaultRule(make_fault("whitespace")))
    world.sim.scenario = Scenario(faults=faults)
    async with world.post() as response:
        await response.content.readany()
        await world.proxy.accounts.freeze("a", "test")
        raw = await response.content.read()
    assert json.loads(raw)["error"]["code"] == 402
    await world.settled()
