"""The gate's container: its socket directory, and what the engine shows of it. Its calls: test_container."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.gate import check_socket, only_id
from preflight_proxy.errors import ConfigError
from tests.agent_preflight.docker.conftest import MakeSandbox
from tests.engine import ENGINE, on_podman


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


def test_an_id_stands_below_the_engines_warnings() -> None:
    assert only_id("WARNING: no swap limit\nabc\n") == "abc"
    with pytest.raises(DockerError, match="no container id"):
        only_id("")


@pytest.mark.docker
async def test_the_engine_gave_the_gate_nothing(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("true")
    await sandbox.create()
    name = sandbox.container_name
    found = json.loads(subprocess.run([ENGINE, "inspect", gate_of(name)], capture_output=True, check=True).stdout)[0]  # noqa: ASYNC221
    host, config = found["HostConfig"], found["Config"]
    assert found["State"]["Running"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"]
    assert not found["BoundingCaps"] if on_podman() else host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert config["User"] == "47115:47115"
    assert host["LogConfig"]["Type"] == "none"


def gate_of(name: str) -> str:
    head, _, suffix = name.rpartition("-")
    return f"{head}-gate-{suffix}"
