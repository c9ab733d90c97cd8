"""Which host paths a trial may see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agent_preflight.docker.mounts import Bind, binds, check_mounts, refuse_missing, targets, volumes
from agent_preflight.docker_args import merge, read_docker_args
from preflight_proxy.errors import ConfigError
from tests.cases import each

RUN = "/r/run-1"
LINKS = {"/var/run/docker.sock": "/run/docker.sock", "/var/run": "/run"}


def check(volumes: Sequence[str] = (), options: Sequence[str] = ()) -> list[str]:
    """Judge a container with these mounts, and with these options of the user's own, in one body as they are sent."""
    body: dict[str, Any] = {"HostConfig": {"Binds": list(volumes)}}
    merge(body, read_docker_args(options, "sealed").agent)
    return check_mounts(
        body["HostConfig"], run_dir=RUN, own_dir=f"{RUN}/me", resolve=lambda path: LINKS.get(path, path)
    )


@each("source", ["/var/run/docker.sock", "/run/docker.sock", "/run", "/var/run", "/", "/run/podman"])
def test_the_engines_socket_is_refused_by_whatever_path_it_comes(source: str) -> None:
    with pytest.raises(ConfigError, match="hands the container engine's socket to the agent"):
        check([f"{source}:/x:ro"])


@each(
    "option",
    [
        ["--volume=/run/docker.sock:/s"],
        ["-v", "/run/docker.sock:/s:ro"],
        ["--mount=type=bind,src=/run,target=/x"],
        ["--mount=type=bind,source=/run/containerd,dst=/x,readonly"],
        ['--mount=type=bind,"source=/",target=/x'],
        ["-v/data:/data", "-v/run/docker.sock:/s"],
    ],
)
def test_an_option_is_judged_as_a_mount_is(option: list[str]) -> None:
    with pytest.raises(ConfigError, match="hands the container engine's socket to the agent"):
        check(["/data:/elsewhere"], option)


@each("source", ["/etc", "/root", "/var/lib/docker"])
def test_places_that_tell_too_much_are_warned_about(source: str) -> None:
    assert f"the agent sees {source}" in check([f"{source}:/x"])[0]
    assert f"the agent sees {source}" in check(options=[f"--mount=type=bind,src={source},dst=/x"])[0]


@each("source", [RUN, "/r", f"{RUN}/other", f"{RUN}/other/workspace"])
def test_other_trials_folders_are_warned_about(source: str) -> None:
    assert "other trials" in check([f"{source}:/x"])[0]


def test_ordinary_mounts_and_the_trials_own_folder_pass_in_silence() -> None:
    volumes = ["/data:/data:ro", f"{RUN}/me/workspace:/workspace/output", "named:/cache", "/anonymous"]
    assert check(volumes, ["--mount=type=volume,source=named,target=/x", "--mount=type=tmpfs,dst=/y"]) == []


def test_a_container_without_mounts_passes_in_silence() -> None:
    assert check_mounts({}, run_dir=RUN, own_dir=f"{RUN}/me") == []


OPTIONS = [
    "-v/a:/b:ro,Z",
    "-v/c:/d",
    "-vname:/e:ro",
    "-v/f",
    "--mount=src=v,dst=/g",
    "--mount=type=bind,src=/h,dst=/i/,ro",
]
OPTIONS += ["--tmpfs=/j:size=1m", "--mount=type=tmpfs,dst=/k"]


def test_each_mount_is_a_path_or_a_volume_that_may_be_written_or_not() -> None:
    fields = read_docker_args(OPTIONS, "sealed").agent
    assert binds(fields["HostConfig"]) == [
        Bind("/a", "/b", writable=False),
        Bind("/c", "/d", writable=True),
        Bind("/h", "/i/", writable=False, is_bind=False),
    ]
    assert volumes(fields["HostConfig"]) == [
        Bind("name", "/e", writable=False),
        Bind("v", "/g", writable=True, is_bind=False),
    ]
    assert sorted(targets(fields)) == ["/b", "/d", "/e", "/f", "/g", "/i", "/j", "/k"]
    assert (binds({}), volumes({}), targets({})) == ([], [], [])


@each(
    "volume, mount",
    [
        ("/a:/b", {}),
        ("/a:/b:rw", {}),
        ("/a:/b:ro", {"ReadOnly": True}),
        ("/a:/b:cached", {"Consistency": "cached"}),
        ("/a:/b:rslave,ro", {"ReadOnly": True, "BindOptions": {"Propagation": "rslave"}}),
    ],
)
def test_a_path_is_mounted_so_that_the_engine_does_not_make_it(volume: str, mount: dict[str, Any]) -> None:
    host_config = dict(read_docker_args([f"--volume={volume}"], "sealed").agent["HostConfig"])
    refuse_missing(host_config)
    assert host_config == {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", **mount}]}


@each("volume", ["/a:/b:z", "/a:/b:ro,Z", "/a:/b:Z,rw", "name:/b", "name:/b:ro", "name:/b:nocopy"])
def test_labels_and_volumes_stay_as_they_are(volume: str) -> None:
    host_config = {"Binds": [volume]}
    refuse_missing(host_config)
    assert host_config == {"Binds": [volume]}
