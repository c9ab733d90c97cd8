"""Which host paths a trial may see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agent_preflight.docker.mounts import (
    ON_TMPFS,
    OWN_MOUNT,
    Bind,
    beside_mounts,
    binds,
    check_mounts,
    mount_of_output,
    refuse_missing,
    targets,
    tmpfs_warning,
    volumes,
)
from agent_preflight.options.container_options import Fields, merge, read_docker_args
from agent_preflight.sandboxes.kept_output import OutputPolicy
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each

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
def test_places_that_may_hold_secrets_are_warned_about(source: str) -> None:
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
        Bind("/h", "/i/", writable=False, is_made=False),
    ]
    assert volumes(fields["HostConfig"]) == [
        Bind("name", "/e", writable=False),
        Bind("v", "/g", writable=True, is_made=False),
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


WISH = OutputPolicy("/workspace/output")


def fields(*options: str) -> Fields:
    return read_docker_args(options, "sealed").agent


@each(
    "options",
    [
        ["-v/h:/workspace/output"],
        ["-v/h:/workspace/output/:ro,z"],
        ["-v/h:/workspace"],
        ["-vname:/workspace/output"],
        ["-v/h:/workspace/x/../output"],
        ["-v/h:/"],
        ["--mount=type=bind,src=/h,dst=/workspace/output"],
        ["--mount=type=volume,src=name,dst=/workspace"],
        ["--tmpfs=/workspace", "-v/h:/workspace/output"],
    ],
)
def test_nothing_is_copied_of_a_folder_that_is_the_users_own_mount(options: list[str]) -> None:
    assert beside_mounts(WISH, fields(*options)).unkept == OWN_MOUNT
    assert tmpfs_warning(WISH, fields(*options)) is None


@each(
    "options",
    [
        ["--tmpfs=/workspace/output:size=1m"],
        ["--tmpfs=/workspace/"],
        ["--mount=type=tmpfs,dst=/workspace/output"],
        ["-v/h:/workspace", "--tmpfs=/workspace/output"],
    ],
)
def test_a_folder_on_a_tmpfs_is_lost_and_warned_of(options: list[str]) -> None:
    assert beside_mounts(WISH, fields(*options)).unkept == ON_TMPFS
    assert "is a tmpfs: what agents write there is gone" in str(tmpfs_warning(WISH, fields(*options)))


@each(
    "options",
    [
        [],
        ["-v/workspace/output"],
        ["-v/h:/workspace/out"],
        ["-v/h:/workspace/output2"],
        ["--mount=type=volume,dst=/workspace/output"],
    ],
)
def test_a_folder_that_is_the_containers_own_is_copied(options: list[str]) -> None:
    assert beside_mounts(WISH, fields(*options)) == WISH


def test_mounts_below_the_folder_are_left_out_and_a_tmpfs_there_is_warned_of() -> None:
    found = beside_mounts(WISH, fields("-v/h:/workspace/output/data/", "--tmpfs=/workspace/output/a/b"))
    assert (found.unkept, found.mounts) == ("", ("a/b", "data"))
    assert str(tmpfs_warning(WISH, fields("--tmpfs=/workspace/output/a/b"))).startswith("/workspace/output/a/b is")


def test_where_nothing_is_to_be_kept_nothing_is_warned_of() -> None:
    off = OutputPolicy(unkept="off")
    assert (
        beside_mounts(off, fields("--tmpfs=/workspace")).unkept,
        tmpfs_warning(off, fields("--tmpfs=/workspace")),
    ) == ("off", None)


@each(
    "options, place",
    [
        ([], None),
        (["-v/h:/workspace/output/in"], None),
        (["-v/workspace/output"], None),
        (["-v/h:/workspace/output"], ("bind", "/h", ".")),
        (["-v/h:/workspace"], ("bind", "/h", "output")),
        (["-v/h:/", "-v/i:/workspace/"], ("bind", "/i", "output")),
        (["-vdata:/workspace"], ("volume", "data", "output")),
        (["-v/h:/", "--tmpfs=/workspace"], ("tmpfs", "", "output")),
    ],
)
def test_the_mount_of_an_output_is_the_nearest_above_it(options: list[str], place: object) -> None:
    assert mount_of_output(WISH, fields(*options)) == place
