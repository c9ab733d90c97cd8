"""What is asked of a Podman and of the runtime below it; both are played by scripts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent_preflight.docker.budget_link import link_copies, place_link
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.ending import remove_container
from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.podman_calls import end_below, host_address, remove_layer
from agent_preflight.docker.podman_clients import is_watched
from agent_preflight.docker.portal import portal_place
from agent_preflight.docker.running import attach
from tests.agent_preflight.docker.conftest import Scripted
from tests.agent_preflight.docker.test_engines import podman

pytestmark = pytest.mark.wire

GONE = "echo 'Error: inspecting object: no such container c' >&2; exit 125"


def with_runtime(tmp_path: Path, lists: str) -> dict[str, str]:
    """A scripted Podman whose runtime logs what it is asked, and lists this until something is deleted."""
    runtime = tmp_path / "runtime"
    runtime.write_text(
        f"""#!/bin/sh
[ "$*" = --version ] && exit
cd {tmp_path} && echo "$*" >> runtime.log
case "$*" in delete*) touch deleted;; "list -q") [ -e deleted ] && [ ! -e sticks ] || echo {lists};; esac
"""
    )
    runtime.chmod(0o755)
    return podman(ociRuntime={"name": "runc", "path": str(runtime)})


async def test_this_machine_is_where_the_network_has_its_gateway(scripted: Scripted) -> None:
    script = scripted("'network inspect podman'*) echo 'fd00::1 10.88.0.1 ';;\nnetwork*) echo;;", **podman())
    assert await host_address(Docker(str(script.path)), "bridge") == "10.88.0.1"
    assert await host_address(Docker(str(script.path)), "inner") is None


async def test_a_network_that_is_not_there_is_named(scripted: Scripted) -> None:
    script = scripted("network*) echo 'Error: network n: network not found' >&2; exit 125;;", **podman())
    with pytest.raises(DockerError, match="looking at the network n"):
        await host_address(Docker(str(script.path)), "n")


async def test_what_podman_has_not_heard_of_is_removed_below_it(scripted: Scripted, tmp_path: Path) -> None:
    script = scripted(f"rm*) :;;\n'container inspect'*) {GONE};;", **with_runtime(tmp_path, "c"))
    assert await remove_container(Docker(str(script.path)), "c") == "ok"
    assert (tmp_path / "runtime.log").read_text() == "delete --force c\nlist -q\n"


async def test_what_is_still_being_made_below_podman_is_not_gone(scripted: Scripted, tmp_path: Path) -> None:
    """The watcher ends only after the runtime was asked once."""
    container, watcher = "e" * 64, tmp_path / "conmon"
    watcher.symlink_to("/bin/sh")
    docker = Docker(str(scripted("", **with_runtime(tmp_path, container)).path))
    waiting = "while [ ! -e runtime.log ]; do :; done"
    process = await asyncio.create_subprocess_exec(watcher, "-c", waiting, container, cwd=tmp_path)
    while not is_watched(container):
        await asyncio.sleep(0.01)
    assert await end_below(docker, container)
    await process.wait()
    assert (tmp_path / "runtime.log").read_text().count("delete") > 1


async def test_what_stays_below_podman_is_not_gone(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "sticks").touch()
    script = scripted(f"rm*) :;;\n'container inspect'*) {GONE};;", **with_runtime(tmp_path, "c"))
    assert await remove_container(Docker(str(script.path)), "c") == "failed"


async def test_a_runtime_that_does_not_list_proves_nothing(scripted: Scripted) -> None:
    docker = Docker(str(scripted("", **podman(ociRuntime={"name": "runc", "path": "/bin/false"})).path))
    assert not await end_below(docker, "c")


async def test_an_agent_is_started_where_podman_looks_for_the_note_on_its_memory(
    scripted: Scripted, tmp_path: Path
) -> None:
    (tmp_path / "papers").mkdir()
    script = scripted(f"'container inspect -f {{{{.StaticDir}}}}'*) echo {tmp_path}/papers;;\nstart*) :;;", **podman())
    script.path.write_text(script.path.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\npwd >> {tmp_path}/where\n"))
    attached = await attach(Docker(str(script.path)), "c")
    await attached.communicate()
    assert (tmp_path / "where").read_text().splitlines()[-1] == f"{tmp_path}/papers"


async def test_no_link_is_put_where_podman_would_write_through_a_read_only_mount(scripted: Scripted) -> None:
    mounts = """'container inspect -f {{json .Mounts}}'*) echo '[{"Destination":"/data","RW":false}]';;"""
    script = scripted(f"{mounts}\ncp*) cat >/dev/null;;", **podman())
    assert not await place_link(Docker(str(script.path)), "c", link_copies("/w"))
    assert not any(call.startswith("cp") for call in script.calls())


async def test_portable_gates_are_refused_on_podman_in_words(scripted: Scripted) -> None:
    with pytest.raises(DockerError, match="gates on Podman are not portable"):
        await portal_place(Docker(str(scripted("", **podman()).path)))


async def test_what_a_killed_create_left_is_removed_by_its_name(scripted: Scripted) -> None:
    script = scripted("rm*) echo c;;", **podman())
    await remove_layer(Docker(str(script.path)), "ap-a-run-1")
    assert script.calls() == ["rm -f -v ap-a-run-1"]
