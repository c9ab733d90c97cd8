"""The sandbox without containers: an agent as a process of this machine, in a session of its own.

It bounds nothing but money: the agent reads what its user may read and reaches what its user may reach. It is for machines
without Docker, and its end is as hard as a process's end can be: TERM, half a second, KILL, for every process of the agent's
session and every descendant, until none is seen. A descendant that left the session *and* lost its parents is not found;
its calls are refused all the same, because the account is frozen first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent_preflight.base.config import child_environment
from agent_preflight.sandboxes.interface import AgentSpec, Exit, Pipes, Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from preflight_proxy.core.errors import OperatingError

BUDGET_LINK = "budget.txt"
"""In the working directory: our link to the budget file."""
TERM_S = 0.5
"""The same as a container's agent gets."""
GONE_S_MAX = 2.0
"""A killed process is gone in milliseconds, unless it hangs in the kernel."""
LOOK_EVERY_S = 0.02
PIPE_BYTES_MAX = 256 * 1024
"""What is buffered of the agent's output before the reader gets it."""
INHERITED = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "SYSTEMROOT"}
)
"""What an agent gets of our environment: nothing that could be a key."""

_PROC = Path("/proc")


class ProcessError(OperatingError):
    """The agent's process could not be made or started."""


class ProcessSandbox:
    """One agent as a process group of this machine, working in the trial folder's `workspace` (beside `budget`).

    Args:
        spec: The agent. `image`, `network`, `gate_socket`, and `docker_args` mean nothing here.

    Attributes:
        warnings: What did not work and does not stop the trial, for a person.
    """

    def __init__(self, spec: AgentSpec) -> None:
        self.warnings: list[str] = []
        self._spec = spec
        self._workspace = spec.budget_dir.parent / "workspace"
        self._process: Process | None = None
        self._pipes: Pipes | None = None
        self._transports: list[asyncio.BaseTransport] = []
        self._over = False
        self._gone = False
        self._ending = asyncio.Lock()

    @property
    def workspace(self) -> Path:
        """The agent's working directory."""
        return self._workspace

    async def create(self) -> None:
        """Make the working directory and put the link to `budget.txt` into it.

        Raises:
            ProcessError: The directory cannot be made.
        """
        link = self._workspace / BUDGET_LINK
        try:
            self._workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ProcessError(f"the agent's directory {self._workspace} cannot be made: {exc.strerror}") from exc
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(self._spec.budget_dir / "budget.txt")
        except OSError as exc:
            self.warnings.append(
                f"{link} could not be made ({exc.strerror}); PREFLIGHT_BUDGET_FILE names the budget file"
            )

    async def start(self) -> Pipes:
        """Start the agent's command in a session of its own and return its streams.

        Raises:
            ProcessError: There is no command, or it cannot be executed.
        """
        if self._over:
            raise ProcessError(f"the trial {self._spec.alias} was ended before its agent started")
        if not self._spec.command:
            raise ProcessError("a process needs a command: give the program and its arguments")
        theirs, ours = _pipe_ends()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._spec.command,
                stdin=theirs.stdin,
                stdout=theirs.stdout,
                stderr=theirs.stderr,
                cwd=self._workspace,
                env=agent_environment(self._spec.env, child_environment()),
                start_new_session=True,
            )
        except OSError as exc:
            ours.close()
            raise ProcessError(f"starting the agent {self._spec.alias}: {exc.strerror or exc}") from exc
        finally:
            theirs.close()
        stdout, stdout_transport = await _reader(ours.stdout)
        stderr, stderr_transport = await _reader(ours.stderr)
        stdin = await _writer(ours.stdin)
        self._transports = [stdin.transport, stdout_transport, stderr_transport]
        self._pipes = Pipes(stdin, stdout, stderr)
        return self._pipes

    async def wait(self) -> Exit:
        """Return when the agent's first process has ended; what it left running is ended too, as in a container."""
        assert self._process is not None
        code = await self._process.wait()
        await self._end({}, within_s=0)
        return Exit(code=code if code >= 0 else 128 - code)

    async def kill(self) -> Step:
        """End all of the agent's processes; `"ok"` only when none of them is seen any more."""
        self._over = True
        return "ok" if self._process is None else await self._end(members(self._process.pid), within_s=TERM_S)

    async def keep(self, folder: Path) -> KeptOutput:
        """Say where the agent worked: its files are on this machine already, and none of them is looked at."""
        exists = self._workspace.is_dir()
        return KeptOutput(str(self._workspace) if exists else None, None, None, why="the agent's working directory")

    async def close(self) -> dict[str, Step]:
        """End what may still run and close its streams; the working directory stays, it holds what the agent made."""
        step = await self.kill()
        for transport in self._transports:
            transport.close()
        return {"agent": step}

    async def _end(self, known: Mapping[int, int], *, within_s: float) -> Step:
        """Give the first process `within_s` to end on TERM, then kill all; once all are gone their numbers mean nothing."""
        assert self._process is not None
        async with self._ending:
            if self._gone:
                return "ok"
            if self._process.returncode is None:
                _signal_all(known, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(within_s):
                        await self._process.wait()
            step = await _kill_all(self._process.pid, known)
            self._gone = step == "ok"
            return step


def agent_environment(env: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Return the agent's whole environment: harmless variables of ours, then its own."""
    kept = {name: value for name, value in ours.items() if name in INHERITED or name.startswith("LC_")}
    return {**kept, **env}


def members(leader: int, known: Mapping[int, int] | None = None) -> dict[int, int]:
    """Return the live processes of the leader's session, all their descendants, and those of `known` that still live.

    Args:
        leader: Process id of the agent's first process, which leads its group and session.
        known: Members found before; who has lost its parent since is found by them.

    Returns:
        Process id to start time (clock ticks since boot), which together name a process for ever. Empty without `/proc`.
    """
    table = _process_table()
    found = {pid for pid, entry in table.items() if leader in (pid, entry.session, entry.group)}
    found |= {pid for pid, start in (known or {}).items() if pid in table and table[pid].start == start}
    while more := {pid for pid, entry in table.items() if entry.parent in found} - found:
        found |= more
    return {pid: table[pid].start for pid in found}


@dataclass(frozen=True, slots=True)
class _Entry:
    parent: int
    group: int
    session: int
    start: int


def _process_table() -> dict[int, _Entry]:
    """Every process that is not dead yet; a zombie is. Empty where there is no `/proc`."""
    table: dict[int, _Entry] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            table[int(path.parent.name)] = _Entry(*map(int, (*fields[1:4], fields[19])))
    return table


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


async def _kill_all(leader: int, known: Mapping[int, int]) -> Step:
    """Kill the group and every member again and again until none is left."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + GONE_S_MAX
    while True:
        alive = members(leader, known)
        if not alive and (_PROC.is_dir() or not _kill_group(leader)):
            return "ok"
        if loop.time() >= deadline_s:
            return "failed" if alive else "unverified"
        _kill_group(leader)
        _signal_all(alive, signal.SIGKILL)
        await asyncio.sleep(LOOK_EVERY_S)


def _kill_group(leader: int) -> bool:
    """Kill the leader's process group; False if there is no such group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # macOS says so of a group of zombies
    return True


@dataclass(frozen=True, slots=True)
class _PipeEnds:
    """One side of three pipes. They are our own and not the loop's, so that the end of the process is not held up by a reader."""

    stdin: int
    stdout: int
    stderr: int

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr):
            os.close(fd)


def _pipe_ends() -> tuple[_PipeEnds, _PipeEnds]:
    (stdin_r, stdin_w), (stdout_r, stdout_w), (stderr_r, stderr_w) = os.pipe(), os.pipe(), os.pipe()
    return _PipeEnds(stdin_r, stdout_w, stderr_w), _PipeEnds(stdin_w, stdout_r, stderr_r)


async def _reader(fd: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    reader = asyncio.StreamReader(PIPE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    return reader, transport


async def _writer(fd: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(fd, "wb", 0))
    return asyncio.StreamWriter(transport, protocol, None, loop)
