"""The document by which a score's container is created. What it does in a real engine: tests/agent_preflight/docker."""

from pathlib import Path
from typing import Any

from agent_preflight.docker.container_config import CAPABILITIES, PIDS_MAX
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.docker.sandbox import seccomp_profile
from agent_preflight.options.container_options import read_docker_args
from agent_preflight.scoring.container import SCORE_FOLDER, SCORED_OUTPUT, score_config

LABELS = TrialLabels("run-1", Path("/runs/run-1"), "nano")


def config(*docker_args: str) -> dict[str, Any]:
    given = read_docker_args(docker_args, "sealed")
    return score_config(
        "tests", "pytest", {"PREFLIGHT_ALIAS": "nano", "PREFLIGHT_OUTPUT": "/x"}, Path("/o"), LABELS, given
    )


def test_it_has_no_network_no_key_and_the_rights_of_a_sealed_agent() -> None:
    made = config()
    host = made["HostConfig"]
    assert (host["NetworkMode"], host["CapDrop"], host["CapAdd"]) == ("none", ["ALL"], list(CAPABILITIES))
    assert host["SecurityOpt"] == [f"seccomp={seccomp_profile()}", "no-new-privileges"]
    assert (host["PidsLimit"], host["LogConfig"], host["Init"]) == (PIDS_MAX, {"Type": "none"}, True)
    assert made["Env"] == ["PREFLIGHT_ALIAS=nano", f"PREFLIGHT_OUTPUT={SCORED_OUTPUT}"]


def test_the_output_is_all_that_it_mounts_and_is_read_only() -> None:
    host = config("--volume=/a:/b", "--mount=type=bind,source=/c,target=/d", "--tmpfs=/t", "--gpus=all")["HostConfig"]
    assert host["Mounts"] == [{"Type": "bind", "Source": "/o", "Target": SCORED_OUTPUT, "ReadOnly": True}]
    assert ("Binds" in host, list(host["Tmpfs"]), "DeviceRequests" in host) == (False, [SCORE_FOLDER], False)


def test_limits_and_the_user_of_the_agents_hold_and_their_program_does_not() -> None:
    made = config("--memory=1g", "--cpus=1.5", "--pids-limit=9", "--cap-drop=CHOWN", "--user=1000", "--entrypoint=x")
    host = made["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (2**30, 1_500_000_000, 9)
    assert host["CapDrop"] == ["ALL", "CAP_CHOWN"]
    assert (made["User"], made["Entrypoint"], made["Cmd"]) == ("1000", ["/bin/sh", "-c"], ["pytest"])
    assert config()["User"] == "0:0"
    assert made["WorkingDir"] == SCORE_FOLDER


def test_its_labels_say_to_a_sweep_whose_it_is() -> None:
    labels = config()["Labels"]
    assert (labels["agent-preflight.role"], labels["agent-preflight.trial"]) == ("score", "nano")
    assert LABELS.name("score").startswith("ap-nano-run-1-score-")
