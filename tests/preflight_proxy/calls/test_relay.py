"""A 2xx answer on its way: the same bytes, posted before its end, given up when nobody listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from openrouter_sim import FaultRule, Scenario, make_fault
from openrouter_sim.calls.call import Frame
from openrouter_sim.calls.scenario import Fault
from preflight_proxy.calls import relay
from preflight_proxy.core.refusals.refusals import OVERDUE, Code
from tests.support.answer_header import Headed
from tests.support.proxy_world import World

if TYPE_CHECKING:
    from openrouter_sim.base.jsonio import JsonObject
    from openrouter_sim.calls.call import SimCall

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
    monkeypatch.setattr(relay, "CALL_SILENCE_S_MAX", 0.5)
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("comment_drip", {"every_s": 0.02})),))
    world.may_differ = True
    async with world.post(stream=True) as response:
        await response.content.readany()
        response.close()
    async with asyncio.timeout(20):
        while world.proxy.ledger.account_state("a").running:
            await asyncio.sleep(0.01)
    await world.settled()


async def test_a_client_that_leaves_after_a_long_silence_starts_the_limit_of_silence_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "CALL_SILENCE_S_MAX", 1.5)
    world.proxy.ledger.call_s_max = 3600.0  # if the stream were given up, its cost would be open for that long
    world.sim.scenario = Scenario(tokens_per_s=0.5, tokens_per_chunk=1, generation_delay_s=1e6)
    async with world.post(stream=True, text="[[sim tokens=1]]") as response:
        await response.content.readany()
        await asyncio.sleep(1.8)
        response.close()
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


@pytest.mark.parametrize("chopped", [False, True])
@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_repeats_the_real_key_comes_without_it(
    world: World, stream: bool, escaped: bool, chopped: bool
) -> None:
    echo = FaultRule(make_fault("echo_key", {"status": 200, "escaped": escaped}))
    world.sim.scenario = Scenario(faults=(echo, *((FaultRule(make_fault("chop")),) if chopped else ())))
    async with world.post(stream=stream) as response:
        raw = (await response.read()).decode()
    lines = [line.removeprefix("data: ") for line in raw.splitlines() if line.startswith(("data: {", "{"))]
    echoes = {echo for line in lines if (echo := json.loads(line).get("echo"))}
    assert len(echoes) == 1
    assert "[key]" in echoes.pop()
    assert [line["outcome"] for line in world.cost_lines()] == ["posted"]


@pytest.mark.parametrize("clean", [False, True])
async def test_a_stream_that_told_why_it_ended_is_whole_without_usage_and_done(world: World, clean: bool) -> None:
    """Its client gets the end that came; what it cost is found by its id."""
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("silent_close", {"after": 1000, "clean": clean})),))
    async with world.post(stream=True, text="[[sim tokens=20]]") as response:
        raw = (await response.read()).decode()
    last = json.loads(raw.rstrip().rpartition("data: ")[2])
    assert (last["choices"][0]["finish_reason"], "usage" in last, "error" in last) == ("stop", False, False)
    await world.settled()
    assert [line["outcome"] for line in world.cost_lines()] == ["posted"]


class UsageLast(Fault, frozen=True):
    """The stream says neither why it ended nor `[DONE]`: its last event is the usage."""

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Leave out what tells the end."""
        for frame in frames:
            if b"[DONE]" not in frame.data:
                yield replace(frame, data=frame.data.replace(b'"finish_reason":"stop"', b'"finish_reason":null'))


async def test_a_stream_with_usage_but_without_done_is_whole(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(UsageLast()),))
    async with world.post(stream=True, text="[[sim tokens=20]]") as response:
        raw = (await response.read()).decode()
    assert "stop" not in raw
    last = json.loads(raw.rstrip().rpartition("data: ")[2])
    assert ("usage" in last, "error" in last) == (True, False)
    assert [line["outcome"] for line in world.cost_lines()] == ["posted"]


class CostLost(Fault, frozen=True):
    """The answer has no usage. A stream shows its end by a finish reason, by `[DONE]`, or not at all."""

    keeps_finish: bool = True
    keeps_done: bool = True

    def change_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """Send none."""
        return None

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Leave out what the fault does not keep."""
        for frame in frames:
            data = frame.data
            if b"[DONE]" in data and not self.keeps_done:
                data = b": nothing\n\n"
            if not self.keeps_finish:
                data = data.replace(b'"finish_reason":"stop"', b'"finish_reason":null')
            yield replace(frame, data=data)


@pytest.mark.parametrize(
    ("stream", "fault"),
    [(True, CostLost(keeps_done=False)), (True, CostLost(keeps_finish=False)), (False, CostLost())],
)
async def test_the_keys_usage_decides_an_answer_without_a_cost_that_has_ended(
    world: World, stream: bool, fault: Fault
) -> None:
    world.proxy.ledger.call_s_max = 3600.0
    world.sim.scenario = Scenario(faults=(FaultRule(fault),), generation_delay_s=1e6)
    async with world.post(stream=stream) as response:
        await response.read()
    await world.settled()


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (True, CostLost(keeps_finish=False, keeps_done=False)),
        (True, make_fault("silent_close", {"after": 3, "clean": False})),
        (False, make_fault("gzip")),
    ],
)
async def test_an_answer_whose_end_was_not_seen_may_go_on_as_long_as_a_call_may_last(
    world: World, stream: bool, fault: Fault
) -> None:
    """Until then the key's usage does not decide it."""
    world.proxy.ledger.call_s_max = call_s_max = 3600.0
    world.sim.scenario = Scenario(faults=(FaultRule(fault),), generation_delay_s=1e6)
    async with world.post(stream=stream) as response:
        await response.read()
    (row,) = world.proxy.ledger.store.pending("a")
    assert row.unknown_since_s == row.created_at_s + call_s_max
    world.may_differ = True
    await world.proxy.accounts.close("a")  # the test does not wait for that hour


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Type", "Text/Event-Stream"),
        ("Content-Type", "text/event-stream; charset=utf-8"),
        ("Content-Type", "TEXT/EVENT-STREAM ;charset=utf-8"),
        ("Content-Encoding", "Identity"),
    ],
)
async def test_a_stream_is_known_for_one_however_its_head_is_spelled(world: World, header: str, value: str) -> None:
    """Read as a whole document it would tell no cost."""
    world.sim.scenario = Scenario(faults=(FaultRule(Headed(header, value)), FaultRule(make_fault("chop"))))
    async with world.post(stream=True) as response:
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
        assert [line["outcome"] for line in world.cost_lines()] == ["posted"]


@pytest.mark.parametrize(("fault", "cost_usd"), [(None, "billed"), (CostLost(), "0")])
async def test_a_cached_answer_costs_what_it_says_and_nothing_if_it_says_nothing(
    world: World, fault: Fault | None, cost_usd: str
) -> None:
    cached = FaultRule(Headed("X-OpenRouter-Cache-Status", "hit"))
    world.sim.scenario = Scenario(faults=(cached, *([FaultRule(fault)] if fault else ())))
    async with world.post() as response:
        await response.read()
    (line,) = world.cost_lines()
    billed_usd = world.billed_usd()
    assert (line["outcome"], Decimal(line["cost_usd"])) == ("posted", billed_usd if cost_usd == "billed" else 0)
    world.may_differ = cost_usd == "0"  # the simulator bills the answer all the same


async def test_a_stream_that_ends_with_an_error_of_upstreams_gets_no_second_one(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("error_mid", {"bare": True})),))
    async with world.post(stream=True, text="[[sim tokens=60]]") as response:
        raw = await response.read()
    assert raw.count(b'"error"') == 1
    assert b"Provider disconnected" in raw
    await world.settled()


class UsageAgain(Fault, frozen=True):
    """The usage event comes a second time, without its cost."""

    is_byok: bool = False

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Repeat it."""
        for frame in frames:
            yield frame
            if frame.settles:
                told = json.loads(frame.data.removeprefix(b"data: "))
                told["usage"] = {**told["usage"], "cost": None, "prompt_tokens": 0, "is_byok": self.is_byok}
                yield Frame(b"data: " + json.dumps(told).encode() + b"\n\n", frame.tokens)


async def test_a_last_usage_without_a_cost_does_not_wipe_out_the_one_before(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(UsageAgain()),))
    async with world.post(stream=True) as response:
        await response.read()
        (line,) = world.cost_lines()
    assert line["outcome"] == "posted"
    assert line["prompt_tokens"] > 0


async def test_a_cost_told_before_the_call_turned_out_to_run_on_the_users_own_key_is_not_taken(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(UsageAgain(is_byok=True)),))
    async with world.post(stream=True) as response:
        await response.read()
        assert world.cost_lines() == []
    await world.settled()


class Slowly(Fault, frozen=True):
    """Each event of words is written alone, every third after `before`; `instead` takes the place of the words' beginning.

    Attributes:
        written: Gets all that was written.
    """

    written: list[bytes]
    before: bytes = b""
    instead: bytes = b'"content":"'

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Write what is to come before an event at a time of its own."""
        instead = self.instead.replace(b"KEY", call.authorization.encode())
        for number, frame in enumerate(frames):
            if b'"content":"' not in frame.data or frame.settles:
                yield self._noted(frame)
                continue
            if self.before and number % 3 == 0:
                yield self._noted(Frame(self.before, wait_s=0.02))
            yield self._noted(replace(frame, data=frame.data.replace(b'"content":"', instead), wait_s=0.02))

    def _noted(self, frame: Frame) -> Frame:
        self.written.append(frame.data)
        return frame


async def test_bytes_that_are_no_event_yet_go_down_before_the_whole_event_that_follows(world: World) -> None:
    written: list[bytes] = []
    world.sim.scenario = Scenario(tokens_per_chunk=1, faults=(FaultRule(Slowly(written, before=b": half")),))
    async with world.post(stream=True, text="[[sim tokens=9]]") as response:
        raw = await response.read()
    assert raw == b"".join(written)
    assert raw.count(b": halfdata: ") > 1
    await world.settled()


async def test_words_that_repeat_the_real_key_come_without_it_in_every_event(world: World) -> None:
    fault = Slowly([], instead=b'"content":"KEY ')
    world.sim.scenario = Scenario(tokens_per_chunk=1, faults=(FaultRule(fault),))
    async with world.post(stream=True, text="[[sim tokens=4]]") as response:
        raw = await response.read()
    assert raw.count(b'"content":"Bearer [key] ') > 1
    assert b"sk-" not in raw


async def test_events_that_call_a_tool_again_are_each_counted(world: World) -> None:
    call = b'"tool_calls":[{"index":0,"function":{"name":"look","arguments":""}}],"content":"'
    world.sim.scenario = Scenario(tokens_per_chunk=1, faults=(FaultRule(Slowly([], instead=call)),))
    async with world.post(stream=True, text="[[sim tokens=3]]") as response:
        raw = await response.read()
    (action,) = world.proxy.ledger.account("a").actions
    assert action.label.count("look") == raw.count(b'"look"') > 1


class Lingering(Fault, frozen=True):
    """The answer does not end with its last event."""

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Add a comment, later."""
        yield from frames
        yield Frame(b": over\n\n", wait_s=1.0)


async def test_the_cost_is_posted_before_the_last_event_goes_down(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(Lingering()),))
    async with world.post(stream=True) as response:
        raw = b""
        while b"[DONE]" not in raw:
            raw += await response.content.readany()
        assert b": over" not in raw
        assert [line["outcome"] for line in world.cost_lines()] == ["posted"]
