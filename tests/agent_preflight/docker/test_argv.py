"""Command lines of the docker command, as values."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from agent_preflight.docker import argv
from agent_preflight.docker.engines import Kind
from agent_preflight.docker.podman import CLOSED
from agent_preflight.sandbox import AgentSpec
from preflight_proxy.errors import ConfigError
from tests.cases import each

TAG = argv.Tag("run-2026-11-25", Path("/r/run-2026-11-25"), "claude", "boot:1:2", "2026-12-02T00:00:00+00:00", "abc123")
SPEC = AgentSpec(
    run_id="run-2026-11-25",
    alias="claude",
    run_dir=Path("/r/run-2026-11-25"),
    image="me/agent",
    command=("--model", "a/b"),
    env={"OPENROUTER_API_KEY": "pf-secret"},
    mounts=("/data:/data:ro",),
    network="sealed",
    workspace_path="/workspace/output",
    budget_dir=Path("/r/run-2026-11-25/claude/budget"),
    gate_socket=Path("/tmp/ap-x/g0/gate.sock"),
    memory="2g",
    cpus="1.5",
)


def pairs(args: list[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(args))


def gate(network: str = "sealed") -> list[str]:
    assert SPEC.gate_socket is not None
    return argv.gate_create(TAG, network, SPEC.gate_socket, "sha256:1", ["--publish=80:80"], (8788, 443))


def agent(spec: AgentSpec = SPEC) -> list[str]:
    return argv.agent_create(spec, TAG, "gate1", Path("/tmp/x/env"), Path("/p/seccomp.json"), ["--tmpfs=/scratch"])


def test_a_name_carries_run_and_trial_in_full() -> None:
    assert TAG.name("agent") == "ap-claude-run-2026-11-25-abc123"
    assert TAG.name("gate") == "ap-claude-run-2026-11-25-gate-abc123"


def test_a_name_has_only_characters_that_the_engine_allows() -> None:
    assert replace(TAG, alias="a:b/ü").name("agent") == "ap-a-b---run-2026-11-25-abc123"


def test_everything_carries_the_labels_that_a_sweep_looks_for() -> None:
    for args in (gate(), agent()):
        labels = {value.partition("=")[0] for key, value in pairs(args) if key == "--label"}
        wanted = ("run", "dir", "trial", "role", "owner", "expires")
        assert labels >= {f"agent-preflight.{name}" for name in wanted}


def test_a_sealed_gate_has_no_network_and_no_resolver() -> None:
    assert {("--network", "none"), ("--dns", "127.0.0.1")} <= pairs(gate())
    assert "host.docker.internal:host-gateway" not in gate()


def test_an_open_gate_has_the_network_that_was_asked_for_and_the_way_to_the_host() -> None:
    assert {("--network", "mine"), ("--add-host", "host.docker.internal:host-gateway")} <= pairs(gate("mine"))


@pytest.mark.parametrize("network", ["sealed", "bridge"])
def test_a_gate_is_weak_in_every_mode(network: str) -> None:
    wanted = {("--cap-drop", "ALL"), ("--security-opt", "no-new-privileges"), ("--log-driver", "none")}
    assert wanted <= pairs(gate(network))
    assert "--read-only" in gate(network)


def test_a_gate_gets_its_sockets_directory_and_its_ports() -> None:
    args = gate()
    assert ("--mount", "type=bind,source=/tmp/ap-x/g0,target=/run/preflight-gate") in pairs(args)
    assert args[-4:] == ["sha256:1", "/run/preflight-gate/gate.sock", "8788", "443"]
    assert "--publish=80:80" in args


def test_an_agent_lives_in_its_gates_network_and_nowhere_else() -> None:
    assert [value for key, value in pairs(agent()) if key == "--network"] == ["container:gate1"]


def test_no_value_of_the_environment_is_an_argument() -> None:
    assert not any("pf-secret" in arg for arg in agent())
    assert ("--env-file", "/tmp/x/env") in pairs(agent())


def test_an_agents_image_comes_after_all_options_and_its_arguments_last() -> None:
    assert agent()[-4:] == ["--tmpfs=/scratch", "me/agent", "--model", "a/b"]


def test_nothing_is_pulled() -> None:
    assert ("--pull", "never") in pairs(gate())
    assert ("--pull", "never") in pairs(agent())


def test_an_agents_privileges_and_limits_are_named() -> None:
    args = pairs(agent())
    assert {("--cap-drop", "ALL"), ("--cap-add", "CHOWN"), ("--pids-limit", "4096")} <= args
    assert {("--memory", "2g"), ("--cpus", "1.5"), ("--security-opt", "seccomp=/p/seccomp.json")} <= args
    assert ("--cap-add", "NET_RAW") not in args


def test_only_a_sealed_agent_cannot_gain_privileges() -> None:
    assert ("--security-opt", "no-new-privileges") in pairs(agent())
    assert ("--security-opt", "no-new-privileges") not in pairs(agent(replace(SPEC, network="bridge")))


def test_what_is_in_force_is_said_in_one_line() -> None:
    line = argv.in_force(SPEC)
    assert all(part in line for part in ("network sealed", "no new privileges", "pids 4096", "memory 2g", "cpus 1.5"))
    open_line = argv.in_force(replace(SPEC, network="bridge", memory=None))
    assert "no new privileges" not in open_line
    assert "memory unlimited" in open_line


def test_the_budget_is_mounted_read_only() -> None:
    mount = "type=bind,source=/r/run-2026-11-25/claude/budget,target=/run/preflight,readonly"
    assert ("--mount", mount) in pairs(agent())


def test_a_path_with_a_comma_and_a_quote_stays_one_field() -> None:
    assert argv.bind_mount(Path('/a,b"c'), "/t") == ["--mount", 'type=bind,"source=/a,b""c",target=/t']


@each("network", ["host", "none", "container:abc", "default", ""])
def test_networks_that_would_not_be_the_trials_own_are_refused(network: str) -> None:
    with pytest.raises(ConfigError, match="choose 'sealed', 'bridge'"):
        argv.check_network(network)


def test_the_environment_file_is_name_and_value_as_they_are() -> None:
    assert argv.env_file_text({"A": "x=y z", "B": "", "C": '"q" # '}) == 'A=x=y z\nB=\nC="q" # \n'


@each("name", ["", "A B", "A=B", "#A", "A\nB", "\tA"])
def test_a_name_that_docker_would_read_differently_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        argv.env_file_text({name: "x"})


@each("value", ["a\nb", "a\rb", "a\0b", "x" * 60_001])
def test_a_value_that_cannot_be_passed_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(ValueError, match="KEY") as caught:
        argv.env_file_text({"KEY": value})
    assert value not in str(caught.value)


def test_a_sandbox_finds_just_its_own() -> None:
    assert ("--filter", "label=agent-preflight.sandbox=abc123") in pairs(TAG.filters("gate"))
    assert ("--filter", "label=agent-preflight.role=gate") in pairs(TAG.filters("gate"))


def test_a_portable_gate_has_a_volume_instead_of_our_socket_and_no_more_of_a_network() -> None:
    args = argv.gate_create(TAG, "sealed", None, "sha256:1", ports=(8788, 443))
    volume = "type=volume,source=ap-claude-run-2026-11-25-volume-abc123,target=/run/preflight-gate"
    assert {("--network", "none"), ("--mount", volume)} <= pairs(args)
    assert args[-3:] == [argv.FORWARDER_SOCKET, "8788", "443"]
    assert not any("type=bind" in arg for arg in args)
    forwarder = argv.forwarder_create(TAG, "host.docker.internal", 4711, Path("/tmp/x/env"), "sha256:1", (8788, 443))
    assert {("--mount", volume), ("--add-host", "host.docker.internal:host-gateway")} <= pairs(forwarder)
    assert argv.volume_create(TAG)[-1] == "ap-claude-run-2026-11-25-volume-abc123"


def test_only_a_name_of_the_host_is_given_to_the_forwarder() -> None:
    assert "--add-host" not in argv.forwarder_create(TAG, "172.17.0.1", 4711, Path("/tmp/x/env"), "sha256:1")


def podman_agent(network: str) -> list[str]:
    spec = replace(SPEC, network=network)
    return argv.agent_create(spec, TAG, "gate1", Path("/tmp/x/env"), Path("/p/s.json"), kind=Kind.PODMAN)


def test_podman_takes_no_names_for_a_gate_without_a_network() -> None:
    args = argv.gate_create(TAG, "sealed", SPEC.gate_socket, "1", kind=Kind.PODMAN)
    assert ("--network", "none") in pairs(args)
    assert "--no-hosts" in args
    assert not {"--dns", "--add-host"} & set(args)
    assert set(CLOSED) < set(args)


def test_podman_is_told_where_the_host_is_in_its_own_network() -> None:
    args = argv.gate_create(TAG, "bridge", SPEC.gate_socket, "1", services=("los",), kind=Kind.PODMAN, host="10.88.0.1")
    wanted = {"host.docker.internal:10.88.0.1", "openrouter.ai:127.0.0.1", "los:127.0.0.1"}
    assert {value for key, value in pairs(args) if key == "--add-host"} == wanted
    assert ("--network", "podman") in pairs(args)


def test_a_sealed_agent_on_podman_has_its_names_in_files_that_it_cannot_write() -> None:
    mounts = {value for key, value in pairs(podman_agent("sealed")) if key == "--mount"}
    folder = "/r/run-2026-11-25/claude/budget"
    assert f"type=bind,source={folder}/hosts,target=/etc/hosts,readonly" in mounts
    assert f"type=bind,source={folder}/resolv.conf,target=/etc/resolv.conf,readonly" in mounts
    assert not any("/etc/hosts" in arg for arg in podman_agent("bridge"))


@each("network", ["sealed", "bridge"])
def test_an_agent_on_podman_is_added_no_capability_and_is_closed_whatever_a_file_says(network: str) -> None:
    args = podman_agent(network)
    assert "--cap-add" not in args
    dropped = {value for key, value in pairs(args) if key == "--cap-drop"}
    assert {"SYS_ADMIN", "NET_RAW", "SYS_PTRACE"} < dropped
    assert not dropped & set(argv.CAPABILITIES)
    assert set(CLOSED) < set(args)
    assert ("--uts", "container:gate1") in pairs(args)
