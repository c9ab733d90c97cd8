"""Removes the leftovers of dead runs: containers, gates, volumes, a proxy, sub-keys, sockets; in this order.

C15 (what a sweep removes): a run is dead if no process holds its lock; a sweep holds the lock while it removes. The report names
what could not be verified as gone, what belongs to live runs, and what belongs to folders that cannot be opened. A sub-key is
deleted only if its name is in the plan of a dead run on this machine, because other machines may use the same account.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent_preflight.docker.container import QUIET_S, QUIET_TRIES
from agent_preflight.docker.sweep import sweep as sweep_engine
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.openrouter.http import Key
from agent_preflight.runs.folder import CONTROL_FILE, RunControl, RunState, lock_if_dead_soon, tries_dir
from agent_preflight.sweeping.keys import NOT_DELETED, KeyDeletions, SubKeys, record_deletions, settle_ledger
from agent_preflight.sweeping.lost_trials import Outputs, write_lost_summaries
from agent_preflight.sweeping.orphans import end_orphan
from agent_preflight.sweeping.run_folders import Leftovers, leftovers_of, run_folders
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.core.errors import ConfigError, LedgerInUseError, OperatingError, UpstreamError
from preflight_proxy.core.evidence.aftermath import EvidenceTimes

NO_KEY = "no sub-key was looked for: set OR_ADMIN_KEY to a management key"
MAKING_S_MAX = 60.0
"""A younger folder may be one whose run is about to lock it, which takes milliseconds."""
BLOCKING_KINDS = frozenset({"agent", "gate", "proxy"})
"""Kinds of leftovers that still act, so that their run cannot be resumed."""


class Leftover(msgspec.Struct, frozen=True):
    """One thing that a run made outside its folder, or a whole run.

    Attributes:
        kind: `agent`, `gate`, `forwarder`, `volume`, `proxy`, `sub-key`, `sockets`, or `run` for a run as a whole.
        name: Its name at the engine, at OpenRouter or in the system.
        run_dir: The run's folder.
        note: More about it, for a person.
        trial: The alias of the trial that it belongs to; empty if it belongs to the run as a whole.
    """

    kind: str
    name: str
    run_dir: Path
    note: str = ""
    trial: str = ""

    def line(self) -> str:
        """Return it for a person."""
        where = f"of trial {self.trial} in" if self.trial else "of"
        return f"{self.kind} {self.name} {where} {self.run_dir}{f': {self.note}' if self.note else ''}"


class SweepReport(msgspec.Struct, frozen=True):
    """What a sweep did, or with `dry_run` would do.

    Attributes:
        removed: Verified as gone; with `dry_run`, what would be removed.
        left: Could not be removed, or not be verified as gone.
        live: Belongs to runs that are going on.
        unreadable: Belongs to runs whose folder cannot be opened: a person must decide.
        notes: Other things that a person should know.
        trouble: What could not be searched, and why.
    """

    removed: tuple[Leftover, ...] = ()
    left: tuple[Leftover, ...] = ()
    live: tuple[Leftover, ...] = ()
    unreadable: tuple[Leftover, ...] = ()
    notes: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether everything was searched, and nothing of a dead run is left."""
        return not self.left and not self.trouble


class SweepScope(msgspec.Struct, frozen=True):
    """What to sweep.

    Attributes:
        runs_dir: Whose runs.
        admin_key: Lists and deletes sub-keys; without one they stay, and are reported.
        base_url: OpenRouter's API base, where not the usual one.
        containers: Sweep the container engine too.
        everywhere: Also remove containers of runs in other directories.
        dry_run: Only say what would be removed.
        settle_s: How long to wait in all for the costs of dead runs' last calls.
        clocks: How long such evidence takes; the same as the proxies had.
    """

    runs_dir: Path
    admin_key: Key | None
    base_url: str | None = None
    containers: bool = True
    everywhere: bool = False
    dry_run: bool = False
    settle_s: float = 0.0
    clocks: EvidenceTimes = msgspec.field(default_factory=EvidenceTimes)


async def sweep(scope: SweepScope, engine: Engine | None = None) -> SweepReport:
    """Remove the leftovers of dead runs. What goes wrong is in the report.

    Args:
        scope: What to sweep.
        engine: Where containers may be left; None for the engine that the environment names.
    """
    work = _DeadRunSweep(scope)
    await work.engine(engine)
    for run_dir in await asyncio.to_thread(work.folders):
        await work.run(run_dir)
    if work.crashed:
        await work.engine_until_quiet(engine)
    await work.remove_tries()
    return work.report()


class _DeadRunSweep:
    """One sweep: what it has removed and noted so far.

    Attributes:
        crashed: A dead run had not removed its sockets: its runner was killed.
    """

    def __init__(self, scope: SweepScope) -> None:
        self._scope = scope
        self._runs_dir, self._tries_dir = scope.runs_dir.resolve(), tries_dir().resolve()
        self._groups: dict[str, list[Leftover]] = {"removed": [], "left": [], "live": [], "unreadable": []}
        self._notes: list[str] = []
        self._trouble: list[str] = []
        self._keys: SubKeys | None = None
        self._outputs = Outputs()
        self._dead_dirs: set[Path] = set()
        self.crashed = False
        self._until_s = time.monotonic() + scope.settle_s

    def report(self) -> SweepReport:
        """Return what the sweep did."""
        groups = {name: tuple(dict.fromkeys(items)) for name, items in self._groups.items()}
        groups["left"] = tuple(item for item in groups["left"] if item not in groups["removed"])
        trouble = dict.fromkeys([*self._trouble, *self._outputs.trouble])
        return SweepReport(**groups, notes=(*self._notes, *self._outputs.notes), trouble=tuple(trouble))

    def _note(self, group: str, kind: str, name: str, run_dir: Path, note: str = "") -> None:
        self._groups[group].append(Leftover(kind, name, run_dir, note))

    async def engine(self, engine: Engine | None) -> None:
        """Sweep the container engine."""
        if not self._scope.containers:
            return
        below = None if self._scope.everywhere else (self._runs_dir, self._tries_dir)
        try:
            async with contextlib.nullcontext(engine) if engine is not None else Engine.open() as client:
                swept = await sweep_engine(client, below=below, dry_run=self._scope.dry_run, keeper=self._outputs)
        except DockerError as exc:
            if exc.failure is not Failure.NO_ENGINE:
                self._trouble.append(str(exc))
            return
        for group, items in self._groups.items():
            for thing in getattr(swept, group):
                name = thing.id if thing.role == "volume" else thing.id[:12]
                items.append(Leftover(thing.role, name, thing.run_dir, trial=thing.alias))

    async def engine_until_quiet(self, engine: Engine | None) -> None:
        """Sweep the engine again until it has nothing more: what a dying runner had asked for may appear later."""
        if not self._scope.containers:
            return
        for _ in range(QUIET_TRIES):
            count = len(self._groups["removed"]) + len(self._groups["left"])
            await asyncio.sleep(QUIET_S)
            await self.engine(engine)
            if len(self._groups["removed"]) + len(self._groups["left"]) == count:
                return

    def folders(self) -> list[Path]:
        """Return the folders to sweep: runs in the directory, trial runs of checks, and those that containers' labels name."""
        named = [item.run_dir for group in ("removed", "left") for item in self._groups[group]]
        return list(dict.fromkeys([*run_folders(self._runs_dir), *run_folders(self._tries_dir), *named]))

    async def run(self, run_dir: Path) -> None:
        """Remove what one run has outside its folder, if it is dead."""
        if not await asyncio.to_thread(leftovers_of, run_dir):
            return
        async with lock_if_dead_soon(run_dir) as state:
            if state is RunState.DEAD:
                await self._dead(await asyncio.to_thread(leftovers_of, run_dir))
            else:
                self._note(state.value, "run", run_dir.name, run_dir)

    async def remove_tries(self) -> None:
        """Remove the folders of dead runs that checks made, once nothing else of them is left."""
        left = {item.run_dir for item in self._groups["left"]}
        for run_dir in () if self._scope.dry_run else set(run_folders(self._tries_dir)) - left:
            async with lock_if_dead_soon(run_dir) as state:
                if state is RunState.DEAD and await asyncio.to_thread(self._is_over, run_dir):
                    await asyncio.to_thread(shutil.rmtree, run_dir, ignore_errors=True)

    def _is_over(self, run_dir: Path) -> bool:
        """Return whether a dead run's folder may go. The lock of a new folder is held by no process yet."""
        is_old = run_dir in self._dead_dirs or SystemClock().epoch_s() - run_dir.stat().st_mtime > MAKING_S_MAX
        return is_old and not leftovers_of(run_dir)

    async def _dead(self, leftovers: Leftovers) -> None:
        run_dir, control = leftovers.run_dir, leftovers.control
        self._dead_dirs.add(run_dir)
        self.crashed |= control is not None and not self._scope.dry_run
        if control is not None and not await self._end_proxy(run_dir, control):
            return  # it still needs the keys, to find out what its last calls cost
        deletions = await self._remove_keys(leftovers)
        if not self._scope.dry_run:
            engine_clean = not any(item.run_dir == run_dir for item in self._groups["left"] if item.kind != "sub-key")
            self._notes += await asyncio.to_thread(write_lost_summaries, run_dir, deletions.gone, engine_clean)
            record_deletions(run_dir, deletions)
        if control is not None:
            self._remove_sockets(run_dir, control)

    async def _end_proxy(self, run_dir: Path, control: RunControl) -> bool:
        """End the proxy of a dead run. Returns True if there is none afterwards."""
        orphan = await end_orphan(control.socket, self._left_s(), dry_run=self._scope.dry_run)
        if orphan is None:
            return True
        self._note("removed" if orphan.gone else "left", "proxy", orphan.name, run_dir, orphan.note)
        return orphan.gone

    async def _remove_keys(self, leftovers: Leftovers) -> KeyDeletions:
        """Settle the ledger, and delete the sub-keys whose usage is not needed any more."""
        if not leftovers.keys:
            return KeyDeletions()
        needed = await self._settle(leftovers)
        if needed is None:
            deletions = KeyDeletions(left=dict.fromkeys(leftovers.keys, NOT_DELETED))
        else:
            deletions = await asyncio.to_thread(lambda: self._sub_keys().delete(leftovers.keys, needed))
        for name in deletions.deleted:
            self._note("removed", "sub-key", name, leftovers.run_dir)
        for name, reason in deletions.left.items():
            self._note("left", "sub-key", name, leftovers.run_dir, reason)
        return deletions

    async def _settle(self, leftovers: Leftovers, *, again: bool = True) -> dict[str, str] | None:
        """Settle the ledger. Returns why which keys must stay, by hash; None if the ledger or the keys cannot be read.

        A proxy that was starting when its runner died holds the ledger and did not answer before: it is ended here.
        """
        try:
            keys = await asyncio.to_thread(self._sub_keys)
            if self._scope.dry_run:
                return {}
            return await settle_ledger(leftovers.run_dir, keys.usages, self._scope.clocks, self._left_s())
        except OperatingError as exc:
            control = leftovers.control if again and isinstance(exc, LedgerInUseError) else None
            if control is not None and await self._end_proxy(leftovers.run_dir, control):
                return await self._settle(leftovers, again=False)
            self._trouble.append(str(exc))
            return None

    def _left_s(self) -> float:
        return max(self._until_s - time.monotonic(), 0.0)

    def _sub_keys(self) -> SubKeys:
        if self._scope.admin_key is None:
            raise UpstreamError(NO_KEY)
        if self._keys is None:
            self._keys = SubKeys(self._scope.admin_key, self._scope.base_url, dry_run=self._scope.dry_run)
        return self._keys

    def _remove_sockets(self, run_dir: Path, control: RunControl) -> None:
        dry_run = self._scope.dry_run
        if control.directory.exists():
            if not dry_run:
                shutil.rmtree(control.directory, ignore_errors=True)
            gone = dry_run or not control.directory.exists()
            self._note("removed" if gone else "left", "sockets", str(control.directory), run_dir)
            if not gone:
                return
        if not dry_run:
            (run_dir / CONTROL_FILE).unlink(missing_ok=True)


async def sweep_before_run(scope: SweepScope, say: Callable[[str], None], engine: Engine | None = None) -> SweepReport:
    """Sweep, and say what was removed and what could not be. An error does not stop the new run."""
    try:
        report = await sweep(scope, engine)
    except Exception as exc:
        text = f"could not look for what dead runs left: {type(exc).__name__}: {exc}"
        say(text)
        return SweepReport(trouble=(text,))
    for item in report.removed:
        say(f"removed what a dead run left: {item.line()}")
    for item in report.left:
        say(f"a dead run left, and it is still there: {item.line()}; try `agent-preflight sweep`")
    for text in (*report.trouble, *report.notes):
        say(text)
    return report


def check_gone(run_dir: Path, report: SweepReport) -> None:
    """Check that no agent, gate or proxy of the run is left.

    Raises:
        ConfigError: One could not be verified as gone.
    """
    left = [item.line() for item in report.left if item.kind in BLOCKING_KINDS and item.run_dir == run_dir.resolve()]
    if left:
        raise ConfigError(f"The run {run_dir.name} cannot go on while this is still there: {'; '.join(left)}")
