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

from packaging.utils import canonicalize_name

from agent_preflight import __version__
from agent_preflight.checks.report import CheckLine, failed, passed, warned
from preflight_proxy.base.data_folder import SOCKET_PATH_BYTES_MAX
from preflight_proxy.base.gate_handshake import netns_cookie

NAME, IMPORTED = "agent-preflight-proxy", "agent_preflight"
OTHERS = {
    "ai-preflight": "the package that this one replaces",
    "agent-preflight": "another project",
}
"""Distributions with the same import name, and what they are; PyPI, November 2026."""

FILES_PER_TRIAL, FILES_BASE = 256, 512
"""A listener takes 256 connections, C5 (limits per listener); the proxy itself needs the rest."""
SOCKET_PATH_BYTES = 40
"""What is added to the temporary directory: our directory's name, a gate's, a socket's; C3 (short socket paths)."""


def installation() -> list[CheckLine]:
    """Return the findings on this Python and what is installed in it."""
    python = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    return [
        passed("Python", python),
        package_line(distributions()),
        platform_line(sys.platform, platform.release()),
    ]


def package_line(installed: Iterable[Distribution]) -> CheckLine:
    """Return the finding on what is installed: two distributions with one import name overwrite each other's files.

    An editable installation of this folder is ours, whatever its name.
    """
    here = Path(__file__).parents[2]
    names = ((canonicalize_name(each.metadata["Name"] or ""), each) for each in installed)
    others = sorted({name for name, each in names if _conflicts(name, each) and _editable_folder(each) != here})
    if not others:
        return passed("Package", f"{__version__}, {here / IMPORTED}")
    descriptions = [f"{name} ({OTHERS[name]})" if name in OTHERS else name for name in others]
    text = f"{' and '.join(descriptions)} is installed in this Python, and has the same import name, {IMPORTED}"
    hint = f"pip uninstall {' '.join(others)} {NAME}, then `pip install .` in a checkout"
    return failed("Package", text, hint=hint)


def _conflicts(name: str, package: Distribution) -> bool:
    """Tell whether another distribution is known to have our import name, or lists a file in it."""
    files = package.files or ()
    return name != NAME and (name in OTHERS or any(file.parts[:1] == (IMPORTED,) for file in files))


def _editable_folder(package: Distribution) -> Path | None:
    """Return the folder of an editable installation (PEP 610), None for any other."""
    try:
        origin = json.loads(package.read_text("direct_url.json") or "{}")
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
        text = f"macOS {release}: agents run as processes; engines in a virtual machine share no unix socket"
        return warned("System", text)
    return failed("System", f"{system}: Linux and macOS only; on Windows use WSL2")


def system_lines() -> list[CheckLine]:
    """Return the findings on this system."""
    return [
        files_line(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        cookies_line(netns_cookie()),
        socket_path_line(tempfile.gettempdir()),
    ]


def files_line(hard: int) -> CheckLine:
    """Return the finding on a hard limit of open files."""
    if hard == resource.RLIM_INFINITY:
        return passed("Open files", "no limit")
    trials = max(hard - FILES_BASE, 0) // FILES_PER_TRIAL
    detail = f"at most {hard:,}: enough for {trials:,} trials at once, each with {FILES_PER_TRIAL} connections"
    if trials < 1:
        return failed("Open files", detail, hint="raise `ulimit -Hn`")
    return passed("Open files", detail) if trials >= 8 else warned("Open files", detail)


def cookies_line(cookie: int | None) -> CheckLine:
    """Return the finding on the kernel's cookies of network namespaces; C2 (what the proxy accepts from a gate)."""
    name = "Network namespaces"
    if cookie is None:
        return warned(
            name, "the kernel does not name them (Linux 5.14 and later does): gates must be portable, see Networks"
        )
    return passed(name, "the kernel tells them apart, so a gate cannot pass off another's listeners as its own")


def socket_path_line(directory: str) -> CheckLine:
    """Return the finding on a temporary directory: the path of a unix socket must be short."""
    used = len(os.fsencode(directory)) + SOCKET_PATH_BYTES
    if used > SOCKET_PATH_BYTES_MAX:
        return warned("Socket paths", f"{directory} is too long for sockets: /tmp is used for them")
    if not os.access(directory, os.W_OK | os.X_OK):
        return failed("Socket paths", f"{directory} cannot be written")
    return passed("Socket paths", directory)
