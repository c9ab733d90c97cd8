"""How a stand-alone proxy is found from its data folder."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from preflight_proxy.base.data_folder import (
    SOCKET_PATH_BYTES_MAX,
    control_socket,
    link_control_socket,
    make_folders,
    new_control_socket,
    serving_pid,
)
from preflight_proxy.core.errors import ConfigError
from tests.drills.test_refused_starts import obey_permissions


def test_folders_are_made_and_what_agents_read_is_readable(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    make_folders(data)
    make_folders(data)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (data, data / "budget")] == [0o700, 0o755]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file cannot be made: a file has that name"):
        make_folders(tmp_path / "file")


@pytest.mark.skipif(sys.platform != "linux", reason="drops a capability")
@pytest.mark.parametrize("is_new", [False, True])
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, is_new: bool) -> None:
    source = (
        "import sys; from pathlib import Path; from preflight_proxy.base.data_folder import make_folders\n"
        "try: make_folders(Path(sys.argv[1]))\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )
    data = tmp_path / "data"
    data.mkdir()
    if not is_new:
        make_folders(data)
    data.chmod(0o555)
    command = [sys.executable, "-c", source, str(data)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=obey_permissions)
    finally:
        data.chmod(0o700)
    assert done.stdout.startswith(f"ConfigError The data folder {data} cannot be written to"), done
    assert done.stdout.endswith(". Name another one with --data.\n")


def test_who_listens_on_the_control_socket_serves_the_folder(tmp_path: Path) -> None:
    assert serving_pid(tmp_path) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        assert serving_pid(tmp_path) is None
        listener.listen()
        assert serving_pid(tmp_path) == os.getpid()
    assert serving_pid(tmp_path) is None


def test_a_long_path_is_reached_by_a_link_that_goes_with_the_context(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30)
    data.mkdir()
    with new_control_socket(data) as control:
        assert len(os.fsencode(control)) <= SOCKET_PATH_BYTES_MAX
        assert serving_pid(data) is None
        link_control_socket(data, control)
        link_control_socket(data, control)
        assert control_socket(data) == control
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(control))
            listener.listen()
            assert serving_pid(data) == os.getpid()
    assert list(data.iterdir()) == []
    assert not control.parent.exists()


def test_another_proxys_link_is_left_and_a_dead_ones_is_replaced(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30)
    data.mkdir()
    with new_control_socket(data) as dead:
        link_control_socket(data, dead)
        with new_control_socket(data) as control:
            link_control_socket(data, control)
            (data / "control.sock.new").symlink_to("left by one that was killed")
            link_control_socket(data, control)
            assert control_socket(data) == control
        link_control_socket(data, control)
    assert control_socket(data) == control
    assert [path.name for path in data.iterdir()] == ["control.sock"]


def test_a_short_path_needs_no_link(tmp_path: Path) -> None:
    with new_control_socket(tmp_path) as control:
        link_control_socket(tmp_path, control)
        assert control == control_socket(tmp_path) == tmp_path / "control.sock"
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_only_a_shorter_path_reaches_is_no_proxy_that_does_not_run(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30)
    data.mkdir()
    (tmp_path / "short").symlink_to(data)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "short" / "control.sock"))
        listener.listen()
        assert serving_pid(tmp_path / "short") == os.getpid()
        with pytest.raises(ConfigError, match="shorter path"):
            serving_pid(data)
