"""What the operating system allows: open files, short socket paths, network namespaces that can be told apart."""

from __future__ import annotations

import os
import resource
import tempfile

from agent_preflight.checks.line import Line, failed, passed, warned
from agent_preflight.docker.gate_modes import netns_cookie

FILES_PER_TRIAL, FILES_BASE = 256, 512
"""A listener takes 256 connections (C5); the rest is the proxy's own."""
SOCKET_PATH_BYTES_MAX = 100
SOCKET_PATH_BYTES = 40
"""What we add to the temporary directory: our own directory's name, a gate's, a socket's (C3)."""


def system_lines() -> tuple[Line, ...]:
    """Return the findings on this system."""
    return (
        files_line(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        cookies_line(netns_cookie()),
        socket_path_line(tempfile.gettempdir()),
    )


def files_line(hard: int) -> Line:
    """Return the finding on a hard limit of open files (C5)."""
    if hard == resource.RLIM_INFINITY:
        return passed("Open files", "no limit")
    trials = max(hard - FILES_BASE, 0) // FILES_PER_TRIAL
    detail = f"at most {hard:,}: enough for {trials:,} trials at once, each with {FILES_PER_TRIAL} connections"
    if trials < 1:
        return Line(ok=False, name="Open files", detail=detail, failure=detail, hint="raise `ulimit -Hn`")
    return passed("Open files", detail) if trials >= 8 else warned("Open files", detail)


def cookies_line(cookie: int | None) -> Line:
    """Return the finding on what the kernel told (C2)."""
    if cookie is None:
        text = "the kernel does not name them (Linux 5.14 and later does): gates must be portable, see Networks"
        return warned("Network namespaces", text)
    return passed(
        "Network namespaces", "the kernel tells them apart, so a gate cannot pass off another's listeners as its own"
    )


def socket_path_line(directory: str) -> Line:
    """Return the finding on a temporary directory: a unix socket's path is short (C3)."""
    used = len(os.fsencode(directory)) + SOCKET_PATH_BYTES
    if used > SOCKET_PATH_BYTES_MAX:
        return warned("Socket paths", f"{directory} is too long for sockets: /tmp is used for them")
    if not os.access(directory, os.W_OK | os.X_OK):
        text = f"{directory} cannot be written"
        return failed("Socket paths", text, text)
    return passed("Socket paths", directory)
