"""Which Python runs which package, and whether an older one of the same import name is in its way."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection
from importlib.metadata import distributions
from pathlib import Path

from agent_preflight import __version__
from agent_preflight.checks.line import Line, failed, passed, warned

PYTHON_MIN = (3, 11)
NAME, OLD_NAME = "agent-preflight", "ai-preflight"
"""Distributions with the same import name: files of the one overwrite those of the other."""


def installation() -> tuple[Line, ...]:
    """Return the findings on this Python and what is installed in it."""
    names = {str(found.metadata["Name"] or "").lower().replace("_", "-") for found in distributions()}
    return (python_line(sys.version_info[:2]), package_line(names), platform_line(sys.platform, platform.release()))


def python_line(version: tuple[int, int]) -> Line:
    """Return the finding on a Python of this version."""
    detail = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    if version < PYTHON_MIN:
        wanted = ".".join(map(str, PYTHON_MIN))
        return failed("Python", detail, f"Python {wanted} or newer is needed")
    return passed("Python", detail)


def package_line(installed: Collection[str]) -> Line:
    """Return the finding on the distributions of these names."""
    where = f"{__version__}, {Path(__file__).parents[1]}"
    if OLD_NAME in installed:
        both = f"{OLD_NAME} is installed {'too' if NAME in installed else 'besides this checkout'}, and has the same import name"
        hint = f"pip uninstall {OLD_NAME}, then reinstall {NAME}"
        return Line(ok=False, name="Package", detail=both, failure=both, hint=hint)
    return passed("Package", where)


def platform_line(system: str, release: str) -> Line:
    """Return the finding on an operating system by its `sys.platform` and kernel release."""
    if system == "linux":
        wsl = " (WSL2)" if "microsoft" in release.lower() else ""
        return passed("System", f"Linux {release}{wsl}")
    if system == "darwin":
        return warned(
            "System", f"macOS {release}: agents run as processes; engines in a virtual machine share no unix socket"
        )
    text = f"{system}: Linux and macOS only; on Windows use WSL2"
    return failed("System", text, text)
