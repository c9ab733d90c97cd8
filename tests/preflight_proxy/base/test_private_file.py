"""What lies in the way of a private file is neither followed nor left half overwritten."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from preflight_proxy.base.private_file import write_private, write_ready_file
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


def test_a_private_file_follows_no_link_that_lies_in_its_way(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    for name in ("secret", "secret.new"):
        (tmp_path / name).symlink_to(target)
    write_private(tmp_path / "secret", "new")
    assert (target.read_text(), (tmp_path / "secret").read_text()) == ("mine", "new")
    assert not (tmp_path / "secret").is_symlink()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        write_private(tmp_path / "nowhere" / "x", "")
