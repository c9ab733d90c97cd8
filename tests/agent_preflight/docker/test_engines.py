"""Whose command it is: by what it says, never by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent_preflight.docker.engines import DOCKER, Command, Kind, identify, podman_version, read_podman
from agent_preflight.docker.failure import DockerError, Failure
from tests.agent_preflight.docker.conftest import Scripted
from tests.cases import each

HOST = {
    "serviceIsRemote": False,
    "security": {"rootless": False},
    "ociRuntime": {"name": "runc", "path": "/usr/bin/runc"},
}


def podman(version: str = "4.3.1", **host: Any) -> dict[str, str]:
    """What a scripted Podman says that it is."""
    return {"version": f"podman version {version}", "host": json.dumps(HOST | host)}


@each(
    "text, version",
    [
        ("podman version 4.3.1\n", "4.3.1"),
        ("podman-remote version 5.4.2\n", "5.4.2"),
        ("Docker version 28.2.2, build e6534b4\n", None),
        ("", None),
    ],
)
def test_only_podman_says_that_it_is_podman(text: str, version: str | None) -> None:
    assert podman_version(text) == version


def test_the_podman_on_which_our_tests_pass_is_taken() -> None:
    assert read_podman("podman", "4.3.9", json.dumps(HOST)) == Command(Kind.PODMAN, "/usr/bin/runc")


@each(
    "version, host, reason",
    [
        ("4.4.0", {}, "not on 4.4.0"),
        ("5.4.2", {}, "not on 5.4.2"),
        ("4.3.1", {"serviceIsRemote": True}, "remote Podman"),
        ("4.3.1", {"security": {"rootless": True}}, "without root"),
        ("4.3.1", {"ociRuntime": {"name": "kata", "path": "/usr/bin/kata"}}, "not with kata below it"),
    ],
)
def test_another_is_refused_in_words(version: str, host: dict[str, Any], reason: str) -> None:
    with pytest.raises(
        DockerError, match=f"/opt/docker is not used: our container tests .*{reason}.*Use docker"
    ) as caught:
        read_podman("/opt/docker", version, json.dumps(HOST | host))
    assert caught.value.failure is Failure.NO_COMMAND


@each("text", ["", "null", "{}", "Error"])
def test_a_podman_that_says_nothing_of_itself_is_no_engine(text: str) -> None:
    with pytest.raises(DockerError, match="`podman info` must work"):
        read_podman("podman", "4.3.1", text)


@pytest.mark.wire
def test_a_command_named_docker_is_asked_and_only_once(scripted: Scripted) -> None:
    script = scripted("", **podman())
    assert identify(str(script.path)).kind is Kind.PODMAN
    script.path.write_text("#!/bin/sh\nexit 1\n")
    assert identify(str(script.path)).kind is Kind.PODMAN


def test_a_command_that_is_not_there_is_taken_for_docker_and_asked_again() -> None:
    assert identify("/no/such/docker") == DOCKER


@pytest.mark.wire
def test_an_engine_that_is_away_says_nothing_about_whose_command_it_is(scripted: Scripted) -> None:
    assert identify(str(scripted("*) exit 1;;").path)) == DOCKER
