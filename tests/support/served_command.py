"""A command that serves until SIGTERM, as a process."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_S_MAX = 30.0
END_S_MAX = 45.0


@dataclass
class Served:
    """A command that is ready.

    Attributes:
        ready: What its ready file says.
        pid: Its process id.
        stdout: Its output after its end; `stderr` likewise.
        code: Its exit code after its end.
    """

    ready: dict[str, Any]
    pid: int
    stdout: str = ""
    stderr: str = ""
    code: int | None = None


@contextlib.contextmanager
def served(ready_file: Path, *arguments: str, **variables: str) -> Iterator[Served]:
    """Run a command until the block ends; then it gets a SIGTERM."""
    command = [sys.executable, "-m", "agent_preflight", *arguments, "--ready-file", str(ready_file)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )
    try:
        until_s = time.monotonic() + READY_S_MAX
        while not ready_file.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until_s, "it is not ready"
            time.sleep(0.02)
        made = Served(json.loads(ready_file.read_text()), process.pid)
        yield made
        process.terminate()
        made.stdout, made.stderr = process.communicate(timeout=END_S_MAX)
        made.code = process.returncode
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
