"""What dead runs left is removed, and nothing else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from agent_preflight.docker.labels import LABEL
from agent_preflight.docker.sweep import EngineLeftover, EngineSweep, find, sweep
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.runs.folder import RunState, lock_if_dead
from tests.agent_preflight.docker.conftest import MakeSandbox, containers_of
from tests.support.engine_container import Container
from tests.support.scripted_engine import DROP, Answer, Fail, ScriptedEngine, Text
from tests.support.short_engine_limits import no_pauses


def lock(run_dir: Path) -> int:
    fd = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def labels(run_dir: Path | str, role: str) -> dict[str, str]:
    values = {"dir": str(run_dir), "run": "run-1", "trial": "alias", "role": role}
    return {f"{LABEL}.{key}": value for key, value in values.items()}


def made(scripted: ScriptedEngine, name: str, run_dir: Path | str, role: str = "agent") -> Container:
    """A container that runs."""
    container = scripted.state.create(name, {"Image": "me/agent", "Labels": labels(run_dir, role)})
    scripted.state.launch(name)
    return container


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a pause."""
    no_pauses(monkeypatch)


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """The directory of a run that is dead."""
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "lock").touch()
    return tmp_path / "dead"


def changes(scripted: ScriptedEngine) -> list[str]:
    return [call for call in scripted.calls if not call.startswith("GET")]


@pytest.mark.wire
async def test_agents_go_before_gates_gates_before_forwarders_and_volumes(
    client: Engine, scripted: ScriptedEngine, dead: Path
) -> None:
    scripted.state.create_volume({"Name": "v", "Labels": labels(dead, "volume")})
    ids = {made(scripted, f"{role}-1", dead, role).id: role for role in ("forwarder", "gate", "agent")}
    done = await sweep(client)
    assert [thing.role for thing in done.removed] == ["agent", "gate", "forwarder", "volume"]
    assert done.removed[0] == EngineLeftover(
        dead, "run-1", "alias", "agent", next(key for key in ids if ids[key] == "agent")
    )
    assert done.removed[3].id == "v"
    removed = [call.split(" ")[1].partition("?")[0] for call in scripted.calls if call.startswith("DELETE")]
    order = [ids.get(path.removeprefix("/containers/"), path) for path in removed]
    assert order == ["agent", "gate", "forwarder", "/volumes/v"]
    assert not scripted.state.containers
    assert not scripted.state.volumes


@pytest.mark.wire
async def test_live_and_unreadable_runs_are_reported_and_not_touched(
    client: Engine, scripted: ScriptedEngine, tmp_path: Path
) -> None:
    (tmp_path / "live").mkdir()
    fd = lock(tmp_path / "live")
    live, unreadable = (made(scripted, f"{name}-1", tmp_path / name) for name in ("live", "deleted"))
    done = await sweep(client)
    os.close(fd)
    assert [thing.id for thing in done.live] == [live.id]
    assert [thing.id for thing in done.unreadable] == [unreadable.id]
    assert (done.removed, done.left) == ((), ())
    assert changes(scripted) == []


@pytest.mark.wire
async def test_a_rehearsal_removes_nothing(client: Engine, scripted: ScriptedEngine, dead: Path) -> None:
    there = made(scripted, "a-1", dead)
    assert [thing.id for thing in (await sweep(client, dry_run=True)).removed] == [there.id]
    assert changes(scripted) == []


@pytest.mark.wire
async def test_a_sweep_may_be_kept_to_one_directory(client: Engine, scripted: ScriptedEngine, dead: Path) -> None:
    made(scripted, "a-1", dead)
    assert await sweep(client, below=[dead.parent / "runs", dead.parent / "tries"]) == EngineSweep()
    assert len((await sweep(client, below=[dead.parent / "none", dead.parent])).removed) == 1


@pytest.mark.wire
async def test_labels_that_are_not_ours_are_left_alone(client: Engine, scripted: ScriptedEngine, dead: Path) -> None:
    made(scripted, "x-1", dead, "database")
    made(scripted, "y-1", "relative")
    scripted.state.create("z-1", {"Image": "me/agent", "Labels": {f"{LABEL}.run": "r"}})
    scripted.state.create("w-1", {"Image": "me/agent", "Labels": {"theirs": "1"}})
    scripted.state.create("no-labels", {"Image": "me/agent", "Labels": None})
    assert await sweep(client) == EngineSweep()
    assert len(scripted.state.containers) == 5


@pytest.mark.wire
async def test_a_run_is_held_while_it_is_swept_and_free_afterwards(
    client: Engine, scripted: ScriptedEngine, dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(scripted, "a-1", dead)
    seen: list[RunState] = []
    remove = Engine.remove

    async def look_and_remove(engine: Engine, container: str) -> None:
        with lock_if_dead(dead) as state:
            seen.append(state)
        await remove(engine, container)

    monkeypatch.setattr(Engine, "remove", look_and_remove)
    await sweep(client)
    assert seen == [RunState.LIVE]
    with lock_if_dead(dead) as state:
        assert state is RunState.DEAD


@pytest.mark.wire
@pytest.mark.parametrize(
    ("pattern", "answer", "left"),
    [
        ("DELETE /containers/*", Text(204, ""), {"agent"}),
        ("GET /containers/*-*/json", Fail(500, "No such container"), set()),
        ("GET /containers/*/json", Fail(500, "No such container"), {"agent"}),
        ("DELETE /volumes/*", Fail(409, "volume is in use"), {"volume"}),
        ("DELETE /volumes/*", DROP, {"volume"}),
        ("DELETE /volumes/*", Fail(404, "no such volume"), set()),
    ],
)
async def test_what_is_not_seen_to_be_gone_is_left_and_the_rest_is_removed(
    client: Engine, scripted: ScriptedEngine, dead: Path, pattern: str, answer: Answer, left: set[str]
) -> None:
    scripted.state.create_volume({"Name": "v", "Labels": labels(dead, "volume")})
    made(scripted, "a-1", dead)
    scripted.script(pattern, answer)
    done = await sweep(client)
    assert {thing.role for thing in done.left} == left
    assert {thing.role for thing in done.removed} == {"agent", "volume"} - left


@pytest.mark.wire
@pytest.mark.parametrize("path", ["/containers/json", "/volumes"])
async def test_an_engine_that_does_not_tell_what_there_is_is_an_error(
    client: Engine, scripted: ScriptedEngine, dead: Path, path: str
) -> None:
    made(scripted, "a-1", dead)
    scripted.script(f"GET {path}", Fail(500, "busy"))
    with pytest.raises(DockerError, match=r"^listing (containers|volumes): busy$"):
        await sweep(client)
    assert changes(scripted) == []


@pytest.mark.wire
async def test_ended_containers_are_found_and_an_empty_engine_has_nothing(
    client: Engine, scripted: ScriptedEngine, dead: Path
) -> None:
    scripted.script("GET /volumes", Text(200, '{"Volumes":null,"Warnings":null}'))
    assert await find(client) == []
    ended = made(scripted, "a-1", dead)
    scripted.exit("a-1", 0)
    never = scripted.state.create("b-1", {"Image": "me/agent", "Labels": labels(dead, "gate")})
    assert [thing.id for thing in await find(client)] == [ended.id, never.id]


@pytest.mark.docker
async def test_what_a_killed_runner_left_is_gone_and_a_live_runs_trial_goes_on(
    make_sandbox: MakeSandbox, engine: Engine, tmp_path: Path
) -> None:
    for name in ("dead", "live"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    fd = lock(tmp_path / "live")
    sandboxes = [make_sandbox("sleep", "60", alias=name, run_dir=tmp_path / name) for name in ("dead", "live")]
    for sandbox in sandboxes:
        await sandbox.create()
        await sandbox.start()
    await engine.make_volume(f"ap-{tmp_path.name}", labels(tmp_path / "dead", "volume"))
    done = await sweep(engine, below=[tmp_path])
    assert [thing.role for thing in done.removed] == ["agent", "gate", "volume"]
    assert containers_of(tmp_path / "dead") == []
    assert len(containers_of(tmp_path / "live")) == 2
    os.close(fd)


class Noted:
    """A keeper that takes notes, and says what it is told to."""

    def __init__(self, *, copied: bool = True) -> None:
        self.copied = copied
        self.seen: list[tuple[str, str]] = []

    async def keep(self, engine: Engine, agent: EngineLeftover) -> bool:
        state = await engine.look(agent.id)
        assert state is not None
        self.seen.append(("keep", state.status))
        return self.copied

    def gone(self, agent: EngineLeftover) -> None:
        self.seen.append(("gone", agent.output))


@pytest.mark.wire
async def test_a_dead_runs_agent_is_stopped_then_copied_then_removed(
    client: Engine, scripted: ScriptedEngine, dead: Path
) -> None:
    there = made(scripted, "a-1", dead)
    there.config["Labels"]["agent-preflight.output"] = "{}"
    made(scripted, "g-1", dead, "gate")
    keeper = Noted()
    assert len((await sweep(client, keeper=keeper)).removed) == 2
    assert keeper.seen == [("keep", "exited"), ("gone", "{}")]
    assert not scripted.state.containers


@pytest.mark.wire
async def test_an_agent_that_was_not_copied_is_left_stopped(
    client: Engine, scripted: ScriptedEngine, dead: Path
) -> None:
    there, keeper = made(scripted, "a-1", dead), Noted(copied=False)
    assert [thing.id for thing in (await sweep(client, keeper=keeper)).left] == [there.id]
    assert (there.status, keeper.seen) == ("exited", [("keep", "exited")])


@pytest.mark.wire
async def test_an_agent_that_never_ran_has_nothing_to_copy(
    client: Engine, scripted: ScriptedEngine, dead: Path
) -> None:
    scripted.state.create("a-1", {"Image": "me/agent", "Labels": labels(dead, "agent")})
    keeper = Noted()
    assert len((await sweep(client, keeper=keeper)).removed) == 1
    assert keeper.seen == [("gone", "")]


@pytest.mark.wire
async def test_a_rehearsal_copies_nothing(client: Engine, scripted: ScriptedEngine, dead: Path) -> None:
    made(scripted, "a-1", dead)
    keeper = Noted()
    await sweep(client, dry_run=True, keeper=keeper)
    assert (keeper.seen, changes(scripted)) == ([], [])
