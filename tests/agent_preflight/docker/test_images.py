"""Images: ours built at first use, nothing pulled."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from agent_preflight.docker import build_image, image_exists, remove_container
from agent_preflight.docker.images import agents_image, context_archive, context_dir, ensure_image, image_of
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from tests.support.docker_program import ENGINE
from tests.support.scripted_engine import DROP, Fail, ScriptedEngine, Text


@pytest.mark.parametrize("kind", ["gate", "demo"])
def test_our_build_contexts_are_here(kind: str) -> None:
    assert (context_dir("gate" if kind == "gate" else "demo") / "Dockerfile").is_file()


def test_an_archive_changes_with_content_and_names_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = context_archive(tmp_path)
    (tmp_path / ".keep").touch()
    os.utime(tmp_path / "a", (0, 0))
    (tmp_path / "a").chmod(0o777)
    assert context_archive(tmp_path) == first
    (tmp_path / "a").write_text("2")
    second = context_archive(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, context_archive(tmp_path)}) == 3


def test_an_image_has_another_name_on_another_base_and_with_other_files() -> None:
    names = {image_of("gate", "base"), image_of("gate", "other"), image_of("demo", "base").replace("demo", "gate")}
    assert len(names) == 3
    assert image_of("gate", "base") in names


def base_is_here(scripted: ScriptedEngine) -> None:
    scripted.state.images["b"] = {"Id": "sha256:base", "RepoTags": ["b:latest"]}


@pytest.mark.wire
async def test_an_image_that_is_here_is_not_built(client: Engine, scripted: ScriptedEngine) -> None:
    name = image_of("gate", "b")
    scripted.state.images[name] = {"Id": "sha256:1", "RepoTags": [name]}
    assert await ensure_image(client, "gate", "b") == "sha256:1"
    assert scripted.calls == [f"GET /images/{name}/json"]


@pytest.mark.wire
async def test_a_missing_base_is_not_pulled_and_the_error_says_what_to_do(
    client: Engine, scripted: ScriptedEngine
) -> None:
    with pytest.raises(DockerError, match=r"docker pull b`.*PREFLIGHT_GATE_BASE") as caught:
        await ensure_image(client, "gate", "b")
    assert caught.value.failure is Failure.GONE
    assert {call.partition(" ")[0] for call in scripted.calls} == {"GET"}


@pytest.mark.wire
async def test_an_image_is_built_on_the_base_without_network_or_pulling(
    client: Engine, scripted: ScriptedEngine
) -> None:
    base_is_here(scripted)
    built = await ensure_image(client, "gate", "b")
    assert await ensure_image(client, "gate", "b") == built
    [(call, archive)] = [(call, body) for call, body in scripted.bodies if call.startswith("POST /build")]
    asked = parse_qs(call.partition("?")[2])
    assert asked["networkmode"] == ["none"]
    assert asked["buildargs"] == ['{"BASE": "b"}']
    assert asked["t"][0].startswith("agent-preflight-gate:")
    assert not asked.keys() & {"pull", "remote"}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert set(tar.getnames()) == {path.name for path in context_dir("gate").iterdir() if path.is_file()}


@pytest.mark.wire
@pytest.mark.parametrize("answer", [Fail(500, "no such image: b"), DROP, Text(200, "<html>")])
async def test_an_engine_that_does_not_answer_is_not_taken_for_a_missing_image(
    client: Engine, scripted: ScriptedEngine, answer: Fail
) -> None:
    scripted.script("GET /images/*", answer)
    for asked in (ensure_image(client, "gate", "b"), agents_image(client, "me/agent")):
        with pytest.raises(DockerError, match=r"^looking for the image \S+: ") as caught:
            await asked
        assert caught.value.failure is not Failure.GONE
    assert not any(call.startswith("POST") for call in scripted.calls)


@pytest.mark.wire
async def test_a_build_that_fails_half_way_is_an_error_with_the_engines_words(
    client: Engine, scripted: ScriptedEngine
) -> None:
    base_is_here(scripted)
    scripted.script(
        "POST /build", Text(200, '{"stream":"Step 1"}\r\n{"error":"COPY failed: no space left on device"}\r\n')
    )
    with pytest.raises(DockerError, match=r"^building agent-preflight-gate:\w+: COPY failed: no space left") as caught:
        await ensure_image(client, "gate", "b")
    assert caught.value.failure is Failure.FAILED


@pytest.mark.wire
async def test_a_build_that_claims_success_is_not_believed(client: Engine, scripted: ScriptedEngine) -> None:
    base_is_here(scripted)
    scripted.script("POST /build", Text(200, '{"stream":"Successfully built 1"}\r\n'))
    with pytest.raises(DockerError, match="does not have it"):
        await ensure_image(client, "gate", "b")


@pytest.mark.wire
async def test_an_agents_image_is_returned_or_the_error_says_what_to_do(
    client: Engine, scripted: ScriptedEngine
) -> None:
    assert (await agents_image(client, "me/agent")).id == "sha256:agent"
    with pytest.raises(DockerError, match=r"^The image you/agent is missing.*`docker pull you/agent`") as caught:
        await agents_image(client, "you/agent")
    assert caught.value.failure is Failure.GONE
    assert {call.partition(" ")[0] for call in scripted.calls} == {"GET"}


@pytest.fixture
def docker_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `docker` that writes its arguments to a file and fails; no other program is found."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" > "$0.args"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


@pytest.mark.wire
def test_a_build_that_fails_is_a_runtime_error_with_the_images_name(docker_program: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^Docker build failed for 'mine'$"):
        build_image("mine", "a/Dockerfile", "a")
    assert docker_program.with_suffix(".args").read_text() == "build -t mine -f a/Dockerfile a\n"


@pytest.mark.wire
def test_a_build_without_the_program_docker_says_so(docker_program: Path) -> None:
    docker_program.unlink()
    with pytest.raises(RuntimeError, match="'mine' was not built with the program docker: docker CLI not found"):
        build_image("mine")


@pytest.mark.wire
def test_without_an_engine_no_image_exists_and_nothing_is_to_be_removed(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{short_dir}/none.sock")
    assert not image_exists("x")
    remove_container("x")


@pytest.mark.wire
async def test_scripts_see_images_and_remove_containers_also_where_a_loop_runs(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", scripted.url)
    scripted.state.create("one", {"Image": "me/agent"})
    assert await asyncio.to_thread(image_exists, "me/agent")
    assert not await asyncio.to_thread(image_exists, "you/agent")
    for _ in range(2):
        await asyncio.to_thread(remove_container, "one")
    assert not scripted.state.containers


@pytest.mark.docker
def test_a_users_image_is_built_seen_and_its_container_removed(base_image: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {base_image}\nCMD true\n")
    name = f"agent-preflight-test:{tmp_path.name.lower()[:40]}"
    build_image(name, dockerfile=str(tmp_path / "Dockerfile"), context=str(tmp_path))
    try:
        assert image_exists(name)
        subprocess.run([ENGINE, "create", "--name", "ap-test-images", name], check=True, capture_output=True)
        remove_container("ap-test-images")
        remove_container("ap-test-images")
    finally:
        subprocess.run([ENGINE, "rmi", name], check=True, capture_output=True)
    assert not image_exists(name)


@pytest.mark.docker
async def test_the_demo_image_is_built_on_plain_python(base_image: str, engine: Engine) -> None:
    assert re.fullmatch("(sha256:)?[0-9a-f]{64}", await ensure_image(engine, "demo", base=base_image))
