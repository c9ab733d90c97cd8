"""The sandbox on an engine that errs, played by a script: what it calls in which order, and what it believes."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from agent_preflight.docker import sandbox as under_test
from agent_preflight.docker.agent_files import LinkPlace
from agent_preflight.docker.sandbox import NOT_STARTED, OUTPUT_LOST, PERHAPS_STARTED, DockerSandbox, check_socket
from agent_preflight.engine.client import Engine, StartTurns
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.sandboxes.interface import Exit, ForwarderTarget, Pipes
from agent_preflight.sandboxes.kept_output import OutputPolicy
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.docker.conftest import MakeSpec
from tests.agent_preflight.sandboxes.test_tar_stream import archive, member
from tests.support.engine_container import Container
from tests.support.scripted_engine import DROP, HANG, LOST, USUAL, Answer, Fail, ScriptedEngine, Text
from tests.support.short_engine_limits import no_pauses, short_limits

pytestmark = pytest.mark.wire

SECRET = "pf-trial-token"
PASS = "p" * 43
BOTH_OK = {"agent": "ok", "gate": "ok"}
CREATE, START, ATTACH, PUT = (
    "POST /containers/create",
    "POST /containers/*/start",
    "POST /containers/*/attach",
    "PUT /containers/*/archive",
)

Make = Callable[..., DockerSandbox]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a pause."""
    no_pauses(monkeypatch)


@pytest.fixture
def make(client: Engine, make_spec: MakeSpec) -> Make:
    """Sandboxes on the scripted engine, whose agents have a token."""

    def sandbox(**fields: object) -> DockerSandbox:
        usual: dict[str, object] = {"image": "me/agent", "env": {"OPENROUTER_API_KEY": SECRET}}
        place = fields.pop("link_place", None)
        assert place is None or isinstance(place, LinkPlace)
        spec = make_spec("run-it", **usual | fields)
        return DockerSandbox(spec, client, gate_image="sha256:gate", link_place=place)

    return sandbox


async def running(make: Make, **fields: object) -> tuple[DockerSandbox, Pipes]:
    """A sandbox whose agent runs, and the agent's streams."""
    sandbox = make(**fields)
    await sandbox.create()
    return sandbox, await sandbox.start()


def portal() -> dict[str, object]:
    """What makes a spec's gate portable."""
    return {"gate_socket": None, "portal": ForwarderTarget("172.17.0.1", 4711, Secret(PASS))}


def role(container: Container) -> str:
    return str(container.config["Labels"]["agent-preflight.role"])


def there(scripted: ScriptedEngine, which: str) -> Container | None:
    """The container of this role."""
    return next((each for each in scripted.state.containers.values() if role(each) == which), None)


def agent(scripted: ScriptedEngine) -> Container:
    found = there(scripted, "agent")
    assert found is not None
    return found


def told(scripted: ScriptedEngine) -> list[str]:
    """The calls so far, each container's id replaced by what it is, as long as it is there."""
    calls = list(scripted.calls)
    for container in scripted.state.containers.values():
        calls = [call.replace(container.id, role(container)) for call in calls]
    return calls


async def until_agent_is_asked_for(scripted: ScriptedEngine) -> None:
    await scripted.called(CREATE, times=2)


async def test_the_gate_stands_before_the_agent_is_made_and_streams_are_ours_before_it_starts(
    make: Make, scripted: ScriptedEngine
) -> None:
    sandbox, _ = await running(make)
    name = sandbox.container_name
    head, _, suffix = name.rpartition("-")
    gate_name = f"{head}-gate-{suffix}"
    assert told(scripted) == [
        f"POST /containers/create?name={gate_name}",
        "POST /containers/gate/start",
        f"POST /containers/create?name={name}",
        "PUT /containers/agent/archive?path=/workspace/output",
        "PUT /containers/agent/archive?path=/workspace",
        "POST /containers/agent/attach?stream=1&stdout=1&stderr=1",
        "POST /containers/agent/attach?stream=1&stdin=1",
        "POST /containers/agent/start",
    ]
    assert await sandbox.close() == BOTH_OK


async def test_what_an_agent_prints_when_it_starts_is_read(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()

    def hello(container: Container) -> None:
        if role(container) == "agent":
            container.print(1, b"first words\n")
            container.end(0)

    scripted.state.on_start = hello
    await sandbox.create()
    pipes = await sandbox.start()
    assert await pipes.stdout.read() == b"first words\n"
    assert await sandbox.wait() == Exit(0)
    assert await sandbox.close() == BOTH_OK


async def test_the_agent_goes_before_its_gate(make: Make, scripted: ScriptedEngine) -> None:
    sandbox, _ = await running(make)
    ids = {each.id: role(each) for each in scripted.state.containers.values()}
    assert await sandbox.close() == BOTH_OK
    removed = [call.split("/")[2].partition("?")[0] for call in scripted.calls if call.startswith("DELETE")]
    assert [ids[each] for each in removed] == ["agent", "gate"]
    last_look = max(at for at, call in enumerate(scripted.calls) if call.startswith("GET") and removed[0] in call)
    assert last_look < next(at for at, call in enumerate(scripted.calls) if removed[1] in call and "DELETE" in call)
    assert not scripted.state.containers


async def test_the_token_is_in_the_body_of_the_agents_create_and_nowhere_else(
    make: Make, scripted: ScriptedEngine
) -> None:
    sandbox, _ = await running(make)
    name = agent(scripted).name
    environment = agent(scripted).config["Env"]
    labels = [each.config["Labels"] for each in scripted.state.containers.values()]
    await sandbox.close()
    assert environment == [f"OPENROUTER_API_KEY={SECRET}"]
    assert [call for call, body in scripted.bodies if SECRET in str(body)] == [f"{CREATE}?name={name}"]
    body = next(body for call, body in scripted.bodies if SECRET in str(body))
    assert json.dumps(body).count(SECRET) == 1
    assert SECRET not in str([scripted.calls, labels, name, repr(sandbox), sandbox.warnings])


@pytest.mark.parametrize(
    "answer", [Fail(400, "bad"), Fail(500, "bad"), Fail(409, "taken"), LOST, Text(201, "<html>"), HANG]
)
async def test_no_error_shows_the_token(
    make: Make, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    if answer is HANG:
        short_limits(monkeypatch)
    sandbox = make()
    scripted.script(CREATE, USUAL, answer)
    with pytest.raises(DockerError) as caught:
        await sandbox.create()
    shown = caught.getrepr(style="native", chain=True)
    assert SECRET not in str(shown)
    assert await sandbox.close() == BOTH_OK


@pytest.mark.parametrize(
    "wrong", [{"network": "host"}, {"workspace_path": "output"}, {"mounts": ("/var/run/docker.sock:/s",)}]
)
async def test_what_a_trial_may_not_ask_for_is_refused_before_anything_is_made(
    make: Make, scripted: ScriptedEngine, wrong: dict[str, object]
) -> None:
    with pytest.raises(ConfigError):
        await make(**wrong).create()
    assert scripted.calls == []


def test_a_container_needs_one_gate_and_no_more(client: Engine, make: Make) -> None:
    with pytest.raises(ConfigError, match="needs a gate"):
        make(gate_socket=None)
    with pytest.raises(ConfigError, match="needs a gate"):
        make(portal=portal()["portal"])


async def test_an_engine_that_goes_away_leaves_both_unverified_and_the_gate_alone(
    make: Make, scripted: ScriptedEngine
) -> None:
    sandbox, _ = await running(make)
    await scripted.stop()
    assert await sandbox.close() == {"agent": "unverified", "gate": "unverified"}
    await scripted.start()
    assert not any(call.startswith("DELETE") for call in scripted.calls)
    assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers


@pytest.mark.parametrize(
    ("pattern", "answer", "step"),
    [
        ("GET /containers/*/json", Fail(500, "No such container"), "unverified"),
        ("DELETE /containers/*", Text(204, ""), "failed"),
    ],
)
async def test_the_gate_stays_as_long_as_the_agent_may_be_there(
    make: Make, scripted: ScriptedEngine, pattern: str, answer: Answer, step: str
) -> None:
    sandbox, _ = await running(make)
    gate = there(scripted, "gate")
    assert gate is not None
    scripted.script(pattern, answer)
    assert await sandbox.close() == {"agent": step, "gate": "unverified"}
    assert gate.running
    assert not any(gate.id in call for call in scripted.calls if not call.endswith("/start"))
    scripted.unscript(pattern)
    assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers


async def test_what_is_gone_is_not_asked_for_again(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()
    await sandbox.create()
    await sandbox.close()
    calls = len(scripted.calls)
    assert await sandbox.kill() == "ok"
    assert await sandbox.close() == BOTH_OK
    assert len(scripted.calls) == calls


@pytest.mark.parametrize("lost", ["gate", "agent"])
async def test_what_a_lost_create_made_is_looked_for_by_its_name_and_removed(
    make: Make, scripted: ScriptedEngine, lost: str
) -> None:
    sandbox = make()
    scripted.script(CREATE, *([USUAL] if lost == "agent" else []), LOST)
    with pytest.raises(DockerError, match=f"closed the connection.*{NOT_STARTED}$") as caught:
        await sandbox.create()
    assert caught.value.failure is Failure.LOST
    made = there(scripted, lost)
    assert made is not None
    assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers
    assert f"GET /containers/{made.name}/json" in scripted.calls


async def test_a_name_that_is_taken_is_a_sentence_and_what_has_it_stays(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()
    theirs = scripted.state.create(sandbox.container_name, {"Image": "me/agent"})
    with pytest.raises(DockerError, match=r"creating the agent agent: .*is already in use") as caught:
        await sandbox.create()
    assert caught.value.failure is Failure.CONFLICT
    assert await sandbox.close() == BOTH_OK
    assert list(scripted.state.containers.values()) == [theirs]


async def test_a_full_disk_is_one_sentence_that_ends_with_what_it_means_for_money(
    make: Make, scripted: ScriptedEngine
) -> None:
    for answers in ((Fail(500, "write /x: no space left on device"),), (USUAL, Fail(500, "no space left on device\n"))):
        sandbox = make()
        scripted.script(CREATE, *answers)
        with pytest.raises(DockerError, match="no space left on device") as caught:
            await sandbox.create()
        assert str(caught.value).endswith(f"no space left on device. {NOT_STARTED}")
        assert "\n" not in str(caught.value)
        assert caught.value.failure is Failure.FAILED
        assert await sandbox.close() == BOTH_OK
    assert NOT_STARTED == "The agent did not start, so this trial spent nothing."


@pytest.mark.parametrize("pattern", [ATTACH, START])
async def test_a_start_that_was_refused_says_what_that_means_for_money(
    make: Make, scripted: ScriptedEngine, pattern: str
) -> None:
    sandbox = make()
    await sandbox.create()
    scripted.script(pattern, Fail(400, "unable to find user nobody-here"))
    with pytest.raises(DockerError, match="unable to find user nobody-here") as caught:
        await sandbox.start()
    assert str(caught.value).endswith(f". {NOT_STARTED}")
    if pattern == START:
        await scripted.state.until(lambda: scripted.stdin_closed(sandbox.container_name))
    assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers


async def test_a_missing_image_is_not_pulled_and_the_error_says_what_to_do(
    make: Make, scripted: ScriptedEngine
) -> None:
    sandbox = make(image="you/agent")
    with pytest.raises(DockerError, match=r"docker pull you/agent") as caught:
        await sandbox.create()
    assert (caught.value.failure, str(caught.value)[-len(NOT_STARTED) :]) == (Failure.GONE, NOT_STARTED)
    assert not any("/images/create" in call for call in scripted.calls)
    assert await sandbox.close() == BOTH_OK


async def test_a_404_that_is_not_the_images_keeps_the_engines_words(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()
    scripted.script(CREATE, USUAL, Fail(404, "network mine not found"))
    with pytest.raises(DockerError, match="creating the agent agent: network mine not found"):
        await sandbox.create()
    assert await sandbox.close() == BOTH_OK


async def test_an_ending_before_the_create_makes_nothing(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()
    assert await sandbox.close() == BOTH_OK
    with pytest.raises(DockerError, match="ended before"):
        await sandbox.create()
    assert scripted.calls == []


async def test_an_ending_while_the_gate_is_made_lets_no_agent_be_made(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()
    scripted.script(CREATE, HANG)
    creating = asyncio.ensure_future(sandbox.create())
    await scripted.called(CREATE)
    closing = asyncio.ensure_future(sandbox.close())
    await asyncio.sleep(0)
    scripted.unscript(CREATE)
    with pytest.raises(DockerError, match="ended before its agent started"):
        await creating
    assert await closing == BOTH_OK
    assert not scripted.state.containers
    assert sum(call.startswith(CREATE) for call in scripted.calls) == 1


async def test_an_ending_while_the_agent_is_made_removes_it_unstarted(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()
    scripted.script(CREATE, USUAL, HANG)
    creating = asyncio.ensure_future(sandbox.create())
    await until_agent_is_asked_for(scripted)
    closing = asyncio.ensure_future(sandbox.close())
    await asyncio.sleep(0)
    scripted.unscript(CREATE)
    with pytest.raises(DockerError, match="ended before its agent started"):
        await creating
    assert await closing == BOTH_OK
    assert not scripted.state.containers
    assert not [call for call in scripted.calls if call.startswith("GET") and sandbox.container_name in call]
    with pytest.raises(DockerError, match="ended before its agent started"):
        await sandbox.start()
    assert sum(call.endswith("/start") for call in scripted.calls) == 1


@pytest.mark.parametrize("calls_before", [1, 2])
async def test_a_create_that_is_broken_off_leaves_nothing(
    make: Make, scripted: ScriptedEngine, calls_before: int
) -> None:
    sandbox = make()
    scripted.script(CREATE, *[USUAL] * (calls_before - 1), HANG)
    creating = asyncio.ensure_future(sandbox.create())
    await scripted.called(CREATE, times=calls_before)
    creating.cancel()
    await asyncio.wait([creating])
    scripted.unscript(CREATE)
    assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers


async def test_an_ending_does_not_wait_for_a_create_that_hangs(
    make: Make, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = make()
    monkeypatch.setattr(under_test, "CREATE_ENDS_S_MAX", 0.05)
    scripted.script(CREATE, USUAL, HANG)
    creating = asyncio.ensure_future(sandbox.create())
    await until_agent_is_asked_for(scripted)
    async with asyncio.timeout(5):
        assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers
    creating.cancel()
    await asyncio.wait([creating])


@pytest.mark.parametrize("calls_before", [1, 2])
async def test_what_a_create_makes_after_its_ending_is_removed_by_the_next_ending(
    make: Make, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, calls_before: int
) -> None:
    sandbox = make()
    monkeypatch.setattr(under_test, "CREATE_ENDS_S_MAX", 0.05)
    scripted.script(CREATE, *[USUAL] * (calls_before - 1), HANG)
    creating = asyncio.ensure_future(sandbox.create())
    await scripted.called(CREATE, times=calls_before)
    await sandbox.close()
    scripted.unscript(CREATE)
    with pytest.raises(DockerError, match="ended before its agent started"):
        await creating
    assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers


@pytest.mark.parametrize("pattern", [CREATE, START, PUT])
async def test_a_create_on_an_engine_that_hangs_ends_within_its_limit(
    make: Make, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    sandbox = make()
    short_limits(monkeypatch)
    scripted.script(pattern, HANG)
    with pytest.raises(DockerError, match=r"did not answer within 0\.15 s.*hang\. The agent did not start") as caught:
        await sandbox.create()
    assert caught.value.failure is Failure.TIMEOUT
    scripted.unscript(pattern)
    assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers


@pytest.mark.parametrize("pattern", [ATTACH, START])
async def test_a_start_on_an_engine_that_hangs_ends_within_its_limit(
    make: Make, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    sandbox = make()
    await sandbox.create()
    short_limits(monkeypatch)
    scripted.script(pattern, HANG)
    with pytest.raises(DockerError, match=r"did not answer within 0\.15 s") as caught:
        await sandbox.start()
    assert caught.value.failure is Failure.TIMEOUT
    assert str(caught.value).endswith(PERHAPS_STARTED if pattern == START else NOT_STARTED)
    assert await sandbox.close() == BOTH_OK
    assert not scripted.state.containers


async def test_an_ending_on_an_engine_that_hangs_ends_within_its_limits(
    make: Make, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, _ = await running(make)
    short_limits(monkeypatch)
    scripted.script("*", HANG)
    async with asyncio.timeout(10):
        assert await sandbox.close() == {"agent": "unverified", "gate": "unverified"}
    scripted.unscript("*")
    assert await sandbox.close() == BOTH_OK


async def test_an_agent_whose_start_was_lost_is_ended_though_it_runs(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()
    await sandbox.create()
    scripted.script(START, LOST)
    with pytest.raises(DockerError, match="closed the connection") as caught:
        await sandbox.start()
    assert str(caught.value).endswith(f". {PERHAPS_STARTED}")
    assert "nothing" not in str(caught.value)
    started = agent(scripted)
    assert started.running
    assert await sandbox.close() == BOTH_OK
    assert started.signals == ["TERM"]
    assert not scripted.state.containers


async def test_an_agent_whose_output_was_cut_off_is_ended(
    make: Make, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_preflight.docker.container.DETACHED_S_MAX", 0.05)
    sandbox, pipes = await running(make)
    waiting = asyncio.ensure_future(sandbox.wait())
    await scripted.called("POST /containers/*/wait")
    for listener in tuple(agent(scripted).attached):
        listener.finish()
    with pytest.raises(DockerError, match=OUTPUT_LOST):
        await waiting
    assert await pipes.stdout.read() == b""
    assert not agent(scripted).running
    assert await sandbox.close() == BOTH_OK


async def test_an_engine_that_restarts_under_an_agent_that_lives_on_ends_it_and_not_before(
    make: Make, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_preflight.docker.container.DETACHED_S_MAX", 0.05)
    sandbox, _ = await running(make)
    waiting = asyncio.ensure_future(sandbox.wait())
    await scripted.called("POST /containers/*/wait")
    lives_on = agent(scripted)
    await scripted.stop()
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await scripted.start()
    with pytest.raises(DockerError, match=OUTPUT_LOST):
        await waiting
    assert lives_on.signals == ["TERM"]
    assert await sandbox.close() == BOTH_OK


async def test_a_code_that_an_ending_saw_is_what_a_wait_returns(make: Make, scripted: ScriptedEngine) -> None:
    sandbox, _ = await running(make)
    waiting = asyncio.ensure_future(sandbox.wait())
    await scripted.called("POST /containers/*/wait")
    assert await sandbox.kill() == "ok"
    assert await waiting == Exit(143)
    assert await sandbox.wait() == Exit(143)
    assert await sandbox.close() == BOTH_OK


async def test_endings_that_come_together_end_it_once(make: Make, scripted: ScriptedEngine) -> None:
    sandbox, _ = await running(make)
    started = agent(scripted)
    ended = await asyncio.gather(sandbox.kill(), sandbox.close(), sandbox.close())
    assert list[object](ended) == ["ok", BOTH_OK, BOTH_OK]
    assert started.signals == ["TERM"]
    assert sum(call.startswith("DELETE") for call in scripted.calls) == 2


async def test_the_last_output_of_an_agent_that_is_ended_is_read(make: Make, scripted: ScriptedEngine) -> None:
    sandbox, pipes = await running(make)
    scripted.print(sandbox.container_name, b"bye\n", b"oh\n")
    assert await sandbox.close() == BOTH_OK
    assert (await pipes.stdout.read(), await pipes.stderr.read()) == (b"bye\n", b"oh\n")


async def test_output_that_comes_after_the_container_is_gone_is_read(make: Make, scripted: ScriptedEngine) -> None:
    sandbox, pipes = await running(make)
    late = list(agent(scripted).attached)
    agent(scripted).attached.clear()
    closing = asyncio.ensure_future(sandbox.close())
    while scripted.state.containers:
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    late[0].feed(1, b"late words")
    late[0].finish()
    assert await closing == BOTH_OK
    assert await pipes.stdout.read() == b"late words"


async def test_a_link_that_cannot_be_placed_is_a_warning(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make()
    scripted.script(PUT, Fail(400, "container rootfs is marked read-only"))
    await sandbox.create()
    assert "finds it at /run/preflight/budget.txt" in sandbox.warnings[-1]
    assert await sandbox.close() == BOTH_OK


@pytest.mark.parametrize(("mounts", "tries"), [((), 4), (("data:/data",), 6)])
async def test_only_trials_without_mounts_learn_the_place_of_the_link_from_each_other(
    make: Make, scripted: ScriptedEngine, mounts: tuple[str, ...], tries: int
) -> None:
    place = LinkPlace()
    for alias in ("one", "two"):
        await make(alias=alias, workspace_path="/a/b", mounts=mounts, link_place=place).create()
    assert sum(call.startswith("PUT") for call in scripted.calls) == tries


async def test_an_agent_whose_gate_runs_starts_before_gates_that_wait(
    make: Make, client: Engine, scripted: ScriptedEngine
) -> None:
    client.starts = StartTurns(1)
    first, others = make(), [make(alias=f"a{number}") for number in range(3)]
    await first.create()
    scripted.calls.clear()
    async with client.starts.turn():
        creating = [asyncio.ensure_future(sandbox.create()) for sandbox in others]
        await asyncio.sleep(0.01)
        starting = asyncio.ensure_future(first.start())
        await asyncio.sleep(0.01)
        assert not scripted.calls
    await asyncio.gather(starting, *creating)
    kinds = [call.partition("?")[0] for call in scripted.calls]
    assert kinds.index(CREATE) > next(at for at, call in enumerate(kinds) if call.endswith("/start"))
    assert await asyncio.gather(*(sandbox.close() for sandbox in (first, *others))) == [BOTH_OK] * 4


async def test_no_more_containers_start_at_once_than_the_engine_is_good_for(
    make: Make, client: Engine, scripted: ScriptedEngine
) -> None:
    client.starts = StartTurns(2)
    scripted.script(CREATE, HANG)
    sandboxes = [make(alias=f"a{number}") for number in range(4)]
    creating = [asyncio.ensure_future(sandbox.create()) for sandbox in sandboxes]
    await scripted.called(CREATE, times=2)
    await asyncio.sleep(0.05)
    assert sum(call.startswith(CREATE) for call in scripted.calls) == 2
    scripted.unscript(CREATE)
    await asyncio.gather(*creating)
    assert await asyncio.gather(*(sandbox.close() for sandbox in sandboxes)) == [BOTH_OK] * 4


async def test_a_forwarder_is_made_before_the_gate_and_removed_after_it(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make(**portal())
    await sandbox.create()
    ids = {each.id: role(each) for each in scripted.state.containers.values()}
    assert list(ids.values()) == ["forwarder", "gate", "agent"]
    assert [call for call, body in scripted.bodies if PASS in str(body)] == [
        f"{CREATE}?name={there_name(scripted, 'forwarder')}"
    ]
    assert PASS not in str(scripted.calls)
    assert await sandbox.close() == BOTH_OK | {"forwarder": "ok", "volume": "ok"}
    removed = [call.split("/")[2].partition("?")[0] for call in scripted.calls if call.startswith("DELETE /containers")]
    assert [ids[each] for each in removed] == ["agent", "gate", "forwarder"]
    assert not scripted.state.containers
    assert not scripted.state.volumes


def there_name(scripted: ScriptedEngine, which: str) -> str:
    found = there(scripted, which)
    assert found is not None
    return found.name


async def test_a_forwarder_stays_as_long_as_the_gate_may_be_there(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make(**portal())
    await sandbox.create()
    await scripted.stop()
    unverified = dict.fromkeys(("agent", "gate", "forwarder", "volume"), "unverified")
    assert await sandbox.close() == unverified
    await scripted.start()
    assert await sandbox.close() == dict.fromkeys(unverified, "ok")


async def test_a_forwarder_is_not_touched_where_only_the_gate_is_in_doubt(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make(**portal())
    await sandbox.create()
    gate, forwarder = there(scripted, "gate"), there(scripted, "forwarder")
    assert gate is not None
    assert forwarder is not None
    scripted.script(f"GET /containers/{gate.id}/json", Fail(500, "No such container"))
    steps = {"agent": "ok", "gate": "unverified", "forwarder": "unverified", "volume": "unverified"}
    assert await sandbox.close() == steps
    assert forwarder.running
    assert scripted.state.volumes


async def test_a_forwarder_that_cannot_be_made_lets_nothing_else_be_made(make: Make, scripted: ScriptedEngine) -> None:
    sandbox = make(**portal())
    scripted.script("POST /volumes/create", Fail(500, "no space left on device"))
    with pytest.raises(DockerError, match=f"no space left on device. {NOT_STARTED}"):
        await sandbox.create()
    assert not any(call.startswith(CREATE) for call in scripted.calls)
    with suppress(DockerError):
        await sandbox.close()
    assert not scripted.state.volumes


def test_a_socket_alone_in_its_directory_is_accepted_made_or_not(tmp_path: Path) -> None:
    check_socket(tmp_path / "gate.sock")
    (tmp_path / "gate.sock").touch()
    check_socket(tmp_path / "gate.sock")


def test_a_socket_in_company_is_refused_because_the_directory_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "control.sock").touch()
    with pytest.raises(ConfigError, match=r"control\.sock lies beside it"):
        check_socket(tmp_path / "gate.sock")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        check_socket(tmp_path / "none" / "gate.sock")


def with_output(scripted: ScriptedEngine, content: bytes = b"answer") -> None:
    """Let the agent's output folder hold a file."""
    folder, file = member("output", tarfile.DIRTYPE), member("output/a")
    agent(scripted).contents["/workspace/output"] = archive([(folder, b""), (file, content)])


KEPT = {"output": OutputPolicy()}


async def test_an_output_is_copied_from_the_stopped_container_before_it_is_removed(
    make: Make, scripted: ScriptedEngine, tmp_path: Path
) -> None:
    sandbox, _ = await running(make, **KEPT)
    with_output(scripted)
    assert await sandbox.kill() == "ok"
    assert not agent(scripted).running
    scripted.calls.clear()
    assert (await sandbox.keep(tmp_path)).files == 1
    assert (tmp_path / "workspace" / "a").read_text() == "answer"
    assert await sandbox.close() == BOTH_OK
    told = [call.partition("?")[0].split(" ")[0] + call.partition("?")[0][-8:] for call in scripted.calls]
    assert told[0] == "GET/archive"
    assert told[1].startswith("DELETE")
    assert not scripted.state.containers


async def test_nothing_is_copied_of_what_is_not_to_be_kept_or_never_ran(
    make: Make, scripted: ScriptedEngine, tmp_path: Path
) -> None:
    sandbox, _ = await running(make, output=OutputPolicy(unkept="it is a mount of your own"))
    with_output(scripted)
    await sandbox.kill()
    assert (await sandbox.keep(tmp_path)).why == "it is a mount of your own"
    never = make(**KEPT)
    await never.create()
    await never.kill()
    assert (await never.keep(tmp_path)).why == "the agent never ran"
    assert not (tmp_path / "workspace").exists()
    assert [await each.close() for each in (sandbox, never)] == [BOTH_OK, BOTH_OK]


@pytest.mark.parametrize("answer", [Fail(500, "no space left on device"), DROP])
async def test_an_output_that_cannot_be_copied_stays_in_its_stopped_container_without_a_gate(
    make: Make, scripted: ScriptedEngine, tmp_path: Path, answer: Answer
) -> None:
    sandbox, _ = await running(make, **KEPT)
    with_output(scripted)
    await sandbox.kill()
    scripted.script("* /containers/*/archive", answer)
    with pytest.raises(DockerError, match=f"stopped container {sandbox.container_name}.*agent-preflight sweep"):
        await sandbox.keep(tmp_path)
    assert await sandbox.close() == {"agent": "unverified", "gate": "ok"}
    assert not agent(scripted).running
    assert there(scripted, "gate") is None


async def test_an_agent_that_cannot_be_stopped_is_removed_although_its_output_is_lost(
    make: Make, scripted: ScriptedEngine, tmp_path: Path
) -> None:
    sandbox, _ = await running(make, **KEPT)
    with_output(scripted)
    scripted.script("POST /containers/*/kill", Fail(500, "no"))
    scripted.script("POST /containers/*/wait", Fail(500, "no"))
    assert await sandbox.kill() == "ok"
    assert there(scripted, "agent") is None
    assert (await sandbox.keep(tmp_path)).why == "its container was gone before it was copied"
    assert "is lost" in sandbox.warnings[-1]
    assert await sandbox.close() == BOTH_OK


async def test_the_error_of_a_full_disk_says_what_to_do(
    make: Make, scripted: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, _ = await running(make, **KEPT)
    with_output(scripted)
    await sandbox.kill()

    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("agent_preflight.sandboxes.output_folder.os.write", full)
    with pytest.raises(DockerError, match=r"No space left on device.*Make room, then `agent-preflight sweep`"):
        await sandbox.keep(tmp_path)
    assert (await sandbox.close())["agent"] == "unverified"


async def test_an_agent_whose_start_was_not_answered_may_have_written_and_is_copied(
    make: Make, scripted: ScriptedEngine, tmp_path: Path
) -> None:
    sandbox = make(**KEPT)
    await sandbox.create()
    with_output(scripted)
    scripted.script(START, LOST)
    with pytest.raises(DockerError):
        await sandbox.start()
    await sandbox.kill()
    assert (await sandbox.keep(tmp_path)).files == 1
    assert await sandbox.close() == BOTH_OK
