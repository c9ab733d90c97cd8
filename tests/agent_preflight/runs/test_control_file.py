"""A live run's folder says where its sockets are."""

import os
from pathlib import Path

import pytest

from agent_preflight.runs.control_file import RunControl, is_short_dir_of, read_control
from agent_preflight.runs.folder import open_new


def test_it_is_there_as_long_as_the_run_is_and_for_its_owner_alone(tmp_path: Path) -> None:
    with open_new(tmp_path, "r") as folder:
        control = read_control(folder.path)
        assert control == RunControl(folder.short_dir / "control.sock", folder.short_dir, os.getpid())
        assert (folder.path / "control.json").stat().st_mode & 0o077 == 0
    assert read_control(tmp_path / "r") is None


def test_a_directory_of_sockets_shows_by_its_name_whose_it_is(tmp_path: Path) -> None:
    with open_new(tmp_path, "r") as folder, open_new(tmp_path, "r") as other:
        name = folder.short_dir.name
        assert is_short_dir_of(name, folder.path)
        assert not is_short_dir_of(name, other.path)
        changed = name[:-1] + ("1" if name[-1] == "0" else "0")
        for wrong in (changed, name + "0", name[:-1], name.removeprefix("ap-"), "ap-", ""):
            assert not is_short_dir_of(wrong, folder.path)


@pytest.mark.parametrize("content", ["", "5", "{}", '{"socket": 1, "directory": "d", "pid": 1}', '{"socket": "s"}'])
def test_what_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "control.json").write_text(content)
    assert read_control(tmp_path) is None
