"""One trial while it lives: what its set-up, its watch and its clean-up share."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_preflight.base.terminal import plain
from agent_preflight.base.usd import dollars, usd
from agent_preflight.eject import EjectPolicy
from agent_preflight.environment.authority import Authority
from agent_preflight.events import EventLogger
from agent_preflight.openrouter.subkeys import SubKey
from agent_preflight.runner.loop import StopSignal
from agent_preflight.runner.output import AgentStreams
from agent_preflight.runner.progress import RunProgress, now_s
from agent_preflight.runner.user_thread import UserThread
from agent_preflight.runner.watch import TrialFigures, Watch
from agent_preflight.runs.disk import FREE_BYTES_MIN
from agent_preflight.runs.folder import RunFolder
from agent_preflight.runs.plan import Surroundings, TrialPlan
from agent_preflight.runs.trial_state import GATE_LOST, Ender, EndReason, TrialState
from agent_preflight.runs.verdict import RefusalNotices
from agent_preflight.sandboxes.interface import AgentSpec, Exit, Sandbox
from agent_preflight.sidecar import Sidecar
from preflight_proxy.base.control_messages import Balance, LedgerEvent
from preflight_proxy.base.log import redact
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.core.secret import Secret

GATE_BACK_S_MAX = 15.0
"""A gate that is there comes back to a proxy within a fraction of a second."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all trials of a run use.

    Attributes:
        admin_key: Makes and deletes sub-keys.
        base_url: OpenRouter's API base.
        make_sandbox: Makes the place where an agent runs.
        say: Prints a line for a person.
        free_bytes_min: With less room than this on the disk no trial goes on.
        authority: By which agents in containers take the proxy for `openrouter.ai`; None without containers.
        portal_host: Where forwarders of portable gates find the proxy; None for gates that hand over.
        image_env: The variables of the agents' image.
    """

    run_id: str
    folder: RunFolder
    around: Surroundings
    admin_key: Secret
    base_url: str
    sidecar: Sidecar
    make_sandbox: Callable[[AgentSpec], Sandbox]
    stop: StopSignal
    progress: RunProgress
    say: Callable[[str], None]
    free_bytes_min: int = FREE_BYTES_MIN
    authority: Authority | None = None
    portal_host: str | None = None
    image_env: Mapping[str, str] = field(default_factory=dict)


class RunningTrial:
    """A trial's state and what hangs on it.

    Args:
        plan: What it is to do.
        number: Its place in the run.
        policy: Its own eject policy.
        on_event: The user's function for events, or None.
        shared: See there.
    """

    def __init__(
        self,
        plan: TrialPlan,
        number: int,
        policy: EjectPolicy,
        on_event: Callable[[dict[str, Any]], object] | None,
        shared: RunContext,
    ) -> None:
        self.plan = plan
        self.number = number
        self.shared = shared
        self.folder: Path = shared.folder.make_trial_dir(plan.alias)
        self.state = TrialState.PLANNED
        self.events = TrialLogs(self.folder)
        self.user_thread = UserThread(f"trial {plan.alias}")
        self.seen = TrialFigures(balance=Balance(limit_pusd=plan.budget_pusd))
        self.watch = Watch(policy, on_event, self.user_thread, self.seen, self.say)
        self.output = AgentStreams(self.events, self.watch.event, self._agent_end)
        self.tasks = Tasks()
        self.readers: list[asyncio.Task[None]] = []
        self.exiting: list[asyncio.Task[None]] = []
        self.watching: asyncio.Task[None] | None = None
        self.sub_key: SubKey | None = None
        self.sandbox: Sandbox | None = None
        self.warnings: list[str] = []
        self.refusals = RefusalNotices()
        self.exit: Exit | None = None
        self.ending: EndReason | None = None
        self.ended = asyncio.Event()
        self.agent_ended = asyncio.Event()
        self.agent_goes_on = asyncio.Event()
        self.heard = asyncio.Event()
        self.times = TrialTimes()
        self.absence = MissingGate()

    @property
    def alias(self) -> str:
        """The trial's name."""
        return self.plan.alias

    @property
    def balance(self) -> Balance:
        """The account as last heard of."""
        return self.seen.balance

    def move(self, state: TrialState) -> None:
        """Go on to a state, and leave a record of it."""
        assert self.state < state, f"{self.state} -> {state}"
        self.state = state
        self.events.log("preflight_state", state=state.text)
        if self.ending is None:
            self.shared.progress.update(self.alias, state=state.text)

    def end(self, ending: EndReason) -> None:
        """End the trial for this reason, unless it has ended for another."""
        if self.ending is not None:
            return
        self.ending = ending
        self.times.ended(now_s())
        if ending.by is Ender.EJECTED:
            self.say(f"EJECTING: {ending.text}")
        self.events.log("preflight_ending", by=ending.by.value, text=ending.text)
        self.shared.progress.update(self.alias, state="ending", note=ending.text, ended_s=self.times.ended_s)
        self.ended.set()

    def hear(self, event: LedgerEvent) -> None:
        """Take an event of the trial's account."""
        if event.balance is not None:
            self.take_balance(event.balance)
        if event.type == "settled":
            self.seen.repeats = event.repeats or 0
            self._log_poll()
        if event.type in ("refused", "unserved") and (told := self.refusals.hear(event)) is not None:
            self.say(told)
        if event.type == "limit":
            self._log_limit()
        if event.type == "gate" and event.state == "lost" and self.state is TrialState.RUNNING:
            self.end(GATE_LOST)
        self.heard.set()
        self.watch.look()

    async def until_agent_end(self, grace_s: float) -> None:
        """Return when the agent has said that it is done, and has not gone on within the grace."""
        while True:
            await self.agent_ended.wait()
            try:
                await asyncio.wait_for(self.agent_goes_on.wait(), grace_s)
            except TimeoutError:
                return

    def take_balance(self, balance: Balance) -> None:
        """Remember how the account stands, unless this is older than what is known."""
        self.seen.take(balance)
        self.shared.progress.update(self.alias, balance=self.balance, tool_calls=self.output.tool_calls)

    def tick(self) -> None:
        """A second has passed."""
        self.seen.elapsed_s = self.times.elapsed_s(now_s())
        if self.absence.is_too_long(self.balance.gate, now_s()) and self.state is TrialState.RUNNING:
            self.end(GATE_LOST)
        self.watch.look()

    def log(self, text: str) -> str:
        """Write a line to run.log and return it as written: what looks like a key is blotted out, escapes are gone. Any thread."""
        line = plain(redact(text))
        self.events.line(line)
        return line

    def say(self, text: str) -> None:
        """Write a line to run.log as `log` does, and print it. Any thread."""
        line = self.log(text)
        with contextlib.suppress(
            Exception
        ):  # a closed pipe, or a caller's own function: no reason not to end the trial
            self.shared.say(f"[{self.alias}] {line}")

    def _log_poll(self) -> None:
        used, limit = self.balance.posted_pusd, self.balance.limit_pusd
        self.events.log("budget_poll", used=float(usd(used)), remaining=float(usd(max(limit - used, 0))))

    def _log_limit(self) -> None:
        limit_pusd = self.balance.limit_pusd
        self.events.log("preflight_limit", limit=float(usd(limit_pusd)))
        self.shared.progress.update(self.alias, limit_pusd=limit_pusd)
        self.say(f"the budget is {dollars(limit_pusd)} now")

    def _agent_end(self, said: bool) -> None:
        for event, holds in ((self.agent_ended, said), (self.agent_goes_on, not said)):
            if holds:
                event.set()
            else:
                event.clear()


@dataclass(slots=True)
class MissingGate:
    """How long a proxy that was started again has been waiting for a gate: one that is gone tells nobody (C4)."""

    since_s: float | None = None

    def is_too_long(self, gate: str | None, at_s: float) -> bool:
        """Take note of a gate's state, and tell whether it will not come back."""
        if gate != "waiting":
            self.since_s = None
            return False
        self.since_s = at_s if self.since_s is None else self.since_s
        return at_s - self.since_s > GATE_BACK_S_MAX


@dataclass(slots=True)
class TrialTimes:
    """When a trial began, when its agent started, when it ended."""

    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began_s: float = field(default_factory=now_s)
    started_s: float | None = None
    ended_s: float | None = None

    def started(self, at_s: float) -> None:
        """The agent runs: the trial's clock begins, and its beginning is now (C14)."""
        self.started_s = at_s
        self.began_at = datetime.now(UTC)

    def ended(self, at_s: float) -> None:
        """The trial is over."""
        self.ended_s = at_s

    def elapsed_s(self, at_s: float) -> float:
        """Return the seconds since the agent's start; 0 before it."""
        return 0.0 if self.started_s is None else (self.ended_s or at_s) - self.started_s


class TrialLogs(EventLogger):
    """events.jsonl and run.log of one trial, both private.

    Args:
        folder: The trial's.

    Attributes:
        lost: Records and lines that could not be written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "events.jsonl")
        self._run_log = folder / "run.log"
        self._lock = threading.Lock()
        self.lost = 0
        for path in (self.path, self._run_log):
            path.touch(mode=0o600)
            path.chmod(0o600)

    def log(self, event_type: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
        """Append a record of the harness's own, whose ``source`` no event of an agent can have."""
        self.record({"type": event_type, "source": "preflight", **fields})

    def record(self, event: Mapping[str, Any]) -> int:
        """Append one event, as `EventLogger` does; where that fails it is counted, and takes no bytes."""
        try:
            return super().record(event)
        except OSError:
            self.lost += 1
            return 0

    def line(self, text: str) -> None:
        """Append a line to run.log. Any thread."""
        try:
            with self._lock, self._run_log.open("a", encoding="utf-8") as log:
                log.write(text + "\n")
        except OSError:
            self.lost += 1
