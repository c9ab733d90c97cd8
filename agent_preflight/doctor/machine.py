"""Which Python and package run here, and what the operating system allows."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from agent_preflight import __version__
from agent_preflight.checks.report import CheckLine, failed, passed, warned
from preflight_proxy.base.gate_handshake import netns_cookie

PYTHON_MIN = (3, 11)
NAME, IMPORTED = "agent-preflight-proxy", "agent_preflight"
OTHERS = {
    "ai-preflight": "the package that this one replaces",
    "agent-preflight": "another project",
}
"""Distributions known to hold the same import name, and what they are; PyPI, November 2026."""


def installation() -> tuple[CheckLine, ...]:
    """Return the findings on this Python and what is installed in it."""
    return (
        python_line(sys.version_info[:2]),
        package_line(distributions()),
        platform_line(sys.platform, platform.release()),
    )


def python_line(version: tuple[int, int]) -> CheckLine:
    """Return the finding on a Python of this version."""
    detail = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    if version < PYTHON_MIN:
        wanted = ".".join(map(str, PYTHON_MIN))
        return failed("Python", detail, f"Python {wanted} or newer is needed")
    return passed("Python", detail)


def package_line(installed: Iterable[Distribution]) -> CheckLine:
    """Return the finding on what is installed: two distributions with one import name overwrite each other's files.

    An editable installation of this folder is ours, whatever its name.
    """
    here = Path(__file__).parents[2]
    suspects = [(name, found) for found in installed if (name := _name(found)) != NAME and _in_the_way(name, found)]
    others = sorted({name for name, found in suspects if _folder(found) != here})
    if not others:
        return passed("Package", f"{__version__}, {here / IMPORTED}")
    descriptions = [f"{name} ({OTHERS[name]})" if name in OTHERS else name for name in others]
    text = f"{' and '.join(descriptions)} is installed in this Python, and has the same import name, {IMPORTED}"
    hint = f"pip uninstall {' '.join(others)} {NAME}, then `pip install .` in a checkout"
    return CheckLine(ok=False, name="Package", detail=text, failure=text, hint=hint)


def _name(found: Distribution) -> str:
    return str(found.metadata["Name"] or "").lower().replace("_", "-").replace(".", "-")


def _in_the_way(name: str, found: Distribution) -> bool:
    """Tell whether it is known to hold our import name, or lists a file in it."""
    return name in OTHERS or any(file.parts[:1] == (IMPORTED,) for file in found.files or ())


def _folder(found: Distribution) -> Path | None:
    """Return the folder that an editable installation stands for (PEP 610), None for any other."""
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        editable = origin.get("dir_info", {}).get("editable")
        return Path(str(origin["url"]).removeprefix("file://")) if editable else None
    except (ValueError, KeyError, AttributeError):
        return None


def platform_line(system: str, release: str) -> CheckLine:
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


FILES_PER_TRIAL, FILES_BASE = 256, 512
"""A listener takes 256 connections (C5); the rest is the proxy's own."""
SOCKET_PATH_BYTES_MAX = 100
SOCKET_PATH_BYTES = 40
"""What we add to the temporary directory: our own directory's name, a gate's, a socket's (C3)."""


def system_lines() -> tuple[CheckLine, ...]:
    """Return the findings on this system."""
    return (
        files_line(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        cookies_line(netns_cookie()),
        socket_path_line(tempfile.gettempdir()),
    )


def files_line(hard: int) -> CheckLine:
    """Return the finding on a hard limit of open files (C5)."""
    if hard == resource.RLIM_INFINITY:
        return passed("Open files", "no limit")
    trials = max(hard - FILES_BASE, 0) // FILES_PER_TRIAL
    detail = f"at most {hard:,}: enough for {trials:,} trials at once, each with {FILES_PER_TRIAL} connections"
    if trials < 1:
        return CheckLine(ok=False, name="Open files", detail=detail, failure=detail, hint="raise `ulimit -Hn`")
    return passed("Open files", detail) if trials >= 8 else warned("Open files", detail)


def cookies_line(cookie: int | None) -> CheckLine:
    """Return the finding on what the kernel descriptions (C2)."""
    if cookie is None:
        text = "the kernel does not name them (Linux 5.14 and later does): gates must be portable, see Networks"
        return warned("Network namespaces", text)
    return passed(
        "Network namespaces", "the kernel tells them apart, so a gate cannot pass off another's listeners as its own"
    )


def socket_path_line(directory: str) -> CheckLine:
    """Return the finding on a temporary directory: a unix socket's path is short (C3)."""
    used = len(os.fsencode(directory)) + SOCKET_PATH_BYTES
    if used > SOCKET_PATH_BYTES_MAX:
        return warned("Socket paths", f"{directory} is too long for sockets: /tmp is used for them")
    if not os.access(directory, os.W_OK | os.X_OK):
        text = f"{directory} cannot be written"
        return failed("Socket paths", text, text)
    return passed("Socket paths", directory)
