"""What creates our containers, as values; and what a real engine makes of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent_preflight.docker import container_config
from agent_preflight.docker.container_config import (
    agent_config,
    check_network,
    forwarder_config,
    gate_config,
)
from agent_preflight.docker.labels import Role, TrialLabels
from agent_preflight.docker.sandbox import seccomp_profile
from agent_preflight.options.container_options import read_docker_args
from agent_preflight.sandboxes.interface import AgentSpec, ForwarderTarget
from agent_preflight.sandboxes.kept_output import OutputPolicy
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.docker.conftest import MakeSandbox
from tests.support.cases import each
from tests.support.docker_program import ENGINE

TAG = TrialLabels(
    "run-2026-11-25", Path("/r/run-2026-11-25"), "claude", "boot:1:2", "2026-12-02T00:00:00+00:00", "abc123"
)
SECCOMP = '{"defaultAction":"SCMP_ACT_ERRNO"}'
PASS = "p" * 43
SPEC = AgentSpec(
    run_id="run-2026-11-25",
    alias="claude",
    run_dir=Path("/r/run-2026-11-25"),
    image="me/agent",
    command=("--model", "a/b"),
    env={"OPENROUTER_API_KEY": "pf-secret"},
    network="sealed",
    workspace_path="/workspace/output",
    budget_dir=Path("/r/run-2026-11-25/claude/budget"),
    gate_socket=Path("/tmp/ap-x/g0/gate.sock"),
    docker_args=read_docker_args(
        ["--memory=2g", "--cpus=1.5", "--tmpfs=/scratch", "--cap-drop=CHOWN", "-v/data:/data:ro"], "sealed"
    ),
)


def sent(body: dict[str, Any]) -> dict[str, Any]:
    """The body as the engine reads it."""
    return dict(json.loads(json.dumps(body)))


def gate(network: str = "sealed", socket_path: Path | None = SPEC.gate_socket, *words: str) -> dict[str, Any]:
    extra = read_docker_args(words, network).gate
    return sent(gate_config(TAG, network, socket_path, "sha256:1", (8788, 443), ("los",), extra))


def agent(spec: AgentSpec = SPEC) -> dict[str, Any]:
    return sent(agent_config(spec, TAG, "gate1", SECCOMP))


def forwarder(host: str = "172.17.0.1") -> dict[str, Any]:
    return sent(forwarder_config(TAG, ForwarderTarget(host, 4711, Secret(PASS)), "sha256:1", (8788, 443)))


ALL: Mapping[Role, Callable[[], dict[str, Any]]] = {"gate": gate, "agent": agent, "forwarder": forwarder}


@each("role", ALL)
def test_everything_carries_the_labels_that_a_sweep_looks_for(role: Role) -> None:
    labels = ALL[role]()["Labels"]
    labels.pop("agent-preflight.output", None)
    assert labels == {
        "agent-preflight.run": "run-2026-11-25",
        "agent-preflight.dir": "/r/run-2026-11-25",
        "agent-preflight.trial": "claude",
        "agent-preflight.role": role,
        "agent-preflight.owner": "boot:1:2",
        "agent-preflight.expires": "2026-12-02T00:00:00+00:00",
    }


def test_a_sealed_gate_has_no_network_and_no_resolver() -> None:
    host = gate()["HostConfig"]
    assert (host["NetworkMode"], host["Dns"]) == ("none", ["127.0.0.1"])
    assert host["ExtraHosts"] == ["openrouter.ai:127.0.0.1", "los:127.0.0.1"]


def test_an_open_gate_has_the_network_that_was_asked_for_and_the_way_to_the_host() -> None:
    host = gate("mine")["HostConfig"]
    assert host["NetworkMode"] == "mine"
    assert not host.get("Dns")
    wanted = ["openrouter.ai:127.0.0.1", "los:127.0.0.1", "host.docker.internal:host-gateway"]
    assert host["ExtraHosts"] == wanted


@each(
    "body",
    [gate, lambda: gate("mine"), lambda: gate("sealed", None), forwarder],
)
def test_what_runs_our_own_image_is_weak_in_every_mode(body: Callable[[], dict[str, Any]]) -> None:
    host = body()["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert "CapAdd" not in host
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] == 16
    assert host["LogConfig"] == {"Type": "none"}
    assert host["ReadonlyRootfs"] is True
    assert len(host["Mounts"]) == 1
    assert "Binds" not in host


def test_a_gate_may_listen_below_1024_without_any_capability() -> None:
    assert gate()["HostConfig"]["Sysctls"] == {"net.ipv4.ip_unprivileged_port_start": "0"}


def test_a_gate_gets_its_sockets_directory_and_its_ports() -> None:
    body = gate()
    assert body["HostConfig"]["Mounts"] == [{"Type": "bind", "Source": "/tmp/ap-x/g0", "Target": "/run/preflight-gate"}]
    assert (body["Image"], body["Cmd"]) == ("sha256:1", ["/run/preflight-gate/gate.sock", "8788", "443"])
    assert not {"Env", "Entrypoint", "OpenStdin"} & body.keys()


def test_a_gate_gets_the_users_options_of_its_network_beside_ours() -> None:
    body = gate("mine", SPEC.gate_socket, "-p80:80", "-h", "box", "--add-host=db:10.1.2.3", "--network-alias=me")
    assert body["Hostname"] == "box"
    assert body["HostConfig"]["ExtraHosts"][-1] == "db:10.1.2.3"
    assert "openrouter.ai:127.0.0.1" in body["HostConfig"]["ExtraHosts"]
    assert list(body["HostConfig"]["PortBindings"]) == ["80/tcp"]
    assert body["NetworkingConfig"]["EndpointsConfig"]["mine"]["Aliases"] == ["me"]
    assert body["HostConfig"]["CapDrop"] == ["ALL"]


def test_an_agent_lives_in_its_gates_network_and_nowhere_else() -> None:
    body = agent()
    assert body["HostConfig"]["NetworkMode"] == "container:gate1"
    assert not {"NetworkingConfig", "Hostname", "MacAddress", "ExposedPorts"} & body.keys()
    assert not {"Dns", "ExtraHosts", "PortBindings", "Sysctls"} & body["HostConfig"].keys()


def test_a_value_of_the_environment_stands_in_the_environment_alone() -> None:
    body = agent()
    assert body.pop("Env") == ["OPENROUTER_API_KEY=pf-secret"]
    assert "pf-secret" not in json.dumps(body)


def test_an_agents_image_and_arguments_are_as_they_were_given() -> None:
    body = agent()
    assert (body["Image"], body["Cmd"]) == ("me/agent", ["--model", "a/b"])
    assert "Entrypoint" not in body


def test_an_agent_reads_what_is_written_to_it_until_that_is_closed() -> None:
    body = agent()
    assert (body["OpenStdin"], body["StdinOnce"]) == (True, True)
    assert "Tty" not in body
    assert body["HostConfig"]["Init"] is True


def test_nothing_that_opens_a_sandbox_is_asked_for() -> None:
    for make in ALL.values():
        host = make()["HostConfig"]
        assert not {"Privileged", "Devices", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "VolumesFrom"} & host.keys()
        assert "AutoRemove" not in host


def test_an_agents_privileges_and_limits_are_named() -> None:
    host = agent()["HostConfig"]
    assert host["CapDrop"] == ["ALL", "CAP_CHOWN"]
    assert host["CapAdd"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (2 << 30, 1_500_000_000, 4096)
    assert f"seccomp={SECCOMP}" in host["SecurityOpt"]
    assert host["LogConfig"] == {"Type": "none"}
    assert host["Tmpfs"] == {"/scratch": ""}


def test_the_profile_of_system_calls_goes_as_text_and_not_as_a_path() -> None:
    profile = json.loads(seccomp_profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "\n" not in seccomp_profile()


def test_only_a_sealed_agent_cannot_gain_privileges() -> None:
    assert "no-new-privileges" in agent()["HostConfig"]["SecurityOpt"]
    assert "no-new-privileges" not in agent(replace(SPEC, network="bridge"))["HostConfig"]["SecurityOpt"]


def test_the_budget_is_mounted_read_only_beside_the_users_mounts() -> None:
    host = agent(
        replace(SPEC, docker_args=read_docker_args(["-v/data:/data:ro", "--mount=type=volume,src=v,dst=/v"], "sealed"))
    )["HostConfig"]
    assert host["Mounts"][0] == {
        "Type": "bind",
        "Source": "/r/run-2026-11-25/claude/budget",
        "Target": "/run/preflight",
        "ReadOnly": True,
    }
    assert [mount["Target"] for mount in host["Mounts"]] == ["/run/preflight", "/v", "/data"]
    assert host["Mounts"][2] == {"Type": "bind", "Source": "/data", "Target": "/data", "ReadOnly": True}
    assert "Binds" not in host  # which the engine would make where it is missing


def test_a_path_with_a_comma_and_a_quote_is_a_path_like_any_other() -> None:
    assert gate("sealed", Path('/a,b"c/g.sock'))["HostConfig"]["Mounts"][0]["Source"] == '/a,b"c'


def test_making_a_body_changes_nothing_that_others_are_made_of() -> None:
    spec = replace(SPEC, docker_args=read_docker_args(["--cap-drop=KILL", "-v/data:/data:ro", "-v/x:/x"], "sealed"))
    assert [mount["Target"] for mount in agent(spec)["HostConfig"]["Mounts"]] == ["/run/preflight", "/data", "/x"]
    assert agent(spec) == agent(spec)
    assert agent() == agent()
    assert "KILL" in container_config.CAPABILITIES


@each("network", ["host", "none", "container:abc", "default", ""])
def test_networks_that_would_not_be_the_trials_own_are_refused(network: str) -> None:
    with pytest.raises(ConfigError, match="choose 'sealed', 'bridge'"):
        check_network(network)


@each("network", ["sealed", "bridge", "my-net_1"])
def test_other_networks_are_accepted(network: str) -> None:
    check_network(network)


def test_the_environment_is_name_and_value_as_they_are() -> None:
    given = {"A": "x=y z", "B": "", "C": '"q" # ', "D": "a\nb\r\tü", "a b": "#", "#A": "1"}
    assert agent(replace(SPEC, env=given))["Env"] == ["A=x=y z", "B=", 'C="q" # ', "D=a\nb\r\tü", "a b=#", "#A=1"]


def test_a_portable_gate_has_a_volume_instead_of_our_socket_and_no_more_of_a_network() -> None:
    body = gate("sealed", None)
    volume = {"Type": "volume", "Source": "ap-claude-run-2026-11-25-volume-abc123", "Target": "/run/preflight-gate"}
    assert body["HostConfig"]["Mounts"] == forwarder()["HostConfig"]["Mounts"] == [volume]
    assert body["HostConfig"]["NetworkMode"] == "none"
    assert body["Cmd"] == ["/run/preflight-gate/gate.sock", "8788", "443"]


def test_a_forwarder_has_the_bridge_and_its_pass_in_its_environment_alone() -> None:
    body = forwarder()
    assert body["HostConfig"]["NetworkMode"] == "bridge"
    entrypoint = ["python3", "-I", "-S", "/forward.py", "/run/preflight-gate/gate.sock", "172.17.0.1", "4711"]
    assert body["Entrypoint"] == [*entrypoint, "8788", "443"]
    assert body.pop("Env") == [f"PREFLIGHT_PASS={PASS}"]
    assert PASS not in json.dumps(body)


def test_only_a_name_of_the_host_is_given_to_the_forwarder() -> None:
    assert forwarder("host.docker.internal")["HostConfig"]["ExtraHosts"] == ["host.docker.internal:host-gateway"]
    assert not forwarder("172.17.0.1")["HostConfig"].get("ExtraHosts")


def inspected(name: str) -> dict[str, Any]:
    found = subprocess.run([ENGINE, "inspect", name], capture_output=True, check=True).stdout
    return dict(json.loads(found)[0])


@pytest.mark.docker
async def test_the_engine_gave_the_gate_nothing(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("true")
    await sandbox.create()
    head, _, suffix = sandbox.container_name.rpartition("-")
    found = await asyncio.to_thread(inspected, f"{head}-gate-{suffix}")
    host, config = found["HostConfig"], found["Config"]
    assert found["State"]["Running"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert config["User"] == "47115:47115"
    assert host["LogConfig"]["Type"] == "none"


@pytest.mark.docker
async def test_the_engine_gave_the_agent_what_the_body_says(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("true", memory="64m", cpus="0.5", docker_args=("--tmpfs=/scratch",))
    await sandbox.create()
    host = (await asyncio.to_thread(inspected, sandbox.container_name))["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert {name.removeprefix("CAP_") for name in host["CapAdd"]} == set(container_config.CAPABILITIES)
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 4096)
    assert "no-new-privileges" in host["SecurityOpt"]
    assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    assert host["Init"]
    assert not host["Privileged"]
    assert [mount["Target"] for mount in host["Mounts"] if mount.get("ReadOnly")] == ["/run/preflight"]


def test_an_agents_label_says_what_of_its_output_a_sweep_keeps_and_no_image_says_otherwise() -> None:
    wish = OutputPolicy("/out", mounts=("data",))
    kept, not_kept = (
        agent_config(replace(SPEC, output=each), TAG, "g", "{}")["Labels"] for each in (wish, OutputPolicy(unkept="x"))
    )
    assert OutputPolicy.read(kept["agent-preflight.output"]) == wish
    assert not_kept["agent-preflight.output"] == ""
