"""After a runner was killed, a sweep removes its leftovers, and touches no live run."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent_preflight.engine import address
from agent_preflight.engine.client import Engine
from agent_preflight.openrouter.subkeys import create_sub_key
from agent_preflight.operate.live_changes import find_planned_run, stop
from agent_preflight.runs.costs import cost_lines, sums_of
from agent_preflight.runs.folder import RunFolder, open_new, open_try, read_control, tries_dir
from agent_preflight.sweeping import Leftover, SweepReport, SweepScope, dead_runs, keys, sweep
from agent_preflight.sweeping.dead_runs import NO_KEY, check_gone, sweep_before_run
from agent_preflight.sweeping.keys import NOT_DELETED
from openrouter_sim import Simulator
from preflight_proxy.base.control_messages import AccountList, Balance, Health, StopAnswer, encode
from preflight_proxy.core.errors import ConfigError
from tests.agent_preflight.docker.conftest import base_image, containers_of, gate_image
from tests.support.crashed_run import BUSY, crash
from tests.support.docker_program import output
from tests.support.ledger_on_disk import open_account, open_store
from tests.support.live_field import WAITING, LiveField
from tests.support.scripted_engine import Fail, ScriptedEngine
from tests.support.trial_field import Field, agent

__all__ = ["base_image", "gate_image"]

pytestmark = pytest.mark.wire


def scope(trials: Field, **fields: Any) -> SweepScope:
    usual: dict[str, Any] = {"admin_key": trials.simulator.admin_key, "containers": False, "settle_s": 60.0}
    return SweepScope(trials.runs_dir, base_url=trials.simulator.base_url, **usual | fields)


def kinds(items: tuple[Leftover, ...]) -> list[str]:
    return [item.kind for item in items]


def keys_of(trials: Field) -> list[str]:
    return [key.name for key in trials.simulator.account.keys.values() if not key.deleted and ":" in key.name]


async def test_a_killed_runner_leaves_nothing_after_a_sweep(trials: Field) -> None:
    run_dir = crash(trials, {"a": BUSY, "b": BUSY})
    control = read_control(run_dir)
    assert control is not None
    assert len(keys_of(trials)) == 2
    swept = await sweep(scope(trials))
    assert swept.verified, swept
    assert kinds(swept.removed) == ["proxy", "sub-key", "sub-key", "sockets"]
    assert keys_of(trials) == []
    assert not control.directory.exists()
    assert read_control(run_dir) is None
    assert await sweep(scope(trials, admin_key=None)) == SweepReport()


async def test_every_trial_has_a_summary_and_ledger_and_bill_agree(trials: Field) -> None:
    run_dir = crash(trials, {"a": BUSY})
    await sweep(scope(trials))
    summary = json.loads((run_dir / "a" / "summary.json").read_text())
    extra = summary["preflight"]
    assert (extra["ended_by"], summary["error"]) == ("lost", "the runner was lost before the trial's end")
    assert extra["cleanup"] == {"freeze": "ok", "sandbox": "ok", "settle": "ok", "sub_key": "ok"}
    assert (
        Decimal(extra["posted_usd"]) == Decimal(extra["key_usage_usd"]) == sums_of(list(cost_lines(run_dir))).cost_usd
    )
    assert extra["calls"] == 1
    assert Decimal(extra["posted_usd"]) > 0


async def test_a_dry_run_lists_and_removes_nothing(trials: Field) -> None:
    run_dir = crash(trials, {"a": BUSY})
    dry = await sweep(scope(trials, dry_run=True))
    assert kinds(dry.removed) == ["proxy", "sub-key", "sockets"]
    assert len(keys_of(trials)) == 1
    assert not (run_dir / "a" / "summary.json").exists()
    assert kinds((await sweep(scope(trials))).removed) == ["proxy", "sub-key", "sockets"]


async def test_a_live_run_is_named_and_not_touched(trials: Field) -> None:
    with LiveField(trials, {"a": WAITING}) as live:
        swept = await sweep(scope(trials))
        assert [(item.kind, item.run_dir) for item in swept.live] == [("run", live.run_dir)]
        assert swept.removed == ()
        assert len(keys_of(trials)) == 1
        control = read_control(live.run_dir)
        assert control is not None
        assert control.directory.is_dir()
        await stop(find_planned_run("live", trials.runs_dir), None)


async def test_without_a_management_key_the_keys_are_reported_as_left(trials: Field) -> None:
    run_dir = crash(trials, {"a": BUSY})
    swept = await sweep(scope(trials, admin_key=None))
    assert kinds(swept.left) == ["sub-key"]
    assert swept.trouble == (NO_KEY,)
    assert not swept.verified
    assert json.loads((run_dir / "a" / "summary.json").read_text())["preflight"]["cleanup"]["sub_key"] == "unverified"
    assert kinds((await sweep(scope(trials))).removed) == ["sub-key"]


async def test_a_key_that_no_dead_run_planned_is_not_touched(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    theirs = trials.simulator.account.add_key(
        trials.simulator.account.new_secret(), "agent-preflight:crashed:a:0123456789ab"
    )
    await sweep(scope(trials))
    assert keys_of(trials) == [theirs.name]
    theirs.deleted = True


async def test_a_folder_without_a_lock_is_not_known_to_be_dead(trials: Field) -> None:
    run_dir = crash(trials, {"a": BUSY})
    (run_dir / "lock").rename(run_dir / "lock.away")
    swept = await sweep(scope(trials))
    assert [(item.kind, item.name) for item in swept.unreadable] == [("run", "crashed")]
    assert len(keys_of(trials)) == 1
    (run_dir / "lock.away").rename(run_dir / "lock")
    assert (await sweep(scope(trials))).verified


async def test_the_next_run_sweeps_before_it_begins_also_its_own_folder(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    (result,) = trials.run({"b": "call()"}, run_id="crashed")
    assert result.error is None
    assert sum("removed what a dead run left" in line for line in trials.said) == 3
    assert keys_of(trials) == []


async def test_an_engine_that_does_not_answer_is_reported_and_the_rest_is_swept(trials: Field, no_engine: str) -> None:
    crash(trials, {"a": BUSY})
    swept = await sweep(scope(trials, containers=True))
    assert not swept.verified
    (trouble,) = swept.trouble
    assert f"no Docker engine answers at {no_engine}" in trouble
    assert kinds(swept.removed) == ["proxy", "sub-key", "sockets"]


async def test_the_engine_that_is_given_is_swept_first_and_stays_open(
    trials: Field, docker_host: ScriptedEngine, no_engine: str
) -> None:
    run_dir = crash(trials, {"a": BUSY})
    labels = {"run": "crashed", "dir": str(run_dir), "trial": "a", "role": "agent"}
    named = {f"agent-preflight.{name}": value for name, value in labels.items()}
    docker_host.state.create("left", {"Image": "me/agent", "Labels": named})
    async with Engine.open(docker_host.url) as engine:
        swept = await sweep(scope(trials, containers=True), engine)
        assert swept.verified, swept
        assert kinds(swept.removed) == ["agent", "proxy", "sub-key", "sockets"]
        assert docker_host.state.containers == {}
        assert (await engine.info())["ID"] == "SCRIPTED"


async def test_a_dead_trial_run_of_a_check_is_swept_and_its_folder_is_removed_last(
    trials: Field, docker_host: ScriptedEngine
) -> None:
    dead = open_new(tries_dir(), "try")
    os.close(dead._lock)
    with open_try("try") as live:
        for folder in (dead, live):
            labels = {"run": "handshake", "dir": str(folder.path), "trial": "handshake", "role": "gate"}
            named = {f"agent-preflight.{name}": value for name, value in labels.items()}
            docker_host.state.create(folder.path.name, {"Image": "me/agent", "Labels": named})
        dry = await sweep(scope(trials, containers=True, dry_run=True))
        assert (kinds(dry.removed), dead.path.exists()) == (["gate", "sockets"], True)
        swept = await sweep(scope(trials, containers=True))
        assert swept.verified, swept
        assert kinds(swept.removed) == ["gate", "sockets"]
        assert [each.name for each in docker_host.state.containers.values()] == [live.path.name]
        assert (dead.path.exists(), dead.short_dir.exists(), live.path.exists()) == (False, False, True)


async def test_the_folder_of_a_trial_run_stays_while_it_is_new_live_or_has_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    without = SweepScope(tmp_path, None, containers=False)
    made, unlocked = tries_dir() / "made", tries_dir() / "unlocked"
    for folder in (made, unlocked):
        folder.mkdir(parents=True)
    (made / "lock").touch()
    owing = open_new(tries_dir(), "owing")
    owing.write_plan({"trials": [{"alias": "a", "key_name": "agent-preflight:owing:a:1"}]})
    owing.release()
    with open_try("live") as live:
        (live.path / "control.json").unlink()
        await sweep(without)
        assert made.exists()
        monkeypatch.setattr(dead_runs, "MAKING_S_MAX", 0.0)
        await sweep(replace(without, dry_run=True))
        assert made.exists()
        await sweep(without)
        assert sorted(tries_dir().iterdir()) == [live.path, owing.path, unlocked]


async def test_the_folder_of_a_trial_run_stays_while_something_of_it_is_left(
    trials: Field, docker_host: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = open_new(tries_dir(), "t")
    os.close(dead._lock)
    labels = {"run": "handshake", "dir": str(dead.path), "trial": "handshake", "role": "volume"}
    named = {f"agent-preflight.{name}": value for name, value in labels.items()}
    docker_host.state.create_volume({"Name": "v", "Labels": named})
    docker_host.script("DELETE /volumes/*", Fail(500, "in use"))
    assert not (await sweep(scope(trials, containers=True))).verified
    assert dead.path.exists()
    docker_host.unscript("DELETE /volumes/*")
    monkeypatch.setattr(dead_runs, "MAKING_S_MAX", 0.0)
    assert (await sweep(scope(trials, containers=True))).verified
    assert not dead.path.exists()


@pytest.mark.docker
async def test_containers_go_first(trials: Field) -> None:
    run_dir = crash(trials, {"a": BUSY})
    labels = {"run": "crashed", "dir": str(run_dir), "trial": "a", "role": "agent"}
    arguments = [part for name, value in labels.items() for part in ("--label", f"agent-preflight.{name}={value}")]
    output("create", "--pull", "never", *arguments, "local/python:base", "true")
    swept = await sweep(scope(trials, containers=True))
    assert swept.verified, swept
    assert kinds(swept.removed) == ["agent", "proxy", "sub-key", "sockets"]


@pytest.mark.docker
@pytest.mark.parametrize("network", ["sealed", "bridge"])
async def test_nothing_is_left_of_a_killed_run_in_containers(
    trials: Field, base_image: str, gate_image: str, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)
    commands = {alias: ["python3", *agent(BUSY)[1:]] for alias in "ab"}
    run_dir = crash(
        trials,
        dict.fromkeys(commands, ""),
        sandbox="docker",
        image_name=base_image,
        network=network,
        command=None,
        container_args=commands,
    )
    assert len(containers_of(run_dir)) == 4
    swept = await sweep(scope(trials, containers=True))
    assert swept.verified, swept
    assert sorted(kinds(swept.removed)) == ["agent", "agent", "gate", "gate", "proxy", "sockets", "sub-key", "sub-key"]
    assert containers_of(run_dir) == []
    for alias in commands:
        extra = json.loads((run_dir / alias / "summary.json").read_text())["preflight"]
        assert (extra["ended_by"], set(extra["cleanup"].values())) == ("lost", {"ok"})


async def printed(scope: SweepScope) -> list[str]:
    lines: list[str] = []
    await sweep_before_run(scope, lines.append)
    return lines


async def test_a_sweep_that_finds_nothing_prints_nothing(tmp_path: Path) -> None:
    assert await printed(SweepScope(tmp_path / "none", None, containers=False)) == []


async def test_a_sweep_before_a_run_prints_what_was_removed_and_what_is_left(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    scope = SweepScope(trials.runs_dir, "sk-or-wrong", trials.simulator.base_url, containers=False, settle_s=30)
    lines = await printed(scope)
    assert [line.partition(":")[0] for line in lines[:3]] == [
        "removed what a dead run left",
        "removed what a dead run left",
        "a dead run left, and it is still there",
    ]
    assert any("list of keys" in line for line in lines)
    assert any("summary of" in line for line in lines)
    trials.may_differ = True


async def test_an_error_of_a_sweep_before_a_run_is_one_line(tmp_path: Path) -> None:
    (line,) = await printed(SweepScope(tmp_path / "nul\0", None, containers=False))
    assert line.startswith("could not look for what dead runs left: ValueError")


ITEM = Leftover("sub-key", "agent-preflight:r:a:1", Path("/runs/r"))


def test_a_leftover_is_one_line() -> None:
    assert ITEM.line() == "sub-key agent-preflight:r:a:1 of /runs/r"
    assert Leftover("proxy", "7", Path("/runs/r"), "busy").line() == "proxy 7 of /runs/r: busy"
    assert Leftover("gate", "c0a122", Path("/runs/r"), trial="a").line() == "gate c0a122 of trial a in /runs/r"


def test_a_report_is_verified_unless_something_is_left_or_was_not_searched() -> None:
    assert SweepReport(removed=(ITEM,), live=(ITEM,), unreadable=(ITEM,), notes=("x",)).verified
    assert not SweepReport(left=(ITEM,)).verified
    assert not SweepReport(trouble=("the engine does not answer",)).verified


@pytest.mark.parametrize(("kind", "blocks"), [("agent", True), ("gate", True), ("proxy", True), ("sub-key", False)])
def test_a_leftover_that_still_acts_blocks_a_resume(tmp_path: Path, kind: str, blocks: bool) -> None:
    mine, other = (SweepReport(left=(Leftover(kind, "x", tmp_path / name),)) for name in ("r", "other"))
    check_gone(tmp_path / "r", other)
    if not blocks:
        check_gone(tmp_path / "r", mine)
        return
    with pytest.raises(ConfigError, match=f"{kind} x"):
        check_gone(tmp_path / "r", mine)


# Runs that are dead from the start


def dead_run(runs_dir: Path, name: str = "r", *, key_name: str = "") -> RunFolder:
    """The folder of a run with one trial, whose process is dead and has left its directory of sockets."""
    folder = open_new(runs_dir, name)
    trial = {"alias": "a", "model_id": "m/x", "budget_usd": "1", "key_name": key_name}
    folder.write_plan({"network": "sealed", "trials": [trial]})
    (folder.path / "a").mkdir()
    os.close(folder._lock)
    return folder


def labels_of(folder: RunFolder, role: str) -> dict[str, str]:
    labels = {"run": folder.path.name, "dir": str(folder.path), "trial": "a", "role": role}
    return {f"agent-preflight.{name}": value for name, value in labels.items()}


def add_key(simulator: Simulator, name: str) -> None:
    create_sub_key(simulator.admin_key, name, Decimal(1), "2999-01-31T23:59:59Z", simulator.base_url)


def key_names(simulator: Simulator) -> list[str]:
    return [key.name for key in simulator.account.keys.values() if not key.deleted and ":" in key.name]


@asynccontextmanager
async def orphan_proxy(socket: Path, pid: int, pending_pusd: int = 0) -> AsyncIterator[list[str]]:
    """A proxy that says it is this process, with so much pending; yields its requests."""
    answers = {
        "GET /health": Health(pid, "1", None, "", 1.0),
        "GET /accounts": AccountList((Balance(id="a", pending_pusd=pending_pusd),)),
        "POST /stop": StopAnswer(()),
    }
    requests: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        requests.append(head.partition(" HTTP")[0])
        document = encode(answers[requests[-1]])
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(document), document)
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, socket):
        yield requests


NO_PROCESS = 2**22
"""Above every process id."""


async def test_no_key_is_deleted_and_no_socket_removed_while_the_proxy_settles(
    tmp_path: Path, simulator: Simulator
) -> None:
    folder = dead_run(tmp_path, key_name="agent-preflight:r:a:1")
    add_key(simulator, "agent-preflight:r:a:1")
    control = read_control(folder.path)
    assert control is not None
    async with orphan_proxy(control.socket, NO_PROCESS, pending_pusd=10**9) as requests:
        swept = await sweep(SweepScope(tmp_path, simulator.admin_key, simulator.base_url, containers=False))
    assert requests == ["GET /health", "POST /stop", "GET /accounts"]
    assert [(item.kind, "still finding out" in item.note) for item in swept.left] == [("proxy", True)]
    assert (swept.removed, key_names(simulator)) == ((), ["agent-preflight:r:a:1"])
    assert folder.short_dir.is_dir()
    assert not (folder.path / "a" / "summary.json").exists()


async def test_a_proxy_that_holds_the_ledger_but_did_not_answer_is_ended_and_the_key_deleted(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was starting when its runner died. Here it listens only once the sweep has tried to open the ledger."""
    monkeypatch.setattr(keys, "CLOSE_S_MAX", 0.5)
    folder = dead_run(tmp_path, key_name="agent-preflight:r:a:1")
    add_key(simulator, "agent-preflight:r:a:1")
    store = open_store(folder.path)
    control = read_control(folder.path)
    assert control is not None
    process = await asyncio.create_subprocess_exec("sleep", "60")
    scope = SweepScope(tmp_path, simulator.admin_key, simulator.base_url, containers=False)
    sweeping = asyncio.ensure_future(sweep(scope))
    try:
        await asyncio.sleep(0.2)
        async with asyncio.timeout(30), orphan_proxy(control.socket, process.pid):
            await process.wait()
            store.close()
        swept = await sweeping
    finally:
        if process.returncode is None:
            process.kill()
    assert swept.verified, swept
    assert kinds(swept.removed) == ["proxy", "sub-key", "sockets"]
    assert key_names(simulator) == []


async def test_a_key_stays_if_the_ledger_cannot_be_read(tmp_path: Path, simulator: Simulator) -> None:
    folder = dead_run(tmp_path, key_name="agent-preflight:r:a:1")
    add_key(simulator, "agent-preflight:r:a:1")
    (folder.path / "ledger.sqlite3").write_bytes(b"no database" * 1000)
    swept = await sweep(SweepScope(tmp_path, simulator.admin_key, simulator.base_url, containers=False))
    assert [(item.kind, item.note) for item in swept.left] == [("sub-key", NOT_DELETED)]
    assert len(swept.trouble) == 1
    assert key_names(simulator) == ["agent-preflight:r:a:1"]
    assert not (folder.path / "swept.json").exists()


async def test_a_dry_run_deletes_no_key_and_records_nothing(tmp_path: Path, simulator: Simulator) -> None:
    folder = dead_run(tmp_path, key_name="agent-preflight:r:a:1")
    add_key(simulator, "agent-preflight:r:a:1")
    store = open_store(folder.path)
    open_account(store, "a", 10**12)
    store.close()
    before = sorted(path.name for path in folder.path.iterdir())
    scope = SweepScope(tmp_path, simulator.admin_key, simulator.base_url, containers=False, dry_run=True)
    assert kinds((await sweep(scope)).removed) == ["sub-key", "sockets"]
    assert sorted(path.name for path in folder.path.iterdir()) == before
    assert (key_names(simulator), folder.short_dir.is_dir()) == (["agent-preflight:r:a:1"], True)


async def test_containers_of_runs_in_other_directories_are_removed_only_on_request(
    tmp_path: Path, docker_host: ScriptedEngine
) -> None:
    folders = [dead_run(tmp_path / name) for name in ("here", "elsewhere")]
    for folder in folders:
        docker_host.state.create(folder.path.parent.name, {"Image": "me/agent", "Labels": labels_of(folder, "gate")})
    here = SweepScope(tmp_path / "here", None)
    assert kinds((await sweep(here)).removed) == ["gate", "sockets"]
    assert [container.name for container in docker_host.state.containers.values()] == ["elsewhere"]
    assert folders[1].short_dir.is_dir()
    assert kinds((await sweep(replace(here, everywhere=True))).removed) == ["gate", "sockets"]
    assert docker_host.state.containers == {}
    assert not folders[1].short_dir.exists()


async def test_a_lost_summary_calls_the_sandbox_removed_only_if_the_engine_has_nothing_of_the_run(
    tmp_path: Path, docker_host: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_runs, "QUIET_S", 0.01)
    folders = {name: dead_run(tmp_path, name, key_name=f"agent-preflight:{name}:a:1") for name in ("stuck", "clean")}
    docker_host.state.create_volume({"Name": "v", "Labels": labels_of(folders["stuck"], "volume")})
    docker_host.script("DELETE /volumes/*", Fail(500, "in use"))
    swept = await sweep(SweepScope(tmp_path, None))
    assert sorted(kinds(swept.left)) == ["sub-key", "sub-key", "volume"]
    cleanups = {
        name: json.loads((folder.path / "a" / "summary.json").read_text())["preflight"]["cleanup"]
        for name, folder in folders.items()
    }
    assert {name: cleanup["sandbox"] for name, cleanup in cleanups.items()} == {"stuck": "unverified", "clean": "ok"}
    assert {cleanup["sub_key"] for cleanup in cleanups.values()} == {"unverified"}


async def test_what_the_engine_makes_or_frees_during_the_sweep_is_removed_too(
    tmp_path: Path, docker_host: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner that was killed may have asked for a container just before. The volume is in use until later."""
    monkeypatch.setattr(dead_runs, "QUIET_S", 0.5)
    folder = dead_run(tmp_path)
    docker_host.state.create_volume({"Name": "v", "Labels": labels_of(folder, "volume")})
    docker_host.script("DELETE /volumes/*", Fail(500, "in use"))
    sweeping = asyncio.ensure_future(sweep(SweepScope(tmp_path, None)))
    while folder.short_dir.exists():
        await asyncio.sleep(0.01)
    docker_host.unscript("DELETE /volumes/*")
    docker_host.state.create("late", {"Image": "me/agent", "Labels": labels_of(folder, "agent")})
    swept = await sweeping
    assert swept.verified, swept
    assert sorted(kinds(swept.removed)) == ["agent", "sockets", "volume"]
    assert (docker_host.state.containers, docker_host.state.volumes) == ({}, {})


async def test_a_machine_without_docker_has_nothing_to_sweep_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(address, "SYSTEM_SOCKET", tmp_path / "none.sock")
    assert await sweep(SweepScope(tmp_path / "runs", None)) == SweepReport()


async def test_the_folder_of_a_trial_run_that_dies_during_the_sweep_stays_while_it_has_a_key(
    tmp_path: Path, docker_host: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is live when its turn comes, and dead when the folders of dead trial runs are removed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(dead_runs, "MAKING_S_MAX", 0.0)
    monkeypatch.setattr(dead_runs, "QUIET_S", 0.5)
    dead = dead_run(tmp_path / "runs")
    trial = open_new(tries_dir(), "try")
    trial.write_plan({"trials": [{"alias": "a", "key_name": "agent-preflight:try:a:1"}]})
    sweeping = asyncio.ensure_future(sweep(SweepScope(tmp_path / "runs", None)))
    while dead.short_dir.exists():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.25)
    trial.release()
    swept = await sweeping
    assert [(item.kind, item.name) for item in swept.live] == [("run", "try")]
    assert (trial.path / "plan.json").exists()
