"""What each call asks of the engine, and what is made of its answer. How calls fail: test_failure."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agent_preflight.engine.client import Engine, Image, StartTurns, on_engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.sandboxes.interface import Exit
from tests.support.engine_container import NEVER
from tests.support.scripted_engine import HANG, Fail, ScriptedEngine, Text

pytestmark = pytest.mark.wire

BODY = {"Image": "me/agent"}


async def test_a_container_is_created_by_name_and_body_for_a_platform_and_nothing_is_pulled(
    client: Engine, scripted: ScriptedEngine
) -> None:
    body = BODY | {"Labels": {"a": "b"}}
    made = await client.create("one", body, "creating it")
    await client.create("two", body, "creating it", "linux/arm64")
    assert made == scripted.container("one").id
    assert scripted.bodies[-2:] == [
        ("POST /containers/create?name=one", body),
        ("POST /containers/create?name=two&platform=linux/arm64", body),
    ]
    with pytest.raises(DockerError, match=r"^creating it: No such image: you/agent:latest$") as caught:
        await client.create("three", {"Image": "you/agent"}, "creating it")
    assert caught.value.failure is Failure.GONE


async def test_an_inspection_returns_status_end_and_exit_and_none_only_for_what_is_gone(
    client: Engine, scripted: ScriptedEngine
) -> None:
    made = await client.create("one", BODY, "creating it")
    seen = await client.look(made)
    assert seen is not None
    assert (seen.status, seen.ended) == ("created", False)
    await client.start(made, "starting it")
    await client.start(made, "starting it")
    seen = await client.look("one")
    assert seen is not None
    assert (seen.status, seen.ended) == ("running", False)
    scripted.exit("one", 137, oom=True)
    seen = await client.look(made)
    assert seen is not None
    assert (seen.status, seen.ended, seen.exit) == ("exited", True, Exit(137, out_of_memory=True))
    await client.remove(made)
    assert await client.look(made) is None


@pytest.mark.parametrize(("code", "told"), [(158, False), (159, True), (160, False), (31, False)])
async def test_a_container_whose_exit_code_is_that_of_sigsys_made_a_bad_system_call(
    client: Engine, scripted: ScriptedEngine, code: int, told: bool
) -> None:
    made = await client.create("one", BODY, "creating it")
    await client.start(made, "starting it")
    scripted.exit("one", code)
    seen = await client.look(made)
    assert seen is not None
    assert seen.exit == Exit(code, bad_system_call=told)


STARTED = "2026-11-25T02:36:02.968863255Z"


@pytest.mark.parametrize(
    ("status", "started_at", "ended"),
    [
        ("exited", STARTED, True),
        ("dead", STARTED, True),
        ("exited", NEVER, False),
        ("created", NEVER, False),
        ("running", STARTED, False),
        ("paused", STARTED, False),
        ("restarting", STARTED, False),
        ("removing", STARTED, False),
    ],
)
async def test_only_what_ran_and_runs_no_more_has_ended(
    client: Engine, scripted: ScriptedEngine, status: str, started_at: str, ended: bool
) -> None:
    state = {"Status": status, "ExitCode": 7, "StartedAt": started_at, "OOMKilled": False, "Running": False}
    scripted.script("GET /containers/*/json", Text(200, json.dumps({"State": state})))
    seen = await client.look("one")
    assert seen is not None
    assert (seen.status, seen.ended, seen.exit) == (status, ended, Exit(7))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"State": null}', '{"State": {"Status": "exited"}}', "<html>"]
)
async def test_what_is_no_state_is_an_error_and_not_gone(client: Engine, scripted: ScriptedEngine, text: str) -> None:
    scripted.script("GET /containers/*/json", Text(200, text))
    with pytest.raises(DockerError, match=r"^looking at a container: ") as caught:
        await client.look("one")
    assert caught.value.failure is Failure.NOT_DOCKER


@pytest.mark.parametrize(
    "answer", [Text(404, "<html>Not Found</html>", "text/html"), Text(404, "404 page not found", "text/plain")]
)
async def test_a_404_that_is_not_the_engines_own_means_nothing(
    client: Engine, scripted: ScriptedEngine, answer: Text
) -> None:
    """What stands between us and the engine may answer for it while it is away."""
    scripted.script("GET /containers/*/json", answer)
    with pytest.raises(DockerError) as caught:
        await client.look("one")
    assert caught.value.failure is not Failure.GONE


async def test_a_container_is_signalled_waited_for_and_removed_with_its_volumes(
    client: Engine, scripted: ScriptedEngine
) -> None:
    made = await client.create("one", BODY, "creating it")
    with pytest.raises(DockerError, match=r"^sending TERM: .*is not running$") as caught:
        await client.kill(made, "TERM")
    assert caught.value.failure is Failure.CONFLICT
    await client.start(made, "starting it")
    waiting = asyncio.ensure_future(client.wait(made))
    await scripted.called("POST /containers/*/wait")
    assert not waiting.done()
    await client.kill(made, "TERM")
    await waiting
    await client.remove(made)
    assert scripted.calls[-1] == f"DELETE /containers/{made}?force=1&v=1"
    with pytest.raises(DockerError, match=r"^removing a container: No such container") as caught:
        await client.remove(made)
    assert caught.value.failure is Failure.GONE


async def test_a_wait_has_no_limit_unless_it_is_given_one(client: Engine, scripted: ScriptedEngine) -> None:
    made = await client.create("one", BODY, "creating it")
    await client.start(made, "starting it")
    with pytest.raises(DockerError, match=r"did not answer within 0\.05 s") as caught:
        await client.wait(made, 0.05)
    assert caught.value.failure is Failure.TIMEOUT


def name_of(row: dict[str, Any]) -> str:
    return str(row["Name"] if "Name" in row else row["Names"][0].strip("/"))


async def test_things_are_listed_by_their_labels(client: Engine, scripted: ScriptedEngine) -> None:
    state = scripted.state
    for name, value in (("one", "1"), ("two", "2")):
        state.create(name, BODY | {"Labels": {"l": value}})
        state.create_network({"Name": name, "Labels": {"l": value}})
        state.create_volume({"Name": name, "Labels": {"l": value}})
    state.launch("two")
    for kind in ("containers", "networks", "volumes"):
        assert {name_of(row) for row in await client.listed(kind, {"l": None})} == {"one", "two"}
        assert [name_of(row) for row in await client.listed(kind, {"l": "2"})] == ["two"]
        assert await client.listed(kind, {"l": "2", "m": None}) == []
    assert [row["Names"] for row in await client.listed("containers", {"l": None}, running=True)] == [["/two"]]


async def test_a_network_is_shown_and_a_volume_is_made_and_removed(client: Engine, scripted: ScriptedEngine) -> None:
    assert (await client.network("bridge"))["Options"] == {"com.docker.network.bridge.name": "docker0"}
    await client.make_volume("v", {"a": "b"})
    await client.make_volume("v", {"a": "b"})
    assert scripted.state.volume("v")["Labels"] == {"a": "b"}
    await client.remove_volume("v")
    for gone in (client.remove_volume("v"), client.network("n")):
        with pytest.raises(DockerError) as caught:
            await gone
        assert caught.value.failure is Failure.GONE


async def test_an_image_is_returned_and_none_only_for_a_missing_one(client: Engine, scripted: ScriptedEngine) -> None:
    created = scripted.state.images["me/agent"]["Created"]
    assert await client.image("me/agent") == Image("sha256:agent", created, "linux", "amd64")
    assert await client.image("registry.example:5000/you/agent:1") is None
    scripted.script("GET /images/*", Fail(500, "no such image"))
    with pytest.raises(DockerError, match=r"^looking for the image me/agent: no such image$"):
        await client.image("me/agent")


@pytest.mark.parametrize(
    ("config", "env"),
    [
        ({"Env": ["A=x=y", "B=", "C"]}, {"A": "x=y", "B": "", "C": ""}),
        ({"Env": None}, {}),
        ({}, {}),
        (None, {}),
    ],
)
async def test_an_images_variables_are_returned(
    client: Engine, scripted: ScriptedEngine, config: dict[str, Any] | None, env: dict[str, str]
) -> None:
    scripted.state.images["me/agent"]["Config"] = config
    image = await client.image("me/agent")
    assert image is not None
    assert image.env == env


async def test_an_archive_is_put_where_there_is_a_directory(client: Engine, scripted: ScriptedEngine) -> None:
    made = await client.create("one", BODY, "creating it")
    await client.put(made, "/workspace", b"tar")
    assert scripted.container("one").archives == [("/workspace", b"tar")]
    with pytest.raises(DockerError, match=r"^writing into /none: Could not find the file /none") as caught:
        await client.put(made, "/none", b"tar")
    assert caught.value.failure is Failure.GONE


async def test_trials_have_connections_of_their_own_so_that_many_waits_block_no_call(
    client: Engine, scripted: ScriptedEngine
) -> None:
    many, waiting = 120, []
    for number in range(many):
        made = await client.create(f"c{number}", BODY, "creating it")
        await client.start(made, "starting it")
        waiting.append(asyncio.ensure_future(client.apart().wait(made)))
    async with asyncio.timeout(10):
        await scripted.called("POST /containers/*/wait", times=many)
        assert (await client.info())["ID"] == "SCRIPTED"
    for number in range(many):
        scripted.exit(f"c{number}", 0)
    await asyncio.gather(*waiting)


async def test_connections_apart_share_the_limit_on_starts(client: Engine) -> None:
    assert client.apart().starts is client.apart().apart().starts is client.starts


async def started(turns: StartTurns, name: str, log: list[str], *, of_agent: bool = False) -> None:
    async with turns.turn(of_agent=of_agent):
        log.append(name)
        await asyncio.sleep(0)


async def test_turns_to_start_are_limited_and_agents_come_first() -> None:
    turns, log = StartTurns(2), list[str]()
    async with turns.turn(), turns.turn():
        waiting = [asyncio.ensure_future(started(turns, f"gate {number}", log)) for number in range(2)]
        waiting += [asyncio.ensure_future(started(turns, f"agent {n}", log, of_agent=True)) for n in range(2)]
        await asyncio.sleep(0.01)
        assert not log
    await asyncio.gather(*waiting)
    assert log == ["agent 0", "agent 1", "gate 0", "gate 1"]


@pytest.mark.parametrize("has_come", [False, True])
async def test_a_turn_that_is_cancelled_is_the_next_ones(*, has_come: bool) -> None:
    turns, log = StartTurns(1), list[str]()
    async with turns.turn():
        one, two = (asyncio.ensure_future(started(turns, name, log)) for name in ("one", "two"))
        await asyncio.sleep(0.01)
        if not has_come:
            one.cancel()
            await asyncio.sleep(0)
    if has_come:  # the turn is its, and it has not yet run
        one.cancel()
    await two
    assert log == ["two"]
    await started(turns, "three", log)
    assert log == ["two", "three"]


async def test_no_connection_outlives_its_context(scripted: ScriptedEngine) -> None:
    engine = scripted
    async with Engine.open(engine.url) as client:
        for one in (client, client.apart(), client.apart().apart()):
            await one.info()
        engine.script("POST /containers/*/wait", HANG)
        pending = asyncio.ensure_future(client.apart().wait("x"))
        await engine.called("POST /containers/*/wait")
    with pytest.raises(DockerError):
        await pending
    async with asyncio.timeout(5):
        while engine._http is not None and engine._http.connections:
            await asyncio.sleep(0)


def test_code_without_a_loop_asks_the_engine(scripted_host: str) -> None:
    assert on_engine(lambda engine: engine.info())["ID"] == "SCRIPTED"
    with pytest.raises(DockerError, match="No such container"):
        on_engine(lambda engine: engine.remove("none"))
    with pytest.raises(ZeroDivisionError):
        on_engine(divide)


async def divide(engine: Engine) -> float:
    return 1 / 0


async def test_code_in_a_loop_asks_the_engine_too(docker_host: ScriptedEngine) -> None:
    assert on_engine(lambda engine: engine.info())["ID"] == "SCRIPTED"
    assert await asyncio.to_thread(on_engine, lambda engine: engine.look("none")) is None


def test_no_engine_is_an_error_outside_a_loop(no_engine: str) -> None:
    with pytest.raises(DockerError, match=f"no Docker engine answers at {no_engine}"):
        on_engine(lambda engine: engine.info())


@pytest.fixture
def scripted_host(docker_host: ScriptedEngine) -> str:
    """The address that DOCKER_HOST has."""
    return docker_host.url


@pytest.mark.docker
async def test_the_real_engine_is_spoken_to_at_a_version_that_it_has(engine: Engine) -> None:
    assert (await engine.info())["ID"]
    assert await engine.look("no-such-container-of-mine") is None
    assert await engine.image("no-such-image-of-mine") is None
