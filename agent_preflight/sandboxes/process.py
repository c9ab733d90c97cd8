"""The sandbox without containers: an agent as a process of this machine, in a session of its own; and agents that were orphaned.

It limits only money: the agent reads what its user may read and reaches what its user may reach. It is for machines without
Docker. An agent is ended by TERM, half a second, KILL, for every process of its session and every descendant, until none is
seen.
A descendant that left the session *and* lost its parents is not found. Its calls are refused all the same, because the account
is frozen first.

An orphan is an agent's process that outlived its runner. It is found by its environment, which names the trial's budget file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import SubprocessStreamProtocol
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path

import psutil

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
PROCESS_LOOK_EVERY_S = 0.02
PIPE_BYTES_MAX = 256 * 1024
"""What is buffered of the agent's output before the reader gets it."""
INHERITED = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "SYSTEMROOT"}
)
"""What an agent gets of our environment: nothing that could be a key."""


class _AgentStreams(SubprocessStreamProtocol):
    """The agent's standard streams.

    Args:
        exited: Set when the process has ended, also while a descendant of it keeps its output open. asyncio's own
            `Process.wait` waits for that descendant too (Python 3.11).
    """

    def __init__(self, exited: asyncio.Event) -> None:
        super().__init__(PIPE_BYTES_MAX, asyncio.get_running_loop())
        self._exited = exited

    def process_exited(self) -> None:
        super().process_exited()
        self._exited.set()


class SessionProcess:
    """A program as a process of this machine, in a session of its own. Its end is that of all its processes.

    Args:
        what: What it is, for a person.
        command: The program and its arguments.
        folder: Its working directory.
        env: Its whole environment.
        budget_file: If given, its end is also that of all processes whose environment names this budget file, so that one that
            left the session and lost its parents is found too.
    """

    def __init__(
        self, what: str, command: Sequence[str], folder: Path, env: Mapping[str, str], budget_file: Path | None = None
    ) -> None:
        self._what, self._command, self._folder, self._env = what, command, folder, env
        self._budget_file = budget_file
        self._process: asyncio.SubprocessTransport | None = None
        self._exited = asyncio.Event()
        self._over = False
        self._gone = False
        self._ending = asyncio.Lock()

    async def start(self) -> Pipes:
        """Start the command and return its streams.

        Raises:
            OperatingError: There is no command, or it cannot be executed.
        """
        if self._over:
            raise OperatingError(f"{self._what} was ended before it started")
        if not self._command:
            raise OperatingError("a process needs a command: give the program and its arguments")
        loop = asyncio.get_running_loop()
        try:
            self._process, streams = await loop.subprocess_exec(
                lambda: _AgentStreams(self._exited),
                *self._command,
                cwd=self._folder,
                env=self._env,
                start_new_session=True,
            )
        except OSError as exc:
            raise OperatingError(f"starting {self._what}: {exc.strerror or exc}") from exc
        assert streams.stdin is not None
        assert streams.stdout is not None
        assert streams.stderr is not None
        return Pipes(streams.stdin, streams.stdout, streams.stderr)

    async def wait(self) -> Exit:
        """Return when the first process has ended; what it left running is ended too, as in a container."""
        await self._exited.wait()
        await self._end(within_s=0)
        assert self._process is not None
        code = self._process.get_returncode()
        assert code is not None
        return Exit(code=code if code >= 0 else 128 - code)

    async def kill(self) -> Step:
        """End all processes; `"ok"` only when none of them is seen any more."""
        self._over = True
        return "ok" if self._process is None else await self._end(within_s=TERM_S)

    async def close(self) -> dict[str, Step]:
        """End what may still run and close its streams; the working directory stays."""
        step = await self.kill()
        if self._process is not None:
            # asyncio's `close` reads the exit code of a process that has ended; whoever waits for the code would not get it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GONE_S_MAX):
                    await self._exited.wait()
            self._process.close()
        return {"agent": step}

    async def _end(self, *, within_s: float) -> Step:
        """Give the first process `within_s` to end on TERM, then kill all. Once all are gone, their ids mean nothing."""
        assert self._process is not None
        leader, known = self._process.get_pid(), set[psutil.Process]()
        async with self._ending:
            if self._gone:
                return "ok"
            if within_s:
                known = self._members(leader, known)
                _signal_all(known, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(within_s):
                        await self._exited.wait()
            _, step = await _kill_all(lambda seen: self._members(leader, known | seen), group=leader)
            self._gone = step == "ok"
            return step

    def _members(self, leader: int, known: Set[psutil.Process]) -> set[psutil.Process]:
        others = set[psutil.Process]() if self._budget_file is None else orphan_processes(self._budget_file)
        return members(leader, known) | others


class ProcessSandbox(SessionProcess):
    """One agent as a process group of this machine, working in the trial folder's `workspace` (beside `budget`).

    Args:
        spec: The agent. `image`, `network`, `gate_socket`, and `docker_args` mean nothing here.

    Attributes:
        workspace: The agent's working directory.
        warnings: What did not work and does not stop the trial, for a person.
    """

    def __init__(self, spec: AgentSpec) -> None:
        self.warnings: list[str] = []
        self._spec = spec
        self.workspace = spec.budget_dir.parent / "workspace"
        env = agent_environment(spec.env, child_environment())
        super().__init__(f"the agent {spec.alias}", spec.command, self.workspace, env)

    async def create(self) -> None:
        """Make the working directory and put the link to `budget.txt` into it.

        Raises:
            OperatingError: The directory cannot be made.
        """
        link = self.workspace / BUDGET_LINK
        try:
            self.workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise OperatingError(f"the agent's directory {self.workspace} cannot be made: {exc.strerror}") from exc
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(self._spec.budget_dir / "budget.txt")
        except OSError as exc:
            self.warnings.append(
                f"{link} could not be made ({exc.strerror}); PREFLIGHT_BUDGET_FILE names the budget file"
            )

    async def keep(self, folder: Path) -> KeptOutput:
        """Return where the agent worked. Its files are on this machine already, and none of them is read."""
        exists = self.workspace.is_dir()
        return KeptOutput(str(self.workspace) if exists else None, None, None, why="the agent's working directory")


def agent_environment(env: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Return the agent's whole environment: harmless variables of ours, then its own."""
    kept = {name: value for name, value in ours.items() if name in INHERITED or name.startswith("LC_")}
    return {**kept, **env}


def members(leader: int, known: Set[psutil.Process] = frozenset()) -> set[psutil.Process]:
    """Return the live processes of the leader's session and group, all their descendants, and those of `known` that still live.

    Args:
        leader: Process id of the agent's first process, which leads its group and session.
        known: Earlier members. One that has lost its parent since is found only in this way.
    """
    table = {process.pid: (process, parent) for process, parent in _processes()}
    pids = {pid for pid, (process, _) in table.items() if process in known or leader in (pid, *_group_and_session(pid))}
    while more := {pid for pid, (_, parent) in table.items() if parent in pids} - pids:
        pids |= more
    return {table[pid][0] for pid in pids}


def orphan_processes(budget_file: Path) -> set[psutil.Process]:
    """Return the processes of an agent whose environment names this budget file, and their descendants."""
    orphans: set[psutil.Process] = set()
    for process, _ in _processes():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("PREFLIGHT_BUDGET_FILE") == str(budget_file):
                orphans |= members(process.pid)
    return orphans


async def end_orphan_processes(budget_file: Path) -> tuple[int, Step]:
    """Kill an agent that outlived its runner; return how many processes it had, and `"ok"` once none is seen."""
    return await _kill_all(lambda seen: orphan_processes(budget_file))


def _processes() -> Iterator[tuple[psutil.Process, int]]:
    """Yield each process that has not ended, and its parent's id; a zombie has ended."""
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                status, parent = process.status(), process.ppid()
            if status not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                yield process, parent


def _group_and_session(pid: int) -> tuple[int, ...]:
    try:
        return os.getpgid(pid), os.getsid(pid)
    except OSError:  # it has ended, or is another user's on macOS
        return ()


def _signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


async def _kill_all(
    look: Callable[[Set[psutil.Process]], set[psutil.Process]], group: int | None = None
) -> tuple[int, Step]:
    """Kill all processes again and again until none is left; return how many there were.

    Args:
        look: Returns the live processes; its argument is all that were seen before.
        group: A process group that is killed as a whole too: a fork between a look and its signals does not escape that.
    """
    seen: set[psutil.Process] = set()
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + GONE_S_MAX
    while alive := look(seen):
        if loop.time() >= deadline_s:
            return len(seen), "failed"
        seen |= alive
        if group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        _signal_all(alive, signal.SIGKILL)
        await asyncio.sleep(PROCESS_LOOK_EVERY_S)
    return len(seen), "ok"
