"""What the system allows."""

import resource
import sys
from pathlib import Path

import pytest

from agent_preflight.docker.gate_modes import netns_cookie
from agent_preflight.doctor.system import cookies_line, files_line, socket_path_line, system_lines
from tests.support.cases import each


def test_every_finding_has_a_name() -> None:
    assert [line.name for line in system_lines()] == ["Open files", "Network namespaces", "Socket paths"]


@each("hard, ok, trials", [(512, False, "0 trials"), (1024, None, "2 trials"), (2560, True, "8 trials")])
def test_open_files_are_counted_in_trials(hard: int, ok: bool | None, trials: str) -> None:
    line = files_line(hard)
    assert line.ok is ok
    assert trials in line.detail


def test_no_limit_is_enough() -> None:
    assert files_line(resource.RLIM_INFINITY).ok


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels name no namespaces")
def test_this_kernel_names_network_namespaces() -> None:
    assert cookies_line(netns_cookie()).ok
    assert cookies_line(None).ok is None


def test_a_long_temporary_directory_is_not_used_for_sockets(tmp_path: Path) -> None:
    assert socket_path_line("/tmp").ok
    assert socket_path_line("/tmp/" + "x" * 60).ok is None
    assert socket_path_line("/nowhere").ok is False
