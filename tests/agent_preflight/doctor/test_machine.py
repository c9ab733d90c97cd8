"""Which Python, which package, which system."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from agent_preflight.doctor.machine import (
    NAME,
    cookies_line,
    files_line,
    installation,
    package_line,
    platform_line,
    socket_path_line,
    system_lines,
)
from preflight_proxy.base.gate_handshake import netns_cookie
from tests.support.cases import each

ROOT = Path(__file__).parents[3]


def test_this_installation_passes() -> None:
    assert [line.ok for line in installation()[:2]] == [True, True]


def install(folder: Path, name: str, *files: str, editable: Path | None = None) -> Path:
    """Put a distribution into a folder as pip leaves it there: its files, its metadata, its record."""
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{info.name}/METADATA"]))
    if editable is not None:
        origin = {"dir_info": {"editable": True}, "url": editable.as_uri()}
        (info / "direct_url.json").write_text(json.dumps(origin))
    return folder


def distributions_in(*folders: Path) -> list[Distribution]:
    return list(distributions(path=[str(folder) for folder in folders]))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("agent-preflight", ()),
        ("Agent_Preflight", ()),
        ("ai-preflight", ("ai_preflight.py",)),
        ("somebodys-fork", ("agent_preflight/__init__.py", "agent_preflight/core.py")),
    ],
)
def test_another_package_of_the_same_import_name_is_a_problem(tmp_path: Path, name: str, files: Sequence[str]) -> None:
    for ours in (True, False):
        folder = install(tmp_path / str(ours), name, *files)
        if ours:
            install(folder, NAME, "agent_preflight/__init__.py", "preflight_proxy/__init__.py")
        line = package_line(distributions_in(folder))
        assert line.ok is False
        plain = name.lower().replace("_", "-")
        assert plain in line.detail
        assert line.hint == f"pip uninstall {plain} {NAME}, then `pip install .` in a checkout"


def test_two_others_are_both_named(tmp_path: Path) -> None:
    install(tmp_path, "agent-preflight", "agent_preflight/core.py")
    line = package_line(distributions_in(install(tmp_path, "ai-preflight")))
    assert line.hint.startswith(f"pip uninstall agent-preflight ai-preflight {NAME},")


def test_our_package_and_packages_with_similar_names_pass(tmp_path: Path) -> None:
    install(tmp_path, NAME, "agent_preflight/__init__.py")
    install(tmp_path, "preflight", "preflight/__init__.py", "agent_preflight.txt", "docs/agent_preflight/x")
    assert package_line(distributions_in(tmp_path)).ok


def test_an_editable_installation_of_this_folder_is_ours_whatever_its_name(tmp_path: Path) -> None:
    here = install(tmp_path / "here", "agent-preflight", editable=ROOT)
    assert package_line(distributions_in(here)).ok
    elsewhere = install(tmp_path / "elsewhere", "agent-preflight", editable=tmp_path)
    assert package_line(distributions_in(elsewhere)).ok is False


@pytest.mark.wire
def test_doctor_says_what_to_do_about_another_package(tmp_path: Path) -> None:
    """The command itself, in a Python whose path holds one more distribution."""
    install(tmp_path, "agent-preflight", "agent_preflight/__init__.py", "agent_preflight/cli.py")
    path = os.pathsep.join([str(ROOT), str(ROOT / "proxy"), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-m", "agent_preflight", "doctor", "--offline", "--no-containers"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "300"},
    )
    assert done.returncode == 1, done.stderr
    assert "agent-preflight (another project) is installed in this Python" in done.stdout
    assert f"pip uninstall agent-preflight {NAME}" in done.stdout


def test_linux_passes_macos_is_a_warning_and_windows_fails() -> None:
    assert platform_line("linux", "6.1.0").ok
    assert "(WSL2)" in platform_line("linux", "5.15.0-microsoft-standard").detail
    assert platform_line("darwin", "24").ok is None
    assert platform_line("win32", "11").ok is False


def test_each_finding_on_the_system_has_its_name() -> None:
    assert [line.name for line in system_lines()] == ["Open files", "Network namespaces", "Socket paths"]


@each("hard, ok, trials", [(512, False, "0 trials"), (1024, None, "2 trials"), (2560, True, "8 trials")])
def test_the_limit_of_open_files_is_shown_in_trials(hard: int, ok: bool | None, trials: str) -> None:
    line = files_line(hard)
    assert line.ok is ok
    assert trials in line.detail


def test_an_unlimited_number_of_open_files_passes() -> None:
    assert files_line(resource.RLIM_INFINITY).ok


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels name no namespaces")
def test_this_kernel_names_network_namespaces() -> None:
    assert cookies_line(netns_cookie()).ok
    assert cookies_line(None).ok is None


def test_a_long_temporary_directory_is_not_used_for_sockets(tmp_path: Path) -> None:
    assert socket_path_line("/tmp").ok
    assert socket_path_line("/tmp/" + "x" * 60).ok is None
    assert socket_path_line("/nowhere").ok is False
