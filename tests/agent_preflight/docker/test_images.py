"""Images: ours built at first use, nothing pulled."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from agent_preflight.docker import build_image, image_exists, remove_container
from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.images import context_digest, context_dir, ensure_image
from tests.agent_preflight.docker.conftest import Scripted
from tests.engine import ENGINE

ABSENT = "echo 'Error response from daemon: no such image: x: No such image: x' >&2; exit 1"


@pytest.mark.parametrize("kind", ["gate", "demo"])
def test_our_build_contexts_are_here(kind: str) -> None:
    assert (context_dir("gate" if kind == "gate" else "demo") / "Dockerfile").is_file()


def test_a_digest_changes_with_content_names_and_base(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = context_digest(tmp_path, "base")
    assert context_digest(tmp_path, "base") == first
    assert context_digest(tmp_path, "other") != first
    (tmp_path / "a").write_text("2")
    second = context_digest(tmp_path, "base")
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, context_digest(tmp_path, "base")}) == 3


def test_a_hidden_file_changes_no_digest(tmp_path: Path) -> None:
    first = context_digest(tmp_path, "base")
    (tmp_path / ".keep").touch()
    assert context_digest(tmp_path, "base") == first


@pytest.mark.wire
async def test_an_image_that_is_here_is_not_built(scripted: Scripted) -> None:
    script = scripted("'image inspect'*) echo sha256:1;;")
    assert await ensure_image("gate", base="b", executable=str(script.path)) == "sha256:1"
    assert len(script.calls()) == 1


@pytest.mark.wire
async def test_a_base_that_is_not_here_is_not_pulled_and_the_way_out_is_told(scripted: Scripted) -> None:
    script = scripted(f"'image inspect'*) {ABSENT};;")
    with pytest.raises(DockerError, match=r"docker pull b.*PREFLIGHT_GATE_BASE"):
        await ensure_image("gate", base="b", executable=str(script.path))
    assert not any(call.startswith(("build", "pull")) for call in script.calls())


@pytest.mark.wire
async def test_an_image_is_built_on_the_base_without_pulling(scripted: Scripted) -> None:
    branches = f"""
    'image inspect'*agent-preflight-gate*) if [ -e built ]; then echo sha256:2; else {ABSENT}; fi;;
    'image inspect'*) echo sha256:base;;
    build*) touch built;;"""
    script = scripted(branches)
    assert await ensure_image("gate", base="b", executable=str(script.path)) == "sha256:2"
    build = next(call for call in script.calls() if call.startswith("build"))
    assert "--pull=false" in build
    assert "--build-arg BASE=b" in build


@pytest.mark.wire
async def test_an_engine_that_does_not_answer_is_not_taken_for_a_missing_image(scripted: Scripted) -> None:
    script = scripted("image*) echo 'Cannot connect to the Docker daemon at unix:///x.' >&2; exit 1;;")
    with pytest.raises(DockerError, match="no Docker engine answers"):
        await ensure_image("gate", base="b", executable=str(script.path))


@pytest.mark.wire
def test_a_build_that_fails_is_a_runtime_error_with_the_images_name(scripted: Scripted) -> None:
    script = scripted("build*) exit 1;;")
    with pytest.raises(RuntimeError, match=r"^Docker build failed for 'mine'$"):
        build_image("mine", executable=str(script.path))


@pytest.mark.wire
def test_without_docker_no_image_exists_and_nothing_is_to_be_removed() -> None:
    from agent_preflight.docker import images

    assert not images.image_exists("x", executable="/no/such/docker")
    images.remove_container("x", executable="/no/such/docker")


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
async def test_the_demo_image_is_built_on_plain_python(base_image: str) -> None:
    assert re.fullmatch("(sha256:)?[0-9a-f]{64}", await ensure_image("demo", base=base_image))
