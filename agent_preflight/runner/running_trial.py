"""A running trial: the state that its set-up, its watch and its clean-up share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent_preflight.base.usd import dollars, usd
from agent_preflight.eject import EjectPolicy
from agent_preflight.environment.authority import Authority
from agent_preflight.events import EventLogger
from agent_preflight.openrouter.subkeys import SubKey
from agent_preflight.options.settings import RunSettings
from agent_preflight.runner.loop import StopSignal
from agent_preflight.runner.notices import WARNING, Notices, SpendMarks
from agent_preflight.runner.output import AgentStreams
from agent_preflight.runner.preparation import SandboxSetup
from agent_preflight.runner.progress import RunProgress, TrialProgress, now_s
from agent_preflight.runner.watch import Watch
from agent_preflight.runs.folder import RunFolder
from agent_preflight.runs.plan import TrialPlan
from agent_preflight.runs.request import RunRequest
from agent_preflight.runs.result import KEY_STOPPED, RefusalNotices
from agent_preflight.runs.trial_state import GATE_LOST, Ender, EndReason, TrialState
from agent_preflight.sandboxes.interface import Exit, Sandbox
from agent_preflight.sidecar.keeper import Sidecar
from preflight_proxy.base.control_messages import SUB_KEY_LIMIT, Balance, LedgerEvent
from preflight_proxy.base.log import redact
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.core.terminal import plain

AGENT_END_S = 2.0
"""An agent that says it is done has this long to end by itself, or to continue."""
GATE_BACK_S_MAX = 15.0
"""A gate that runs connects to a restarted proxy within a fraction of a second."""


@dataclass
class RunContext:
    """What all trials of a run use. The last four are set before the first trial begins.

    Attributes:
        request: What is to be done.
        run_id: The run's name.
        folder: Its folder, locked.
        stop: How a person ends it early.
        progress: Shows how its trials stand.
        base_url: OpenRouter's API base.
        sidecar: Its proxy.
        setup: What its trials run in.
        authority: Certifies the proxy as `openrouter.ai` for agents in containers; None without containers.
        notices: Tells what happens.
    """

    request: RunRequest
    run_id: str
    folder: RunFolder
    stop: StopSignal
    progress: RunProgress
    base_url: str
    sidecar: Sidecar = field(init=False)
    setup: SandboxSetup = field(init=False)
    authority: Authority | None = field(init=False)
    notices: Notices = field(init=False)

    @property
    def settings(self) -> RunSettings:
        """What all trials have in common."""
        return self.request.settings


class RunningTrial:
    """A trial's state, logs, streams, tasks and account.

    Args:
        plan: Its plan.
        number: Its place in the run, from 0.
        policy: Its own eject policy.
        run: What it shares with the other trials.
    """

    def __init__(self, plan: TrialPlan, number: int, policy: EjectPolicy, run: RunContext) -> None:
        self.plan = plan
        self.number = number
        self.run = run
        self.folder: Path = run.folder.make_trial_dir(plan.alias)
        self.state = TrialState.PLANNED
        self.events = TrialLogs(self.folder)
        self.watch = Watch(policy, run.settings.on_event, lambda: self.progress, self.say)
        self.output = AgentStreams(self.events, self.watch.take, self._agent_end)
        self.tasks = Tasks()
        self.readers: list[asyncio.Task[None]] = []
        self.exiting: list[asyncio.Task[None]] = []
        self.watching: asyncio.Task[None] | None = None
        self.sub_key: SubKey | None = None
        self.sandbox: Sandbox | None = None
        self.warnings: list[str] = []
        self.refusals = RefusalNotices()
        self._marks = SpendMarks()
        self.exit: Exit | None = None
        self.ending: EndReason | None = None
        self.ended = asyncio.Event()
        self.ledger_event = asyncio.Event()
        self.began_at = datetime.now(UTC)
        self.absence = MissingGate()
        self._agent_end_timer: asyncio.TimerHandle | None = None

    @property
    def alias(self) -> str:
        """The trial's name."""
        return self.plan.alias

    @property
    def progress(self) -> TrialProgress:
        """The trial's figures."""
        return self.run.progress.row(self.alias)

    @property
    def balance(self) -> Balance:
        """The newest known balance of the account."""
        return self.progress.balance

    @property
    def elapsed_s(self) -> float:
        """Seconds from the agent's start to the trial's end, or to now."""
        return self.progress.seconds(now_s())

    def update(self, **changes: object) -> None:
        """Change some of the trial's figures."""
        self.run.progress.update(self.alias, **changes)

    def move(self, state: TrialState) -> None:
        """Move to a later state, and log that."""
        assert self.state < state, f"{self.state} -> {state}"
        self.state = state
        self.events.log("preflight_state", state=state.text)
        if self.ending is None:
            self.update(state=state.text)

    def started(self) -> None:
        """Start the trial's clock, because its agent runs: C14 (starting many)."""
        self.began_at = datetime.now(UTC)
        self.update(started_s=now_s())

    def end(self, ending: EndReason) -> None:
        """End the trial for this reason, unless it has ended."""
        if self.ending is not None:
            return
        self.ending = ending
        if ending.by is Ender.EJECTED:
            self.say(f"EJECTING: {ending.text}")
            self.notice("ejected", ending.text)
        self.events.log("preflight_ending", by=ending.by.value, text=ending.text)
        self.update(state="ending", note=ending.text, ended_s=now_s())
        self.ended.set()

    def on_ledger_event(self, event: LedgerEvent) -> None:
        """Take an event of the trial's account."""
        if event.balance is not None:
            self.take_balance(event.balance)
        used, limit = self.balance.posted_pusd, self.balance.limit_pusd
        match event.type:
            case "settled":
                self.update(repeats=event.repeats or 0)
                self.events.log("budget_poll", used=float(usd(used)), remaining=float(usd(max(limit - used, 0))))
            case "limit":
                self.update(limit_pusd=limit)
                self.events.log("preflight_limit", limit=float(usd(limit)))
                self.say(f"the budget is {dollars(limit)} now")
            case "frozen" if event.reason == SUB_KEY_LIMIT:
                self.notice("drift", KEY_STOPPED)
            case "refused" | "unserved" if (line := self.refusals.notice(event)) is not None:
                self.warn(line)
        self.ledger_event.set()
        self.tick()

    def take_balance(self, balance: Balance) -> None:
        """Keep the account's balance, unless a newer one is known."""
        self.run.progress.put(replace(self.progress.with_balance(balance), tool_calls=self.output.tool_calls))
        for kind, text in self._marks.new(self.balance).items():
            self.notice(kind, text)

    def tick(self) -> None:
        """Check the gate, and let the policy judge; called each second and at each event."""
        is_missing = self.absence.is_too_long(self.balance.gate, now_s())
        if self.balance.gate == "lost" or (is_missing and self.state is TrialState.RUNNING):
            self.end(GATE_LOST)
        self.watch.look()

    def log(self, text: str) -> str:
        """Write a line to run.log, without keys and terminal escapes, and return what was written. Any thread."""
        line = plain(redact(text))
        self.events.line(line)
        return line

    def say(self, text: str) -> None:
        """Write a line to run.log as `log` does, and print it. Any thread."""
        line = self.log(text)
        with contextlib.suppress(Exception):  # a closed pipe or an error in the caller's function stops nothing
            self.run.request.say(f"[{self.alias}] {line}")

    def warn(self, text: str, kind: str = WARNING) -> None:
        """Say a line, and keep it as a notice of a kind."""
        self.say(text)
        self.notice(kind, text)

    def notice(self, kind: str, text: str) -> None:
        """Tell what happened, with the figures of now."""
        self.run.notices.add(kind, text, self.progress)

    def _agent_end(self, is_done: bool) -> None:
        """End the trial soon, because the agent says that it is done; not if it continues meanwhile."""
        if self._agent_end_timer is not None:
            self._agent_end_timer.cancel()
        if is_done:
            self._agent_end_timer = asyncio.get_running_loop().call_later(
                AGENT_END_S, lambda: self.end(EndReason(Ender.AGENT_END, self.output.end.error))
            )


@dataclass(slots=True)
class MissingGate:
    """How long a restarted proxy has waited for a gate: C4 (a lost gate). A gate that is gone sends nothing."""

    since_s: float | None = None

    def is_too_long(self, gate: str | None, at_s: float) -> bool:
        """Take a gate's state. Returns whether it has been missing for too long."""
        if gate != "waiting":
            self.since_s = None
            return False
        self.since_s = at_s if self.since_s is None else self.since_s
        return at_s - self.since_s > GATE_BACK_S_MAX


class TrialLogs(EventLogger):
    """events.jsonl and run.log of one trial, both private. A full disk raises nothing here: lost lines are counted.

    Args:
        folder: The trial's.

    Attributes:
        lost: Records and lines that could not be written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "events.jsonl")
        self._run_log = folder / "run.log"
        self.lost = 0
        for path in (self.path, self._run_log):
            path.touch(mode=0o600)
            path.chmod(0o600)

    def log(self, event_type: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
        """Append a record of the runner, with a ``source`` that no event of an agent can have."""
        self.record({"type": event_type, "source": "preflight", **fields})

    def record_all(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Append events, as `EventLogger` does. If that fails, count them and return 0."""
        records = list(events)
        try:
            return super().record_all(records)
        except OSError:
            self.lost += len(records)
            return 0

    def line(self, text: str) -> None:
        """Append a line to run.log. Any thread."""
        try:
            with self._run_log.open("ab", buffering=0) as log:  # one write, which other threads cannot interrupt
                log.write(f"{text}\n".encode())
        except OSError:
            self.lost += 1
