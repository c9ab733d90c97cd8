"""Runs a client as a program with its own environment and a temporary home, and waits for its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

END_S_MAX = 90.0
"""A limit for clients that never end; not a promise."""
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
NOWHERE = "http://127.0.0.1:9"
"""The proxy of all other hosts: nothing listens there, so that no test reaches the internet."""
OFFLINE = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """The exit code and the output of a program."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both outputs, as a person reads them."""
        return self.out + self.err


class Program:
    """A running program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def end(self) -> ProgramResult:
        """Wait until it ends by itself.

        Raises:
            TimeoutError: It did not end.
        """
        async with asyncio.timeout(END_S_MAX):
            out, err = await self._process.communicate()
        code = self._process.returncode
        assert code is not None
        return ProgramResult(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


@asynccontextmanager
async def running(argv: Sequence[str | Path], home: Path, env: Mapping[str, str]) -> AsyncIterator[Program]:
    """Run a program with `home` as its home, temporary and working folder. Kill its processes at the end.

    Args:
        argv: The command.
        home: An empty directory.
        env: Its environment, besides the common variables.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=home,
        env={"PATH": SYSTEM_PATH, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8", **OFFLINE, **env},
        start_new_session=True,
    )
    try:
        yield Program(process)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
