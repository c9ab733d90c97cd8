"""Infrastructure checks say what they found and never raise for it."""

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import health
from agent_preflight.health import InfraCheck, docker_health, env_vars, git_version, http_health
from agent_preflight.models import InfraResult
from tests.agent_preflight.conftest import Script, ScriptedServer
from tests.support.scripted_engine import HANG, ScriptedEngine

Serve = Callable[[Script], ScriptedServer]


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError):
        InfraCheck()  # type: ignore[abstract]


def test_variables_that_are_set_pass_even_if_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFLIGHT_T1", "secret-value")
    monkeypatch.setenv("PREFLIGHT_T2", "")
    assert env_vars("PREFLIGHT_T1", "PREFLIGHT_T2", hint="h").check() == InfraResult(ok=True, detail="2 vars present")


def test_missing_variables_are_named_with_the_hint() -> None:
    check = env_vars("PREFLIGHT_NO1", "PATH", "PREFLIGHT_NO2", name="Vars", hint="set them")
    assert check.name == "Vars"
    assert check.check() == InfraResult(ok=False, detail="missing: PREFLIGHT_NO1, PREFLIGHT_NO2", hint="set them")


@pytest.mark.wire
@pytest.mark.parametrize(
    ("status", "body", "options", "expected"),
    [
        (200, {}, {}, InfraResult(ok=True, detail="HTTP 200")),
        (200, {"version": "1.2.3"}, {}, InfraResult(ok=True, detail="version=1.2.3")),
        (200, [1], {}, InfraResult(ok=True, detail="HTTP 200")),
        (503, {}, {}, InfraResult(ok=False, detail="HTTP 503", hint="h")),
        (200, b"hello", {}, InfraResult(ok=False, detail="response is not valid JSON", hint="h")),
        (200, b"", {}, InfraResult(ok=False, detail="response is not valid JSON", hint="h")),
        (200, {"db": {"up": True}}, {"require": {"db.up": True}}, InfraResult(ok=True, detail="HTTP 200")),
        (200, {}, {"require": {"db.up": True}}, InfraResult(ok=False, detail="missing field: db.up", hint="h")),
        (
            200, {"db": "x"}, {"require": {"db": "y"}},
            InfraResult(ok=False, detail="db='x', expected 'y'", hint="h"),
        ),
        (
            200, {"version": "v1.9.0"}, {"min_version": "1.10"},
            InfraResult(ok=None, detail="version v1.9.0 < min 1.10", hint="h"),
        ),
        (200, {"version": "1.0"}, {"min_version": "1.0.0"}, InfraResult(ok=True, detail="version=1.0")),
        (200, {"version": "2.0-rc1"}, {"min_version": "2.0"}, InfraResult(ok=True, detail="version=2.0-rc1")),
        (200, {}, {"min_version": "1.0"}, InfraResult(ok=True, detail="HTTP 200")),
    ],
)  # fmt: skip
def test_a_service_passes_or_fails_by_its_page(
    serve: Serve, status: int, body: Any, options: dict[str, Any], expected: InfraResult
) -> None:
    server = serve(lambda _: (status, body))
    assert http_health(server.base_url + "/health", hint="h", **options).check() == expected


@pytest.mark.wire
def test_an_unreachable_service_fails_with_the_reason() -> None:
    check = http_health("http://127.0.0.1:1/x")
    assert check.name == "127.0.0.1:1"
    found = check.check()
    assert found.ok is False
    assert found.detail


@pytest.mark.wire
def test_a_service_that_does_not_answer_times_out(serve: Serve) -> None:
    release = threading.Event()

    def hang(_: object) -> None:
        release.wait(60)

    server = serve(hang)
    assert http_health(server.base_url, timeout=0.05).check().detail == "timed out after 0.05s"
    release.set()


@pytest.mark.wire
def test_a_malformed_url_fails() -> None:
    assert http_health("http://[", name="broken").check().ok is False
    assert http_health("nonsense").name == "nonsense"


@pytest.mark.wire
def test_a_container_passes_if_it_is_running(docker_host: ScriptedEngine) -> None:
    check = docker_health("db-1")
    assert check.name == "Docker db-1"
    assert check.check() == InfraResult(ok=False, detail="container 'db-1' not found")
    docker_host.state.create("db-1", {"Image": "me/agent"})
    assert check.check() == InfraResult(ok=False, detail="status: created")
    docker_host.state.launch("db-1")
    assert check.check() == InfraResult(ok=True, detail="running")
    docker_host.exit("db-1", 0)
    assert check.check() == InfraResult(ok=False, detail="status: exited")


@pytest.mark.wire
def test_an_unreachable_engine_fails_with_the_reason(no_engine: str) -> None:
    found = docker_health("db").check()
    assert found.ok is False
    assert f"no Docker engine answers at {no_engine}" in found.detail


@pytest.mark.wire
def test_an_engine_that_hangs_fails_after_the_time_limit(
    docker_host: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "COMMAND_TIMEOUT_S", 0.05)
    docker_host.script("GET /containers/*", HANG)
    found = docker_health("db").check()
    assert (found.ok, "did not answer within 0.05 s" in found.detail) == (False, True)


def test_without_git_the_check_fails_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_version(str(tmp_path)).check().detail == "git CLI not found"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "m")
    return folder


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(folder), *args], check=True, timeout=30, capture_output=True)


@pytest.mark.wire
def test_a_repository_passes_with_its_path(repository: Path) -> None:
    check = git_version(str(repository))
    assert check.name == "Git repo"
    assert check.check() == InfraResult(ok=True, detail=str(repository))


@pytest.mark.wire
def test_a_folder_outside_any_repository_fails() -> None:
    assert git_version("/", hint="h").check() == InfraResult(ok=False, detail="not a git repo: /", hint="h")


@pytest.mark.wire
def test_tags_are_compared_as_versions(repository: Path) -> None:
    without = git_version(str(repository), min_tag="v1.0", hint="tag it").check()
    assert (without.ok, without.hint) == (None, "tag it")
    assert without.detail.startswith("no tags found; ")
    git(repository, "tag", "v1.10.0")
    assert git_version(str(repository), min_tag="v1.9").check() == InfraResult(ok=True, detail="tag=v1.10.0")
    assert git_version(str(repository), min_tag="v1.10").check().ok is True
    older = git_version(str(repository), min_tag="v2").check()
    assert (older.ok, older.detail) == (None, "v1.10.0 < min v2")
