"""A client as a program of its own: an environment that is not ours, a home that is gone afterwards, an end that is waited for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

END_S_MAX = 90.0
"""A guard against a client that never ends; no test claims that one ends sooner."""
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
NOWHERE = "http://127.0.0.1:9"
"""The proxy of all other hosts: nothing listens there, so that no test reaches the internet."""
OFFLINE = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and all that it wrote."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What a person in front of it has read."""
        return self.out + self.err


class Program:
    """A program under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def end(self) -> Ended:
        """Wait until it has ended by itself.

        Raises:
            TimeoutError: It did not.
        """
        async with asyncio.timeout(END_S_MAX):
            out, err = await self._process.communicate()
        code = self._process.returncode
        assert code is not None
        return Ended(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


@asynccontextmanager
async def running(argv: Sequence[str | Path], home: Path, env: Mapping[str, str]) -> AsyncIterator[Program]:
    """Run a program with `home` as home, temporary and working directory; nothing of it is left at the end.

    Args:
        argv: The command.
        home: An empty directory.
        env: Its environment, beside what every program has.
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
