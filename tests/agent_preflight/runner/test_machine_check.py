"""What prevents a run on this machine is reported before anything is made."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.docker.mounts import Bind
from agent_preflight.engine.client import Engine
from agent_preflight.options.settings import RunSettings
from agent_preflight.runner.machine_check import (
    MachineReport,
    check_machine,
    check_sources,
    make_folders,
)
from agent_preflight.runs.plan import TrialPlan
from agent_preflight.runs.request import RunRequest
from preflight_proxy.core.errors import ConfigError
from tests.support.engine_thread import serve_in_thread
from tests.support.scripted_engine import Fail, ScriptedEngine
from tests.support.unprivileged import unprivileged

SETTINGS = RunSettings(image_name="me/agent", network="sealed")
TRIAL = TrialPlan("a", "m/m", 1, "key", ())


@pytest.fixture
def docker(docker_host: ScriptedEngine) -> ScriptedEngine:
    """An engine that has the agents' image and one to build gates on."""
    docker_host.state.images["me/base"] = docker_host.state.images["me/agent"] | {"Id": "sha256:base"}
    docker_host.state.info |= {"NCPU": 4, "MemTotal": 8 * 2**30}
    return docker_host


async def check(docker: ScriptedEngine, settings: RunSettings = SETTINGS, **options: Any) -> MachineReport:
    async with Engine.open(docker.url) as engine:
        request = RunRequest(settings=settings, **{"gate_base": "me/base", **options})
        return await check_machine(engine, request, [replace(TRIAL, mounts=settings.mounts)])


def writes(docker: ScriptedEngine) -> list[str]:
    return [call for call in docker.calls if not call.startswith("GET ")]


@pytest.mark.wire
async def test_nothing_is_reported_and_nothing_is_made_if_nothing_is_wrong(
    docker: ScriptedEngine, tmp_path: Path
) -> None:
    docker.state.create_volume({"Name": "named"})
    settings = replace(SETTINGS, network="bridge", mounts=(f"{tmp_path}:/a:ro,Z", f"{tmp_path}:/b:z", "named:/c:ro"))
    assert await check(docker, replace(settings, mounts=())) == MachineReport()
    assert writes(docker) == []
    assert await check(docker, settings) == MachineReport()
    assert [call.partition("?")[0] for call in writes(docker) if "create" in call] == ["POST /containers/create"]
    assert docker.state.containers == {}


@pytest.mark.wire
async def test_all_problems_are_reported_together_and_once(docker: ScriptedEngine, tmp_path: Path) -> None:
    mounts = (f"{tmp_path}/no:/task:ro", f"{tmp_path}:/x", f"{tmp_path}:/x/")
    settings = replace(
        SETTINGS, image_name="you/agent", network="nonet", mounts=mounts, memory="1m", cpus="5", workspace_path="out"
    )
    report = await check(docker, settings, gate_base="python:3.12-slim")
    assert [line.name for line in report.lines] == [
        "Mounts", "Mounts", "Network", "Workspace", "Docker image 'you/agent'", "Gate image", "Limits", "Limits",
    ]  # fmt: skip
    text = "\n".join(report.problems)
    for part in (
        "Two mounts go to /x in the container: leave one off.",
        f"The mount's source {tmp_path}/no does not exist. The agent would find nothing in /task.",
        "Docker has no network 'nonet'. Run `docker network create nonet`, or choose 'sealed' or one of: bridge.",
        "workspace_path must be an absolute path",
        "Run `docker pull you/agent`, or build it: `docker build -t you/agent .`",
        "The image python:3.12-slim is missing, on which the gate image is built. Run `docker pull python:3.12-slim`, or set",
        "or set PREFLIGHT_GATE_BASE to an image with python3.",
        "cpus is 5, but Docker's machine has 4: give at most 4.",
        "memory is 1048576 bytes, but Docker needs at least 6m",
    ):
        assert part in text
    assert writes(docker) == []


@pytest.mark.wire
@pytest.mark.parametrize("makes_sources", [True, False])
async def test_the_request_decides_whether_a_missing_source_is_made(
    docker: ScriptedEngine, tmp_path: Path, makes_sources: bool
) -> None:
    settings = replace(SETTINGS, mounts=(f"{tmp_path}/new:/out",))
    report = await check(docker, settings, makes_sources=makes_sources)
    assert bool(report.problems) is not makes_sources
    assert not (tmp_path / "new").exists()


@pytest.mark.wire
async def test_a_source_with_a_placeholder_is_always_made_for_each_trial(
    docker: ScriptedEngine, tmp_path: Path
) -> None:
    mounts = (f"{tmp_path}/{{alias}}:/out", f"{tmp_path}/all:/all")
    settings = replace(SETTINGS, mounts=mounts)
    trials = [
        replace(TRIAL, alias=alias, mounts=(f"{tmp_path}/{alias}:/out", f"{tmp_path}/all:/all")) for alias in ("a", "b")
    ]
    async with Engine.open(docker.url) as engine:
        request = RunRequest(settings=settings, gate_base="me/base", makes_sources=False)
        report = await check_machine(engine, request, trials)
        read_only = replace(settings, mounts=(f"{tmp_path}/{{alias}}:/task:ro",))
        tasks = [replace(trial, mounts=(f"{tmp_path}/{trial.alias}:/task:ro",)) for trial in trials]
        without = await check_machine(engine, RunRequest(settings=read_only, gate_base="me/base"), tasks)
    assert report.missing == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert [problem.partition(".")[0] for problem in report.problems] == [
        f"The mount's source {tmp_path}/all does not exist"
    ]
    assert [problem.partition(".")[0] for problem in without.problems] == [
        f"The mount's source {tmp_path}/{alias} does not exist" for alias in ("a", "b")
    ]


@pytest.mark.wire
@pytest.mark.parametrize("option", ["--mount=type=bind,src={},dst=/x", "--volume={}:/x:ro"])
async def test_a_mount_in_docker_args_is_checked(docker: ScriptedEngine, tmp_path: Path, option: str) -> None:
    report = await check(docker, replace(SETTINGS, docker_args=(option.format(tmp_path / "no"),)))
    assert f"The mount's source {tmp_path}/no does not exist" in report.problems[0]


@pytest.mark.wire
async def test_paths_of_another_machine_are_not_checked_and_one_warning_says_so() -> None:
    with serve_in_thread() as docker:
        docker.state.images["me/base"] = docker.state.images["me/agent"]
        report = await check(docker, replace(SETTINGS, mounts=("/no/such:/task:ro", "/nor/this:/out")))
    (line,) = report.lines
    assert line.ok is None
    assert line.detail == f"not looked at: the paths are those of the machine behind {docker.url}"


@pytest.mark.wire
async def test_a_new_volume_is_a_warning_because_a_folder_may_be_meant(
    docker: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    report = await check(docker, replace(SETTINGS, mounts=("data:/task:ro", "cache:/c")))
    assert [line.detail for line in report.lines] == [
        "data is the name of a Docker volume, which does not exist: Docker makes an empty one; for the folder write ./data",
        "cache is the name of a Docker volume, which does not exist: Docker makes an empty one",
    ]
    assert report.problems == []
    assert docker.state.volumes == {}


@pytest.mark.wire
async def test_the_engine_checks_options_on_a_container_that_is_not_started(docker: ScriptedEngine) -> None:
    docker.script("POST /containers/create", Fail(400, "invalid CPU shares"))
    report = await check(
        docker, replace(SETTINGS, docker_args=("--cpu-shares=1", "--volume=/etc:/x:ro", "--volume=/y"))
    )
    assert report.problems == ["creating a container with your options: invalid CPU shares"]
    (body,) = [body for call, body in docker.bodies if "create" in call]
    assert body["HostConfig"] == {"CpuShares": 1, "NetworkMode": "none"}
    assert "Volumes" not in body


@pytest.mark.wire
@pytest.mark.parametrize(
    ("config", "changes", "is_wrong"),
    [
        ({"Cmd": None, "Entrypoint": None}, {}, True),
        ({}, {}, True),
        ({}, {"docker_args": ("--entrypoint=/x",)}, False),
        ({"Cmd": ["x"]}, {}, False),
        ({"Entrypoint": ["x"]}, {}, False),
    ],
)
async def test_an_image_without_a_command_needs_one(
    docker: ScriptedEngine, config: Mapping[str, Any], changes: Mapping[str, Any], is_wrong: bool
) -> None:
    docker.state.images["me/agent"]["Config"] = config
    report = await check(docker, replace(SETTINGS, **changes))
    assert [problem.partition(":")[0] for problem in report.problems] == [
        "The image me/agent has no command of its own"
    ] * is_wrong


@pytest.mark.wire
async def test_a_limit_above_the_machines_memory_is_a_warning(docker: ScriptedEngine) -> None:
    (line,) = (await check(docker, replace(SETTINGS, memory="9g", cpus="4"))).lines
    assert (line.ok, line.detail) == (None, "memory is 9.0 GiB, but Docker's machine has 8.0 GiB")


@pytest.mark.wire
@pytest.mark.parametrize("network", ["host", "container:x", ""])
async def test_a_network_that_is_not_allowed_is_reported_here(docker: ScriptedEngine, network: str) -> None:
    (problem,) = (await check(docker, replace(SETTINGS, network=network))).problems
    assert "cannot be used: choose 'sealed', 'bridge'" in problem


@pytest.mark.wire
async def test_the_engines_socket_is_refused_here(docker: ScriptedEngine) -> None:
    report = await check(docker, replace(SETTINGS, mounts=("/:/host",)))
    assert any("hands the container engine's socket to the agent" in problem for problem in report.problems)


def process(*command: str, **env: str) -> tuple[RunRequest, list[TrialPlan]]:
    return RunRequest(settings=RunSettings(sandbox="process", env=env)), [replace(TRIAL, command=command)] * 2


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("no-such-program", "There is no program 'no-such-program' in PATH"),
        ("/no/such", "The agent's program /no/such does not exist"),
        ("/etc/passwd", "cannot be executed: chmod +x"),
        ("./agent", f"is looked for in its own new folder: write {Path.cwd()}/agent"),
    ],
)
async def test_a_missing_program_is_reported_once(command: str, sentence: str) -> None:
    (problem,) = (await check_machine(None, *process(command))).problems
    assert sentence in problem


@pytest.mark.parametrize("command", ["sh", "/bin/sh"])
async def test_an_existing_program_is_not_reported(command: str) -> None:
    assert await check_machine(None, *process(command)) == MachineReport()


async def test_a_program_is_searched_in_the_agents_path(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    (tmp_path / "mine").chmod(0o755)
    assert await check_machine(None, *process("mine", PATH=str(tmp_path))) == MachineReport()
    assert (await check_machine(None, *process("sh", PATH=str(tmp_path)))).problems


async def test_options_that_processes_do_not_use_are_one_warning() -> None:
    settings = RunSettings(sandbox="process", mounts=("/a:/b",), memory="1g")
    (line,) = (await check_machine(None, RunRequest(settings=settings), [replace(TRIAL, command=("sh",))])).lines
    assert (line.ok, line.detail) == (None, "not used with --sandbox process: mounts, memory")


def source(path: object, *, writable: bool = False, is_made: bool = True) -> Bind:
    return Bind(str(path), "/task", writable, is_made)


def test_files_folders_and_links_to_them_are_sources(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    assert check_sources([source(tmp_path / name, is_made=False) for name in ("", "file", "link")]) == ([], [])


@pytest.mark.parametrize(("writable", "is_made"), [(False, True), (False, False), (True, False)])
def test_a_missing_source_is_an_error_that_says_what_to_do(tmp_path: Path, writable: bool, is_made: bool) -> None:
    path = tmp_path / "no such"
    (problem,), missing = check_sources([source(path, writable=writable, is_made=is_made)])
    assert problem.startswith(f"The mount's source {path} does not exist.")
    assert problem.endswith(f"Correct the path, or make it: mkdir -p '{path}'")
    assert ("The agent would find nothing in /task." in problem) is not writable
    assert (missing, path.exists()) == ([], False)


def test_a_missing_source_that_is_writable_is_made(tmp_path: Path) -> None:
    path, sentence = tmp_path / "a" / "b", list[str]()
    problems, missing = check_sources([source(path, writable=True), source(path, writable=True)])
    assert (problems, missing, path.exists()) == ([], [str(path)], False)
    make_folders(missing, sentence.append)
    assert (path.is_dir(), path.stat().st_uid) == (True, os.geteuid())
    assert sentence == [f"warning: the mount's source {path} was missing: an empty folder was made, which is yours"]


def test_each_path_is_reported_once(tmp_path: Path) -> None:
    problems, _ = check_sources([source(tmp_path / "x"), source(tmp_path / "x"), source(tmp_path / "y")])
    assert len(problems) == 2


def test_a_dangling_link_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    (problem,), _ = check_sources([source(tmp_path / "link", writable=True)])
    assert problem == f"The mount's source {tmp_path}/link is a link to gone, which does not exist."


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/" + "x" * 300, "File name too long"), ("/etc/passwd/x", "does not exist"), ("/a\0b", "null")],
)
def test_an_impossible_path_is_an_error(path: str, sentence: str) -> None:
    (problem,), _ = check_sources([source(path, writable=True)])
    assert sentence in problem


def test_a_folder_that_cannot_be_made_is_an_error_before_anything_is_made() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with unprivileged():
            (problem,), _ = check_sources([source(f"{folder}/x", writable=True)])
    assert problem == f"The mount's source {folder}/x is missing and cannot be made: {folder} cannot be written."


def test_a_path_that_only_the_engine_may_read_is_accepted(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o000)
    tmp_path.chmod(0o755)
    with unprivileged():
        assert check_sources([source(inner / "x")]) == ([], [])
    inner.chmod(0o755)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(ConfigError, match=r"is missing and cannot be made: Not a directory\.$"):
        make_folders([str(tmp_path / "f" / "x")], print)


@pytest.mark.wire
async def test_an_image_for_scores_must_be_here(docker: ScriptedEngine) -> None:
    settings = replace(SETTINGS, score="echo 1", score_image="you/tests")
    report = await check(docker, settings)
    assert [line.name for line in report.lines] == ["Score image"]
    assert "The image you/tests is missing" in report.problems[0]
    assert await check(docker, replace(settings, score_image="me/agent")) == MachineReport()


@pytest.mark.wire
async def test_an_engine_on_another_machine_cannot_mount_what_is_scored() -> None:
    with serve_in_thread() as docker:
        docker.state.images["me/base"] = docker.state.images["me/agent"]
        report = await check(docker, replace(SETTINGS, score="echo 1", score_image="me/agent"))
    assert [problem for problem in report.problems if "score_image needs Docker on this machine" in problem]
