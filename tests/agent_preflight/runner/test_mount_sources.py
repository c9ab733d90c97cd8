"""The paths that trials mount are checked before anything is made."""

import os
import tempfile
from pathlib import Path

import pytest

from agent_preflight.docker.mounts import Bind
from agent_preflight.runner.mount_sources import MountSource, check_sources, make_folders
from preflight_proxy.core.errors import ConfigError
from tests.support.unprivileged import unprivileged


def wanted(path: object, *, writable: bool = False, is_made: bool = True) -> MountSource:
    return MountSource(Bind(str(path), "/task", writable), is_made)


def test_files_folders_and_links_to_them_are_sources(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    assert check_sources([wanted(tmp_path / name, is_made=False) for name in ("", "file", "link")]).problems == ()


@pytest.mark.parametrize(("writable", "is_made"), [(False, True), (False, False), (True, False)])
def test_a_source_that_is_missing_is_an_error_with_what_to_do(tmp_path: Path, writable: bool, is_made: bool) -> None:
    path = tmp_path / "no such"
    looked = check_sources([wanted(path, writable=writable, is_made=is_made)])
    (problem,) = looked.problems
    assert problem.startswith(f"The mount's source {path} does not exist.")
    assert problem.endswith(f"Correct the path, or make it: mkdir -p '{path}'")
    assert ("The agent would find nothing in /task." in problem) is not writable
    assert (looked.missing, path.exists()) == ((), False)


def test_a_source_to_write_to_that_is_missing_is_made_once_nothing_else_is_wrong(tmp_path: Path) -> None:
    path, said = tmp_path / "a" / "b", list[str]()
    looked = check_sources([wanted(path, writable=True), wanted(path, writable=True)])
    assert (looked.problems, looked.missing, path.exists()) == ((), (str(path),), False)
    make_folders(looked.missing, said.append)
    assert (path.is_dir(), path.stat().st_uid) == (True, os.geteuid())
    assert said == [f"warning: the mount's source {path} was missing: an empty folder was made, which is yours"]


def test_each_path_is_reported_once(tmp_path: Path) -> None:
    assert len(check_sources([wanted(tmp_path / "x"), wanted(tmp_path / "x"), wanted(tmp_path / "y")]).problems) == 2


def test_a_link_that_leads_nowhere_is_reported_as_that_and_never_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    (problem,) = check_sources([wanted(tmp_path / "link", writable=True)]).problems
    assert problem == f"The mount's source {tmp_path}/link is a link to gone, which does not exist."


@pytest.mark.parametrize(
    ("path", "said"), [("/" + "x" * 300, "File name too long"), ("/etc/passwd/x", "does not exist"), ("/a\0b", "null")]
)
def test_a_path_that_cannot_be_is_an_error(path: str, said: str) -> None:
    (problem,) = check_sources([wanted(path, writable=True)]).problems
    assert said in problem


def test_a_folder_that_cannot_be_made_is_an_error_before_anything_is_made() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with unprivileged():
            (problem,) = check_sources([wanted(f"{folder}/x", writable=True)]).problems
    assert problem == f"The mount's source {folder}/x is missing and cannot be made: {folder} cannot be written."


def test_a_place_where_only_the_engine_may_look_is_left_to_it(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o000)
    tmp_path.chmod(0o755)
    with unprivileged():
        assert check_sources([wanted(inner / "x")]).problems == ()
    inner.chmod(0o755)


def test_a_folder_that_cannot_be_made_after_all_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(ConfigError, match=r"is missing and cannot be made: Not a directory\.$"):
        make_folders([str(tmp_path / "f" / "x")], print)
