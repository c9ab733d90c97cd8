"""One container's start and end on an engine that errs, hangs or lies: what is called in which order, and what is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agent_preflight.docker import container as under_test
from agent_preflight.docker.container import QUIET_TRIES, Container
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.sandboxes.interface import Exit
from tests.support.scripted_engine import DROP, HANG, LOST, USUAL, Answer, Fail, ScriptedEngine, Text
from tests.support.short_engine_limits import no_pauses, short_limits

pytestmark = pytest.mark.wire

BODY = {"Image": "me/agent"}
LOOK, KILL, WAIT, REMOVE = (
    "GET /containers/*/json",
    "POST /containers/*/kill",
    "POST /containers/*/wait",
    "DELETE /containers/*",
)
NOT_GONE: tuple[Answer, ...] = (
    Fail(500, "No such container: c"),
    Fail(409, "No such container: c"),
    Fail(400, "No such container: c"),
    Text(200, "<html>404</html>", "text/html"),
    Text(200, "null"),
    Text(204, ""),
    DROP,
    HANG,
)
"""What an engine may say or do that is no proof that a container is gone."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a pause."""
    no_pauses(monkeypatch)


Make = Callable[..., Awaitable[Container]]


@pytest.fixture
def make(client: Engine, scripted: ScriptedEngine) -> Make:
    """Containers, named `one`; nothing of how they were made is among the calls."""

    async def made(*, running: bool = True) -> Container:
        container = Container(client, "one", "the agent x")
        await container.create(BODY)
        if running:
            await container.start()
        scripted.calls.clear()
        return container

    return made


def calls(scripted: ScriptedEngine, container: Container) -> list[str]:
    """The calls so far, with `ID` for the container's."""
    return [call.replace(container.id, "ID") for call in scripted.calls]


def ended_after(container: Container, detached: asyncio.Event | None = None) -> asyncio.Task[Exit | None]:
    """What `until_ended` will say."""
    return asyncio.ensure_future(container.until_ended(detached or asyncio.Event()))


async def test_the_order_is_term_wait_kill_look_remove_look(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    scripted.container("one").ignored_signals.add("TERM")
    scripted.script(WAIT, Text(200, '{"StatusCode":0}'))
    there = scripted.container("one")
    assert await one.end() == "ok"
    assert there.signals == ["TERM", "KILL"]
    assert calls(scripted, one) == [
        "POST /containers/ID/kill?signal=TERM",
        "POST /containers/ID/wait",
        "POST /containers/ID/kill?signal=KILL",
        "GET /containers/ID/json",
        "DELETE /containers/ID?force=1&v=1",
        "GET /containers/ID/json",
    ]
    assert one.exit == Exit(137)


async def test_an_agent_has_half_a_second_after_term_and_no_more(
    scripted: ScriptedEngine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert under_test.TERM_S == 0.5
    monkeypatch.setattr(under_test, "TERM_S", 0.1)
    one = await make()
    there = scripted.container("one")
    there.ignored_signals.add("TERM")
    assert await one.end() == "ok"
    assert (there.signals, one.exit) == (["TERM", "KILL"], Exit(137))


async def test_one_that_ends_on_term_keeps_its_code(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    there = scripted.container("one")
    there.ignored_signals.add("TERM")
    ending = asyncio.ensure_future(one.end())
    await scripted.called(WAIT)
    scripted.exit("one", 7)
    assert await ending == "ok"
    assert (there.signals, one.exit) == (["TERM"], Exit(7))


async def test_one_that_has_ended_is_not_waited_for(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    scripted.exit("one", 7, oom=True)
    assert await one.end() == "ok"
    assert [call.partition("?")[2] for call in scripted.calls if "/kill" in call] == ["signal=TERM"]
    assert not any("/wait" in call for call in scripted.calls)
    assert one.exit == Exit(7, out_of_memory=True)


async def test_one_that_never_started_has_no_exit(scripted: ScriptedEngine, make: Make) -> None:
    one = await make(running=False)
    assert await one.end() == "ok"
    assert one.exit is None
    assert not scripted.state.containers


async def test_one_whose_exit_is_known_is_only_removed(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    scripted.exit("one", 3)
    assert await ended_after(one) == Exit(3)
    scripted.calls.clear()
    assert await one.end() == "ok"
    assert [call.split("/")[0] for call in scripted.calls] == ["DELETE ", "GET "]
    assert one.exit == Exit(3)


async def test_one_with_a_network_of_its_own_is_killed_and_not_asked_to_put_things_in_order(
    scripted: ScriptedEngine, client: Engine, make: Make
) -> None:
    await make()
    scripted.calls.clear()
    gate = Container(client, "one", "the gate", "one", owns_network=True)
    assert await gate.end() == "ok"
    assert [call.split("/")[-1] for call in scripted.calls][:2] == ["kill?signal=KILL", "wait"]
    assert [call.split("/")[0] for call in scripted.calls][2:] == ["DELETE ", "GET "]


async def test_those_with_networks_of_their_own_are_killed_one_after_another(
    scripted: ScriptedEngine, client: Engine
) -> None:
    """Docker 20.10 can hang where two leave their networks at once."""
    names = ["one", "two", "three"]
    for name in names:
        scripted.state.create(name, {"Image": "me/agent"})
        await client.start(name, "starting")
    scripted.script(WAIT, HANG)
    ends = [asyncio.ensure_future(Container(client, name, name, name, owns_network=True).end()) for name in names]
    await scripted.called(WAIT)
    await asyncio.sleep(0.05)
    assert sum("/kill" in call for call in scripted.calls) == 1
    scripted.unscript(WAIT)
    assert await asyncio.gather(*ends) == ["ok"] * 3


async def test_an_engine_that_hangs_makes_the_others_wait_no_longer_than_their_turn(
    scripted: ScriptedEngine, client: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_preflight.engine.client.NETWORK_TURN_S_MAX", 0.05)
    async with client.network_turn(), client.network_turn():
        pass
    async with client.network_turn():
        pass


async def test_a_paused_one_is_gone_as_fast(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    scripted.state.pause("one")
    assert await one.end() == "ok"
    assert not scripted.state.containers


@pytest.mark.parametrize("pattern", [KILL, WAIT, LOOK, REMOVE])
async def test_a_call_that_hangs_is_followed_by_the_next_harder_one(
    scripted: ScriptedEngine, make: Make, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    one = await make()
    short_limits(monkeypatch)
    scripted.script(pattern, HANG)
    step = await one.end()
    removals = sum(call.startswith("DELETE") for call in scripted.calls)
    assert (step, removals) == {LOOK: ("unverified", 3), REMOVE: ("failed", 3)}.get(pattern, ("ok", 1))


@pytest.mark.parametrize("answer", NOT_GONE)
async def test_only_the_engines_own_404_means_gone(
    scripted: ScriptedEngine, make: Make, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    one = await make()
    if answer is HANG:
        short_limits(monkeypatch)
    for pattern in (KILL, WAIT, LOOK, REMOVE):
        scripted.script(pattern, answer)
    assert await one.end() == "unverified"
    assert one.exit is None
    for pattern in (KILL, WAIT, LOOK, REMOVE):
        scripted.unscript(pattern)
    assert await one.end() == "ok"
    assert not scripted.state.containers


async def test_an_engine_that_is_away_leaves_it_unverified_and_a_second_end_finishes(
    scripted: ScriptedEngine, make: Make
) -> None:
    one = await make()
    await scripted.stop()
    assert await one.end() == "unverified"
    await scripted.start()
    assert await one.end() == "ok"
    assert not scripted.state.containers


async def test_what_is_gone_is_not_asked_for_again(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    assert await one.end() == "ok"
    scripted.calls.clear()
    assert await one.end() == "ok"
    assert scripted.calls == []


async def test_a_removal_that_claims_success_is_not_believed(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    scripted.script(REMOVE, Text(204, ""))
    assert await one.end() == "failed"
    assert sum(call.startswith("DELETE") for call in scripted.calls) == 3


@pytest.mark.parametrize("first", [Fail(500, "device busy"), LOST, Text(204, "")])
async def test_a_removal_that_fails_is_tried_again(scripted: ScriptedEngine, make: Make, first: Answer) -> None:
    one = await make()
    scripted.script(REMOVE, first, USUAL)
    assert await one.end() == "ok"
    assert not scripted.state.containers


async def test_a_removal_that_somebody_else_has_under_way_counts_when_it_is_done(
    scripted: ScriptedEngine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "REMOVE_AGAIN_S", 0.05)
    one = await make()
    scripted.script(REMOVE, Fail(409, "removal of container c is already in progress"))
    ending = asyncio.ensure_future(one.end())
    await scripted.called(REMOVE)
    scripted.state.remove("one", force=True)
    assert await ending == "ok"


async def test_one_that_somebody_else_removed_is_gone_and_no_error(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    scripted.state.remove("one", force=True)
    assert await one.end() == "ok"
    assert one.exit is None


async def test_one_that_was_never_asked_for_is_not_looked_for(client: Engine, scripted: ScriptedEngine) -> None:
    one = Container(client, "one", "the agent x")
    assert await one.end() == "ok"
    assert scripted.calls == []
    with pytest.raises(DockerError, match=r"^the agent x was not created$"):
        await one.start()


@pytest.mark.parametrize("answer", [LOST, DROP, Text(201, "<html>"), Fail(500, "no space left on device"), HANG])
async def test_what_a_create_without_an_answer_made_is_looked_for_by_its_name_and_removed(
    client: Engine, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    if answer is HANG:
        short_limits(monkeypatch)
    one = Container(client, "one", "the agent x")
    scripted.script("POST /containers/create", answer)
    with pytest.raises(DockerError, match=r"^creating the agent x: "):
        await one.create(BODY)
    if answer is not LOST:
        scripted.state.create("one", BODY)
    scripted.calls.clear()
    assert await one.end() == "ok"
    assert not scripted.state.containers
    looks = [call for call in scripted.calls if call == "GET /containers/one/json"]
    assert len(looks) == 4  # there, removed, and twice nothing


async def test_what_a_create_that_was_broken_off_made_is_removed(client: Engine, scripted: ScriptedEngine) -> None:
    one = Container(client, "one", "the agent x")
    scripted.script("POST /containers/create", HANG)
    creating = asyncio.ensure_future(one.create(BODY))
    await scripted.called("POST /containers/create")
    creating.cancel()
    await asyncio.wait([creating])
    scripted.state.create("one", BODY)
    assert await one.end() == "ok"
    assert not scripted.state.containers


async def test_a_container_that_is_created_late_is_found_by_the_second_inspection(
    client: Engine, scripted: ScriptedEngine
) -> None:
    one = Container(client, "one", "the agent x")
    scripted.script("POST /containers/create", LOST)
    with pytest.raises(DockerError):
        await one.create(BODY)
    scripted.script(LOOK, Fail(404, "No such container: one"), USUAL)
    assert await one.end() == "ok"
    assert not scripted.state.containers
    looks = [call for call in scripted.calls if call == "GET /containers/one/json"]
    assert len(looks) == 5  # nothing, there, removed, and twice nothing in a row


async def test_two_looks_at_what_may_come_are_a_second_apart(
    client: Engine, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert under_test.QUIET_S == 0.0  # by `quick`; the product's own is below
    monkeypatch.undo()
    assert under_test.QUIET_S == 1.0
    one = Container(client, "one", "the agent x")
    scripted.script("POST /containers/create", DROP)
    with pytest.raises(DockerError):
        await one.create(BODY)
    scripted.calls.clear()
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    assert await one.end() == "ok"
    assert loop.time() - begun_s >= 1.0
    assert scripted.calls == ["GET /containers/one/json"] * 2


async def test_what_cannot_be_looked_for_is_unverified_and_looked_for_again(
    client: Engine, scripted: ScriptedEngine
) -> None:
    one = Container(client, "one", "the agent x")
    scripted.script("POST /containers/create", LOST)
    with pytest.raises(DockerError):
        await one.create(BODY)
    scripted.script(LOOK, Fail(404, "No such container: one"), Fail(500, "No such container: one"))
    assert await one.end() == "unverified"
    scripted.unscript(LOOK)
    assert await one.end() == "ok"
    assert not scripted.state.containers


async def test_what_does_not_go_by_its_name_is_a_failed_step(client: Engine, scripted: ScriptedEngine) -> None:
    one = Container(client, "one", "the agent x")
    scripted.script("POST /containers/create", LOST)
    with pytest.raises(DockerError):
        await one.create(BODY)
    scripted.script(REMOVE, Text(204, ""))
    assert await one.end() == "failed"
    assert sum(call.startswith("DELETE") for call in scripted.calls) == 3 * QUIET_TRIES


@pytest.mark.parametrize(
    ("status", "failure"),
    [(404, Failure.GONE), (409, Failure.CONFLICT), (400, Failure.REFUSED), (403, Failure.REFUSED)],
)
async def test_a_create_that_was_refused_made_nothing_and_nothing_is_looked_for(
    client: Engine, scripted: ScriptedEngine, status: int, failure: Failure
) -> None:
    one = Container(client, "one", "the agent x")
    scripted.script("POST /containers/create", Fail(status, "not today"))
    with pytest.raises(DockerError, match=r"^creating the agent x: not today$") as caught:
        await one.create(BODY)
    assert caught.value.failure is failure
    scripted.calls.clear()
    assert await one.end() == "ok"
    assert scripted.calls == []


async def test_what_holds_our_name_already_is_not_removed(client: Engine, scripted: ScriptedEngine) -> None:
    theirs = scripted.state.create("one", BODY)
    one = Container(client, "one", "the agent x")
    with pytest.raises(DockerError, match=r'creating the agent x: .*"/one" is already in use'):
        await one.create(BODY)
    assert await one.end() == "ok"
    assert list(scripted.state.containers.values()) == [theirs]


async def test_one_that_was_there_already_is_ended_by_its_id(client: Engine, scripted: ScriptedEngine) -> None:
    there = scripted.state.create("theirs", BODY)
    scripted.state.launch(there.id)
    assert await Container(client, there.id, "a dead run's agent", there.id).end() == "ok"
    assert there.signals == ["TERM"]
    assert not scripted.state.containers


async def test_a_start_that_fails_says_what_was_started_and_why(scripted: ScriptedEngine, make: Make) -> None:
    one = await make(running=False)
    scripted.script("POST /containers/*/start", Fail(400, "unable to find user nobody-here"))
    with pytest.raises(DockerError, match=r"^starting the agent x: unable to find user nobody-here$"):
        await one.start()


async def test_the_end_has_a_code_and_a_reason(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    waiting = ended_after(one)
    await scripted.called(WAIT)
    scripted.exit("one", 137, oom=True)
    assert await waiting == one.exit == Exit(137, out_of_memory=True)


async def test_the_engines_word_counts_and_not_the_signal(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    scripted.script(WAIT, Text(200, '{"StatusCode":0}'), Text(200, '{"StatusCode":0}'), USUAL)
    waiting = ended_after(one)
    await scripted.called(WAIT, times=3)
    assert not waiting.done()
    scripted.exit("one", 5)
    assert await waiting == Exit(5)


async def test_one_that_is_gone_has_ended_without_a_code(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    waiting = ended_after(one)
    await scripted.called(WAIT)
    scripted.state.remove("one", force=True)
    assert await waiting == Exit(None)
    assert await ended_after(one) == Exit(None)


async def test_one_that_was_ended_here_keeps_its_code_when_it_is_gone(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    waiting = ended_after(one)
    await scripted.called(WAIT)
    assert await one.end() == "ok"
    await waiting
    assert one.exit == Exit(143)
    assert await ended_after(one) == Exit(143)


@pytest.mark.parametrize("pattern", [WAIT, LOOK])
async def test_an_engine_that_errs_is_asked_again(scripted: ScriptedEngine, make: Make, pattern: str) -> None:
    one = await make()
    scripted.script(pattern, Fail(500, "No such container: one"), Fail(400, "what?"), Text(200, "<html>"), USUAL)
    waiting = ended_after(one)
    if pattern == LOOK:
        await scripted.called(WAIT)
    else:
        await scripted.called(WAIT, times=4)
    scripted.exit("one", 4)
    assert await waiting == Exit(4)


async def test_an_engine_that_is_away_is_asked_until_it_is_back(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    waiting = ended_after(one)
    await scripted.called(WAIT)
    await scripted.stop()
    await asyncio.sleep(0.05)
    assert not waiting.done()
    scripted.exit("one", 4)
    await scripted.start()
    assert await waiting == Exit(4)


async def test_a_container_that_runs_on_after_its_output_is_over_is_reported(
    scripted: ScriptedEngine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "DETACHED_S_MAX", 0.05)
    one, detached = await make(), asyncio.Event()
    detached.set()
    assert await ended_after(one, detached) is None
    assert one.exit is None


async def test_output_that_is_over_a_moment_before_the_engine_knows_is_no_loss(
    scripted: ScriptedEngine, make: Make
) -> None:
    one, detached = await make(), asyncio.Event()
    waiting = ended_after(one, detached)
    await scripted.called(WAIT)
    detached.set()
    await asyncio.sleep(0.05)
    scripted.exit("one", 6)
    assert await waiting == Exit(6)


async def test_output_that_is_over_while_the_engine_is_away_is_no_end(
    scripted: ScriptedEngine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "DETACHED_S_MAX", 0.05)
    one, detached = await make(), asyncio.Event()
    await scripted.stop()
    detached.set()
    waiting = ended_after(one, detached)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    scripted.exit("one", 9)
    await scripted.start()
    assert await waiting == Exit(9)


async def test_waiting_can_be_broken_off_and_leaves_no_task(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    waiting = ended_after(one)
    await scripted.called(WAIT)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not {"wait", "output"} & {task.get_name() for task in asyncio.all_tasks()}


async def test_a_stopped_container_is_over_and_still_there(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    assert (await one.stop(), one.is_over, one.exit) == ("ok", True, Exit(143))
    assert scripted.container("one").status == "exited"
    count = len(scripted.calls)
    assert await one.stop() == "ok"
    assert len(scripted.calls) == count
    assert await one.end() == "ok"
    assert not scripted.state.containers


async def test_one_that_never_ran_or_cannot_be_stopped_is_removed_by_a_stop(
    scripted: ScriptedEngine, make: Make
) -> None:
    one = await make(running=False)
    assert (await one.stop(), one.is_over, dict(scripted.state.containers)) == ("ok", False, {})
    two = await make()
    scripted.script(KILL, Fail(500, "no"))
    scripted.script(WAIT, Fail(500, "no"))
    assert (await two.stop(), two.is_over, dict(scripted.state.containers)) == ("ok", False, {})


async def test_one_that_somebody_else_removed_is_gone_and_not_over(
    client: Engine, scripted: ScriptedEngine, make: Make
) -> None:
    one = await make()
    await client.remove(one.id)
    assert (await one.stop(), one.is_over) == ("ok", False)
    assert not scripted.state.containers


async def test_one_whose_engine_is_away_is_not_over(scripted: ScriptedEngine, make: Make) -> None:
    one = await make()
    await scripted.stop()
    assert (await one.stop(), one.is_over) == ("unverified", False)
    await scripted.start()
    assert (await one.stop(), one.is_over) == ("ok", True)
    await one.end()
