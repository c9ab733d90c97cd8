"""Starts a module of ours as a process, without our keys, and waits for its ready file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import BinaryIO

from agent_preflight.base.config import ADMIN_KEY_VARIABLES, child_environment
from preflight_proxy.core.errors import OperatingError

READY_S_MAX = 30.0
"""From the start of the process to its ready file; a cold start on a busy machine takes about two seconds."""
READY_LOOK_S = 0.025
OUR_KEYS = frozenset({*ADMIN_KEY_VARIABLES, "OPENROUTER_API_KEY"})
"""Variables that no process of ours needs: keys go over the control socket."""


class SidecarError(OperatingError):
    """The proxy does not start, or died too often."""


async def own_process(module: str, *arguments: str, config: bytes = b"", stderr: BinaryIO | None = None) -> Process:
    """Start one of our own modules, without any key of ours in its environment, in a session of its own.

    Args:
        module: Run as `python -m MODULE`.
        arguments: Its arguments.
        config: Its standard input, whole.
        stderr: Where its log goes; ours if None.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=stderr,
        env={name: value for name, value in child_environment().items() if name not in OUR_KEYS},
        start_new_session=True,
        umask=0o077,
    )
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(config)
        await process.stdin.drain()
    process.stdin.close()
    return process


async def until_ready(process: Process, ready_file: Path) -> dict[str, str]:
    """Return what a process writes into its ready file once it serves.

    Raises:
        SidecarError: It ended before, or was not ready in `READY_S_MAX` seconds and has been killed.
    """
    try:
        async with asyncio.timeout(READY_S_MAX):
            while not ready_file.exists():
                if process.returncode is not None:
                    raise SidecarError(f"a process of ours did not start (exit code {process.returncode})")
                await asyncio.sleep(READY_LOOK_S)
    except TimeoutError as exc:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise SidecarError(f"a process of ours is not ready after {READY_S_MAX:.0f} s") from exc
    ready: dict[str, str] = json.loads(ready_file.read_text())
    return ready
