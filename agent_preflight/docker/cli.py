"""The one place that runs the docker command.

Each call is a process in a session of its own, so that a Ctrl-C in the terminal reaches us and not it, and has a time limit.
A call that is cancelled or late is killed; that says nothing about what the engine does with the request meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import weakref
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path

from agent_preflight.config import engine_command
from agent_preflight.docker.engines import Command, Kind, identify
from agent_preflight.docker.failure import DockerError, Failure, classify, explain

CALL_S_MAX = 30.0
"""Creating a container on a busy engine takes seconds; half a minute means that it hangs."""
END_CALL_S_MAX = 2.0
"""Calls that end a container must not hold up the next harder one (C12)."""
BUILD_S_MAX = 1800.0
"""Someone's image may install a lot."""
PIPE_BYTES_MAX = 256 * 1024
"""What is buffered of an agent's output before the reader gets it."""

_START_LIMITERS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()


def start_limiter() -> asyncio.Semaphore:
    """Return this loop's limit on containers that start at once: the engine gets slower, not faster, beyond it (C14)."""
    limit = max(4, 2 * (os.cpu_count() or 1))
    return _START_LIMITERS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(limit))


@dataclass(frozen=True, slots=True)
class Done:
    """How a call of the docker command ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def failure(self) -> Failure | None:
        """What went wrong; None if nothing did."""
        return classify(self.stderr) if self.returncode else None


@dataclass(frozen=True, slots=True)
class Docker:
    """The docker command, by name or path; `docker` itself stands for what `PREFLIGHT_ENGINE` names, if that is set."""

    executable: str = "docker"

    @property
    def command(self) -> str:
        """What is executed.

        Raises:
            DockerError: It is an engine on which our container tests have not passed, or a Podman that does not answer.
        """
        command = engine_command() if self.executable == "docker" else self.executable
        identify(command)
        return command

    @property
    def engine(self) -> Command:
        """What the command said that it is.

        Raises:
            DockerError: It is an engine on which our container tests have not passed.
        """
        return identify(self.command)

    @property
    def is_podman(self) -> bool:
        """Whether the command is Podman's; raises as `engine` does."""
        return self.engine.kind is Kind.PODMAN

    async def run(self, *args: str, stdin: bytes | None = None, limit_s: float = CALL_S_MAX) -> Done:
        """Run one command to its end; a failure of it is in what is returned.

        Raises:
            DockerError: It is not installed, or did not end within `limit_s`.
        """
        process = await self.spawn(*args, stdin=PIPE if stdin is not None else DEVNULL)
        try:
            async with asyncio.timeout(limit_s):
                stdout, stderr = await process.communicate(stdin)
        except TimeoutError as exc:
            raise DockerError(explain(f"docker {args[0]}", Failure.TIMEOUT, ""), Failure.TIMEOUT) from exc
        finally:
            await end(process)
        code = process.returncode
        return Done(1 if code is None else code, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    async def must(self, doing: str, *args: str, stdin: bytes | None = None, limit_s: float = CALL_S_MAX) -> str:
        """Run one command and return its output, stripped.

        Raises:
            DockerError: It failed; the text begins with `doing`.
        """
        done = await self.run(*args, stdin=stdin, limit_s=limit_s)
        if (failure := done.failure) is not None:
            raise DockerError(explain(doing, failure, done.stderr), failure)
        return done.stdout.strip()

    async def spawn(self, *args: str, stdin: int = DEVNULL, directory: str | None = None) -> Process:
        """Start one command with pipes for its output, in this directory or ours; whoever asked for it ends it with `end`.

        Raises:
            DockerError: It is not installed or cannot be executed.
        """
        try:
            return await asyncio.create_subprocess_exec(
                self.command if directory is None else str(Path(shutil.which(self.command) or self.command).absolute()),
                *args,
                cwd=directory,
                stdin=stdin,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
                limit=PIPE_BYTES_MAX,
            )
        except OSError as exc:
            raise DockerError(explain(f"docker {args[0]}", Failure.NO_COMMAND, ""), Failure.NO_COMMAND) from exc

    def run_now(self, *args: str, limit_s: float = CALL_S_MAX, quiet: bool = True) -> Done:
        """Run one command without an event loop; with `quiet=False` its output goes where ours goes.

        Raises:
            DockerError: It is not installed, or did not end within `limit_s`.
        """
        out = subprocess.PIPE if quiet else None
        try:
            done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
                [self.command, *args], stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as exc:
            raise DockerError(explain(f"docker {args[0]}", Failure.TIMEOUT, ""), Failure.TIMEOUT) from exc
        except OSError as exc:
            raise DockerError(explain(f"docker {args[0]}", Failure.NO_COMMAND, ""), Failure.NO_COMMAND) from exc
        texts = [(text or b"").decode(errors="replace") for text in (done.stdout, done.stderr)]
        return Done(done.returncode, *texts)


async def end(process: Process) -> None:
    """Kill a command's whole session, if it still runs, and reap it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def docker_answers(executable: str = "docker", *, limit_s: float = 5.0) -> bool:
    """Tell whether a Docker engine answers to this command within `limit_s`; never raises."""
    try:
        done = Docker(executable).run_now("version", "--format", "{{.Server.Version}}", limit_s=limit_s)
    except DockerError:
        return False
    return done.returncode == 0 and bool(done.stdout.strip())
