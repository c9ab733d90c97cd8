"""What is checked before a run has a folder, which folder it gets, and what its trials run in."""

import asyncio
import json
import os
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.docker.images import ensure_image, image_exists
from agent_preflight.docker.sandbox import OUTPUT_LOST, DockerSandbox
from agent_preflight.engine.client import Engine, on_engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.estimates.price_list import widest_prompt_pusd
from agent_preflight.options.settings import RunSettings, read_settings
from agent_preflight.runner import field
from agent_preflight.runner.api import request_of, run_multi
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking
from agent_preflight.runner.machine_check import MachineReport
from agent_preflight.runner.preparation import (
    SandboxSetup,
    check_all,
    open_folder,
    prepare_sandboxes,
    run_id_of,
    trials_of,
    with_key_rooms,
)
from agent_preflight.runs.folder import RunFolder
from agent_preflight.runs.plan import TrialPlan
from agent_preflight.runs.request import Origin, RunRequest
from agent_preflight.sandboxes.interface import AgentSpec, ForwarderTarget
from agent_preflight.sandboxes.process import ProcessSandbox
from agent_preflight.sidecar.keeper import Sidecar
from openrouter_sim import Simulator
from preflight_proxy.base.control_messages import AccountSpec, Balance
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret
from tests.support.docker_program import ENGINE
from tests.support.engine_relay import EngineRelay
from tests.support.scripted_engine import Fail, ScriptedEngine
from tests.support.trial_field import DEAR_MODEL, MODEL, Field

CENT = 10**10
TRIAL = TrialPlan("a", "m/m", CENT, "k", ())


def request(tmp_path: Path, **changes: Any) -> RunRequest:
    own = {name: changes.pop(name) for name in ("single", "origin", "suggested_id") if name in changes}
    settings = {"models": [("m/m", "a")], "admin_key": "x", "budget_usd": 1, "sandbox": "process", **changes}
    return RunRequest(settings=read_settings({"runs_dir": tmp_path / "runs", **settings}), **own)


@pytest.mark.wire
def test_the_key_of_a_run_that_reserves_at_the_read_price_has_room_for_its_longest_prompt(simulator: Simulator) -> None:
    """claude-sonnet-4.5 takes a million tokens of prompt, at $6 a million above 200,000."""

    async def rooms(**changes: Any) -> list[int]:
        models = [(DEAR_MODEL, "a"), (MODEL, "b")]
        settings = {"models": models, "admin_key": "x", "budget_usd": 1, **changes}
        run_request = RunRequest(settings=read_settings(settings))
        return [trial.key_room_pusd for trial in await with_key_rooms(run_request, trials_of(run_request, "r"))]

    of_models = [widest_prompt_pusd(model, None) for model in (DEAR_MODEL, MODEL)]
    assert of_models[0] > 100 * CENT > of_models[1] > 0
    assert asyncio.run(rooms(cache_bound="billed")) == [CENT + each for each in of_models]
    assert asyncio.run(rooms()) == [CENT, CENT]
    assert asyncio.run(rooms(bound="proven")) == [CENT, CENT]


def opened(run_request: RunRequest) -> RunFolder:
    return open_folder(run_request, run_id_of(run_request), [alias for _, alias in run_request.settings.pairs])


@pytest.mark.parametrize(
    "changes",
    [{"models": []}, {"budget_usd": 0}, {"run_id": "../x"}, {"eject_policy": 3}, {"models": [("m/m", "a/b")]}],
)
def test_a_wrong_request_makes_no_folder(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        asyncio.run(run_field(request(tmp_path, **changes), StopSignal()))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_problem_of_this_machine_leaves_the_folder_of_the_runs_as_it_was(
    tmp_path: Path, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been swept either: a sweep that the error ends would not have recorded what it deleted."""
    swept: list[object] = []

    async def sweep(*args: object) -> None:
        swept.append(args)

    monkeypatch.setattr(field, "sweep_for", sweep)
    if is_there:
        (tmp_path / "runs").mkdir()
    run_request = request(tmp_path, command=["no-such-program"])
    with pytest.raises(ConfigError, match="There is no program 'no-such-program'"):
        asyncio.run(run_field(run_request, StopSignal()))
    assert ((tmp_path / "runs").exists(), swept) == (is_there, [])


def test_each_kind_of_run_gets_its_folder(tmp_path: Path) -> None:
    with ExitStack() as folders:
        suggested = request(tmp_path, suggested_id="s")
        paths = [
            folders.enter_context(opened(each)).path.relative_to(tmp_path)
            for each in (suggested, suggested, request(tmp_path, run_id="n"), request(tmp_path, single=True))
        ]
    assert [str(path) for path in paths] == ["runs/s", "runs/s-2", "runs/n", "runs/a"]
    with opened(request(tmp_path, run_id="n", resume=True)) as folder:
        assert folder.path.name == "n"
    with pytest.raises(ConfigError, match=r'no run "other" in .*runs/. Latest: '):
        opened(request(tmp_path, run_id="other", resume=True))


def test_the_error_for_a_used_run_id_says_how_to_resume(tmp_path: Path) -> None:
    run_request = request(tmp_path, run_id="n")
    (tmp_path / "runs" / "n" / "a").mkdir(parents=True)
    for own_request, option in ((run_request, "resume=True"), (replace(run_request, origin=Origin()), "--resume n")):
        with pytest.raises(ConfigError, match=rf"go on with it \({option}\), or choose another"):
            opened(own_request)


def test_every_plan_has_its_own_key_name(tmp_path: Path) -> None:
    first, second = (trials_of(request(tmp_path), "r")[0].key_name for _ in range(2))
    assert first != second


async def test_an_exception_of_a_check_ends_the_run() -> None:
    def fail(found: object) -> None:
        raise ValueError("no money")

    with pytest.raises(ValueError, match="no money"):
        await check_all(RunRequest(settings=SETTINGS, preflight=fail), StopSignal(), MachineReport())


async def test_warnings_are_printed_if_the_checks_are_left_out() -> None:
    lines: list[str] = []
    report = MachineReport()
    report.warn("Mounts", "data is new")
    await check_all(RunRequest(settings=replace(SETTINGS, log_fn=lines.append)), StopSignal(), report)
    assert lines == ["warning: Mounts: data is new"]


async def test_a_problem_of_this_machine_is_an_error_if_the_checks_are_left_out() -> None:
    report = MachineReport()
    report.fail("Mounts", "no such folder", "two mounts")
    with pytest.raises(ConfigError, match="no such folder\ntwo mounts"):
        await check_all(RunRequest(settings=SETTINGS), StopSignal(), report)


async def test_a_person_in_a_hurry_does_not_wait_for_checks() -> None:
    stop, release, begun = StopSignal(), threading.Event(), threading.Event()

    def slow(found: object) -> None:
        begun.set()
        release.wait(60)

    run_request = RunRequest(settings=SETTINGS, preflight=slow)
    checking = asyncio.ensure_future(check_all(run_request, stop, MachineReport()))
    await asyncio.to_thread(begun.wait, 60)
    stop.hurry.set()
    await checking
    release.set()


BASE = "local/python:base"
SETTINGS = RunSettings(image_name="me/agent", network="sealed", gate="shared")


async def test_processes_need_no_preparation(tmp_path: Path) -> None:
    run_request = RunRequest(settings=RunSettings(sandbox="process"))
    assert await prepare_sandboxes(None, run_request, tmp_path, tmp_path) == SandboxSetup(ProcessSandbox)


@pytest.fixture
def docker(docker_host: ScriptedEngine) -> ScriptedEngine:
    """An engine that has the agents' image and one to build gates on."""
    docker_host.state.images["me/base"] = docker_host.state.images["me/agent"] | {"Id": "sha256:base"}
    return docker_host


async def prepared(docker: ScriptedEngine, settings: RunSettings, run_dir: Path) -> SandboxSetup:
    async with Engine.open(docker.url) as engine:
        run_request = RunRequest(settings=settings, gate_base="me/base")
        return await prepare_sandboxes(engine, run_request, run_dir, run_dir)


def built(docker: ScriptedEngine) -> int:
    return sum(call.startswith("POST /build") for call in docker.calls)


@pytest.mark.wire
async def test_the_gates_image_is_built_once_on_the_base_that_is_named(docker: ScriptedEngine, tmp_path: Path) -> None:
    first = await prepared(docker, SETTINGS, tmp_path)
    assert (first.sentences, first.gate.host, built(docker)) == ((), None, 1)
    assert any('"BASE": "me/base"' in call for call in docker.calls)
    await prepared(docker, SETTINGS, tmp_path)
    assert built(docker) == 1
    assert docker.state.containers == {}


@pytest.mark.wire
async def test_each_trial_gets_a_container_with_a_gate(docker: ScriptedEngine, tmp_path: Path) -> None:
    async with Engine.open(docker.url) as engine:
        run_request = RunRequest(settings=SETTINGS, gate_base="me/base")
        setup = await prepare_sandboxes(engine, run_request, tmp_path, tmp_path)
        (tmp_path / "budget").mkdir()
        spec = AgentSpec(
            run_id="r",
            alias="one",
            run_dir=tmp_path,
            image="me/agent",
            command=(),
            env={},
            network="sealed",
            workspace_path="/workspace",
            budget_dir=tmp_path / "budget",
            gate_socket=None,
            portal=ForwarderTarget("192.0.2.1", 9, Secret("p" * 43)),
        )
        sandbox = setup.make_sandbox(spec)
        assert isinstance(sandbox, DockerSandbox)
        await sandbox.create()
        names = {container.name.rpartition("-")[0]: container for container in docker.state.containers.values()}
        assert list(names) == ["ap-one-r-forwarder", "ap-one-r-gate", "ap-one-r"]
        (gate_id,) = {image["Id"] for name, image in docker.state.images.items() if "preflight-gate" in name}
        assert names["ap-one-r-gate"].image_id == gate_id
        assert set((await sandbox.close()).values()) == {"ok"}


@pytest.mark.wire
async def test_a_missing_image_is_not_pulled_and_the_error_says_what_to_do(
    docker: ScriptedEngine, tmp_path: Path
) -> None:
    del docker.state.images["me/agent"]
    with pytest.raises(DockerError, match="docker pull me/agent"):
        await prepared(docker, SETTINGS, tmp_path)
    assert not any("/images/create" in call for call in docker.calls)


@pytest.mark.wire
async def test_an_image_for_another_platform_is_reported_unless_the_user_named_one(
    docker: ScriptedEngine, tmp_path: Path
) -> None:
    docker.state.images["me/agent"]["Architecture"] = "arm64"
    (sentence,) = (await prepared(docker, SETTINGS, tmp_path)).sentences
    assert "the image me/agent is for linux/arm64, and this engine is linux/amd64: agents may end" in sentence
    docker.state.images["me/agent"]["Architecture"] = "386"
    (sentence,) = (await prepared(docker, SETTINGS, tmp_path)).sentences
    assert sentence.endswith("this engine is linux/amd64: 32-bit programs do not run in a trial")
    named = RunSettings(
        image_name="me/agent", network="sealed", gate="shared", docker_args=("--platform", "linux/arm64")
    )
    assert (await prepared(docker, named, tmp_path)).sentences == ()


@pytest.mark.wire
async def test_the_setup_has_the_variables_of_the_agents_image(docker: ScriptedEngine, tmp_path: Path) -> None:
    docker.state.images["me/agent"]["Config"] = {"Env": ["no_proxy=image.example"]}
    assert (await prepared(docker, SETTINGS, tmp_path)).image_env == {"no_proxy": "image.example"}


@pytest.mark.wire
async def test_if_no_gate_can_be_made_the_error_has_the_reason_and_nothing_is_left(
    docker: ScriptedEngine, tmp_path: Path
) -> None:
    docker.script("POST /containers/create", Fail(400, "no such option"))
    settings = RunSettings(image_name="me/agent", network="sealed", gate="portable")
    with pytest.raises(DockerError, match="no such option"):
        await prepared(docker, settings, tmp_path)
    assert (docker.state.containers, docker.state.volumes) == ({}, {})


@pytest.fixture
def demo_image(monkeypatch: pytest.MonkeyPatch) -> str:
    """Our demo agents' image, on a base that is here."""
    if not image_exists(BASE):
        pytest.skip(f"the base image {BASE} is not present")
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", BASE)
    return on_engine(lambda engine: ensure_image(engine, "demo", BASE))


def containers(run_dir: Path) -> list[str]:
    """Return the ids of all containers of a run, running or not."""
    command = [ENGINE, "ps", "-aq", "--filter", f"label=agent-preflight.dir={run_dir}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def options(trials: Field, image: str, *kinds: str, **more: Any) -> dict[str, Any]:
    shared = trials.options({}, sandbox="docker", command=None, network="sealed", budget_usd=0.25, run_id="r")
    return {**shared, "image_name": image, "container_args": {kind: [kind] for kind in kinds}, **more}


@pytest.mark.docker
def test_agents_in_sealed_containers_spend_through_the_gate_and_hold_no_real_key(
    trials: Field, demo_image: str
) -> None:
    inspected: list[str] = []

    def look_inside(event: dict[str, Any]) -> None:
        if event["type"] == "agent_start":
            command = [ENGINE, "inspect", *containers(trials.runs_dir / "r")]  # the other trial's may be gone by now
            inspected.append(subprocess.run(command, capture_output=True, text=True, check=False).stdout)

    models = [("openai/gpt-4.1-nano", "thrifty"), ("openai/gpt-4.1-nano", "greedy")]
    results = run_multi(models, **options(trials, demo_image, "thrifty", "greedy", on_event=look_inside))
    assert [result.error for result in results] == [None, None]
    assert [result.preflight["calls"] > 0 for result in results] == [True, True]
    assert inspected
    assert all("sk-or-" not in text for text in inspected)
    assert '"NetworkMode": "none"' in inspected[0]
    assert containers(trials.runs_dir / "r") == []
    (summary,) = [json.loads((trials.runs_dir / "r" / "greedy" / "summary.json").read_text())]
    assert set(summary["preflight"]["cleanup"].values()) == {"ok"}


@pytest.mark.docker
def test_an_interrupted_run_leaves_no_container_and_no_key(trials: Field, demo_image: str) -> None:
    stop = StopSignal()
    arguments = options(trials, demo_image, "idle", on_event=lambda event: stop.press())
    request = request_of({"models": [("openai/gpt-4.1-nano", "idle")], **arguments})
    finished = run_blocking(lambda stop: run_field(request, stop), stop)
    assert [result.error for result in finished.results] == ["interrupted"]
    assert containers(finished.run_dir) == []


@pytest.mark.docker
def test_a_gate_may_be_ready_before_the_account_is_open(
    trials: Field, demo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Sidecar.open

    async def taken_late(sidecar: Sidecar, account_id: str, spec: AccountSpec) -> Balance:
        balance = await opened(sidecar, account_id, spec)
        await asyncio.sleep(2.0)
        return balance

    monkeypatch.setattr(Sidecar, "open", taken_late)
    (result,) = run_multi([("openai/gpt-4.1-nano", "thrifty")], **options(trials, demo_image, "thrifty"))
    assert (result.error, result.preflight["calls"] > 0) == (None, True)


@pytest.mark.docker
def test_a_trial_whose_output_is_lost_is_ended_with_that_error(
    trials: Field, demo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="ap-") as short, EngineRelay(Path(short, "e.sock")) as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.url)
        arguments = options(trials, demo_image, "idle", on_event=lambda event: relay.cut())
        (result,) = run_multi([("openai/gpt-4.1-nano", "idle")], **arguments)
        assert containers(trials.runs_dir / "r") == []
    assert result.error == OUTPUT_LOST
    assert set(result.preflight["cleanup"].values()) == {"ok"}


@pytest.mark.docker
def test_a_missing_folder_is_made_by_the_runner_and_not_by_the_engine(
    trials: Field, demo_image: str, tmp_path: Path
) -> None:
    arguments = options(trials, BASE, "thrifty", container_args=["-c", "open('/out/answer', 'w').write('42')"])
    arguments |= {"docker_args": ["--entrypoint", "python3"], "mounts": [(tmp_path / "new" / "out", "/out", "rw")]}
    (result,) = run_multi([("openai/gpt-4.1-nano", "thrifty")], **arguments)
    assert (result.error, (tmp_path / "new" / "out" / "answer").read_text()) == (None, "42")
    assert (tmp_path / "new" / "out").stat().st_uid == os.geteuid()
    assert any("out was missing: an empty folder was made" in line for line in trials.said)
    for mount in (f"{tmp_path}/no:/task:ro", f"{tmp_path}/no:/task:ro,Z"):
        with pytest.raises(ConfigError, match="no does not exist"):
            run_multi([("openai/gpt-4.1-nano", "thrifty")], **{**arguments, "mounts": [mount], "run_id": "s"})
    assert not (tmp_path / "no").exists()
    assert not (trials.runs_dir / "s").exists()


@pytest.mark.docker
@pytest.mark.parametrize("mode", ["", ":rw", ":ro", ":z", ":Z", ":rw,z", ":ro,Z"])
def test_every_form_of_a_mount_reaches_the_agent(trials: Field, demo_image: str, tmp_path: Path, mode: str) -> None:
    source = tmp_path / "task.txt"
    source.write_text("do it")
    program = "print(open('/task.txt').read(), open('/named/x', 'w').write('x'))"
    arguments = options(trials, BASE, "a", container_args=["-c", program], docker_args=["--entrypoint", "python3"])
    try:
        (result,) = run_multi(
            [("openai/gpt-4.1-nano", "a")],
            **{**arguments, "mounts": [f"{source}:/task.txt{mode}", "ap-test-named:/named"]},
        )
    finally:
        subprocess.run([ENGINE, "volume", "rm", "ap-test-named"], capture_output=True, check=True)
    assert result.error is None
    assert "do it 1" in (trials.runs_dir / "r" / "a" / "events.jsonl").read_text()
