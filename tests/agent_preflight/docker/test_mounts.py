"""Which host paths a trial may see."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent_preflight.docker.mounts import Mounts, check_mounts
from preflight_proxy.errors import ConfigError
from tests.cases import each

RUN = "/r/run-1"
LINKS = {"/var/run/docker.sock": "/run/docker.sock", "/var/run": "/run"}


def check(volumes: Sequence[str] = (), options: Sequence[str] = (), *, allow: bool = False) -> Mounts:
    return check_mounts(
        volumes,
        options,
        run_dir=RUN,
        own_dir=f"{RUN}/me",
        allow_engine_socket=allow,
        resolve=lambda path: LINKS.get(path, path),
    )


@each("source", ["/var/run/docker.sock", "/run/docker.sock", "/run", "/var/run", "/", "/run/podman"])
def test_the_engines_socket_is_refused_by_whatever_path_it_comes(source: str) -> None:
    with pytest.raises(ConfigError, match="allow_docker_socket=True"):
        check([f"{source}:/x:ro"])


@each(
    "option",
    ["--volume=/run/docker.sock:/s", "--mount=type=bind,src=/run,target=/x", '--mount=type=bind,"source=/",target=/x'],
)
def test_an_option_is_judged_as_a_mount_is(option: str) -> None:
    with pytest.raises(ConfigError, match="allow_docker_socket=True"):
        check(options=[option])


def test_the_users_word_lets_the_socket_in() -> None:
    assert check(["/run/docker.sock:/s"], allow=True).sources == ("/run/docker.sock",)


def test_the_whole_machine_is_warned_about_where_the_socket_is_allowed() -> None:
    assert "the agent sees / of this machine" in check(["/:/host"], allow=True).warnings[0]


@each("source", ["/etc", "/root", "/var/lib/docker"])
def test_places_that_tell_too_much_are_warned_about(source: str) -> None:
    assert f"the agent sees {source}" in check([f"{source}:/x"]).warnings[0]


@each("source", [RUN, "/r", f"{RUN}/other", f"{RUN}/other/workspace"])
def test_other_trials_folders_are_warned_about(source: str) -> None:
    assert "other trials" in check([f"{source}:/x"]).warnings[0]


def test_ordinary_mounts_and_the_trials_own_folder_pass_in_silence() -> None:
    volumes = ["/data:/data:ro", f"{RUN}/me/workspace:/workspace/output", "named:/cache", "/anonymous"]
    assert check(volumes, ["--mount=type=volume,source=named,target=/x"]) == Mounts(
        ("/data", f"{RUN}/me/workspace"), ()
    )
