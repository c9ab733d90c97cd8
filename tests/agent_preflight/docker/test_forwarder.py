"""What makes a gate portable, by its command lines: no pass in them, everything labelled, removed in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_preflight.docker.argv import Tag
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.forwarder import Forwarder
from agent_preflight.sandbox import PortalKey
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.docker.conftest import Scripted, ScriptedDocker

PASS = "p" * 43
TAG = Tag("run-1", Path("/runs/run-1"), "alpha", "boot:1:2", "2026-12-02T00:00:00+00:00", "abcdef")
MADE = """
'volume create'*) echo made;;
create*) for each; do case "$last" in --env-file) cat "$each" >> env.txt;; esac; last=$each; done; echo id1;;
'start id1') echo id1;;
'rm -f -v id1') ;;
'volume rm'*) ;;
'container inspect'*) echo 'Error: No such container: id1' >&2; exit 1;;
'volume inspect'*) echo 'Error: No such volume: v' >&2; exit 1;;
"""


def forwarder(docker: ScriptedDocker) -> Forwarder:
    return Forwarder(Docker(str(docker.path)), TAG, PortalKey("172.17.0.1", 4711, Secret(PASS)))


@pytest.mark.wire
async def test_the_pass_is_in_a_file_and_in_no_argument(scripted: Scripted, tmp_path: Path) -> None:
    docker = scripted(MADE)
    made = forwarder(docker)
    await made.open("sha256:1", (8788, 443))
    assert (tmp_path / "env.txt").read_text() == f"PREFLIGHT_PASS={PASS}\n"
    assert PASS not in "\n".join(docker.calls())
    assert PASS not in repr(made)
    create = docker.calls()[1]
    assert create.endswith("/forward.py /run/preflight-gate/gate.sock 172.17.0.1 4711 8788 443")
    for option in ("--read-only", "--cap-drop ALL", "no-new-privileges", "role=forwarder", "--network bridge"):
        assert option in create


@pytest.mark.wire
async def test_it_goes_before_its_volume(scripted: Scripted) -> None:
    docker = scripted(MADE)
    made = forwarder(docker)
    await made.open("sha256:1", (8788,))
    assert await made.close() == {"forwarder": "ok", "volume": "ok"}
    ended = [call for call in docker.calls() if " rm " in f" {call}"]
    assert [call.split()[0] for call in ended] == ["rm", "volume"]


async def test_one_that_was_never_opened_has_nothing_to_close(scripted: Scripted) -> None:
    docker = scripted("")
    assert await forwarder(docker).close() == {"forwarder": "ok", "volume": "ok"}
    assert docker.calls() == []


@pytest.mark.wire
async def test_a_volume_that_stays_is_a_failed_step(scripted: Scripted) -> None:
    docker = scripted(MADE.replace("echo 'Error: No such volume: v' >&2; exit 1", "echo still here"))
    made = forwarder(docker)
    await made.open("sha256:1", (8788,))
    assert (await made.close())["volume"] == "failed"


@pytest.mark.wire
async def test_an_engine_that_refuses_says_why(scripted: Scripted) -> None:
    docker = scripted("'volume create'*) echo no space left >&2; exit 1;;")
    with pytest.raises(DockerError, match="no space left"):
        await forwarder(docker).open("sha256:1", (8788,))
