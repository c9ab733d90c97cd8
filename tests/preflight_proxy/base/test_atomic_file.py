"""A file is replaced as a whole; nothing that lies in its way is followed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from preflight_proxy.base.atomic_file import replace_file, write_private, write_ready_file
from preflight_proxy.core.errors import ConfigError


def test_a_ready_file_is_whole_private_and_names_the_process(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("of a former process")
    path.chmod(0o644)
    write_ready_file(path, {"base_url": None, "accounts": {}})
    written = json.loads(path.read_text())
    assert written.keys() == {"base_url", "accounts", "pid"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_atomic_file_follows_no_link_that_lies_in_its_way(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    for name in ("secret", ".secret.new"):
        (tmp_path / name).symlink_to(target)
    write_private(tmp_path / "secret", "new")
    assert (target.read_text(), (tmp_path / "secret").read_text()) == ("mine", "new")
    assert not (tmp_path / "secret").is_symlink()


def test_a_file_has_its_mode_whatever_the_umask_and_is_replaced_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0o077)
    try:
        replace_file(path, b"old", mode=0o644)
        with path.open("rb") as old:
            replace_file(path, b"new", mode=0o644, synced=True)
            assert old.read() == b"old"
    finally:
        os.umask(before)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        write_private(tmp_path / "nowhere" / "x", "")


def test_a_file_that_cannot_be_replaced_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "taken", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
