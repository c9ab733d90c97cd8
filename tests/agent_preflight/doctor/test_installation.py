"""Which Python, which package, which system."""

import pytest

from agent_preflight.doctor.installation import installation, package_line, platform_line, python_line


def test_here_it_is_as_it_must_be() -> None:
    assert [line.ok for line in installation()[:2]] == [True, True]


def test_an_older_python_is_a_problem() -> None:
    assert python_line((3, 10)).ok is False
    assert python_line((3, 11)).ok


@pytest.mark.parametrize("others", [{"agent-preflight"}, set()])
def test_two_packages_of_one_import_name_are_a_problem(others: set[str]) -> None:
    line = package_line({"ai-preflight", *others})
    assert line.ok is False
    assert line.hint.startswith("pip uninstall ai-preflight")
    assert package_line({"agent-preflight"}).ok


def test_linux_is_the_place_macos_has_processes_windows_has_wsl() -> None:
    assert platform_line("linux", "6.1.0").ok
    assert "(WSL2)" in platform_line("linux", "5.15.0-microsoft-standard").detail
    assert platform_line("darwin", "24").ok is None
    assert platform_line("win32", "11").ok is False
