"""A proxy as a process, which ends with the test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

READY_S_MAX = 60.0


@dataclass
class Child:
    """A process that serves when its ready file exists.

    Attributes:
        command: The arguments of the interpreter.
        document: The JSON on its standard input.
        ready_file: The file that it writes when it serves.
        folder: The folder of its output and its state.
        key: The real key, in its environment.
    """

    command: list[str]
    document: Mapping[str, Any]
    ready_file: Path
    folder: Path
    key: str = ""
    ready: dict[str, Any] = field(default_factory=dict)
    process: Process = field(init=False)

    async def __aenter__(self) -> Self:
        """Start it and wait until it serves."""
        await self.start()
        async with asyncio.timeout(READY_S_MAX):
            while not self.ready_file.exists():
                assert self.process.returncode is None, self.errors()
                await asyncio.sleep(0.01)
        self.ready = json.loads(self.ready_file.read_text())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def start(self) -> None:
        """Start it without waiting."""
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "OPENROUTER_API_KEY": self.key}
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, *self.command), stdin=PIPE, stdout=out, stderr=errors, env=environment
            )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(self.document).encode())
        self.process.stdin.close()

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        async with asyncio.timeout(READY_S_MAX):
            return await self.process.wait()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return its exit code."""
        self.process.send_signal(number)
        return await self.ended()

    def said(self) -> str:
        return (self.folder / "stdout").read_text()

    def errors(self) -> str:
        return (self.folder / "stderr").read_text()


def standalone(folder: Path, upstream: str, key: str, *, name: str = "p", **more: Any) -> Child:
    """Return a stand-alone proxy with a budget of one dollar by default. Two of them need different names."""
    place = folder / name
    place.mkdir(exist_ok=True)
    ready_file = place / "ready.json"
    ready_file.unlink(missing_ok=True)
    options = {
        "listen": "127.0.0.1:0",
        "upstream": upstream,
        "limits_usd": {"default": "1.00"},
        "data": str(folder / "data"),
        "ready_file": str(ready_file),
        **more,
    }
    limits = options.pop("limits_usd")
    words = [f"--{option.replace('_', '-')}={value}" for option, value in options.items() if value is not None]
    words += [f"--account={account}={usd}" for account, usd in limits.items()]
    return Child(["-m", "agent_preflight", "proxy", *words], {}, Path(options["ready_file"]), place, key)
