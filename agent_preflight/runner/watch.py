"""Runs the user's code of a trial: `on_event` for each event, and the policy on each event, settlement and second.

It runs in the trial's own thread. Slow code delays its own trial only, and the budget holds without it. If there is no `on_event`
and the policy looks at no event, events are only counted, and the policy judges after several that came together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from agent_preflight.base.usd import usd
from agent_preflight.eject import EjectPolicy, reads_events
from agent_preflight.models import BudgetStatus
from agent_preflight.runner.loop import in_thread
from agent_preflight.runner.progress import TrialProgress, now_s
from agent_preflight.runs.trial_state import Ender, EndReason
from preflight_proxy.base.control_messages import Balance

Event = dict[str, Any]

AGENT_EVENTS_KEPT = 100_000
"""A policy sees at most the newest of so many events. When the list is full, its oldest tenth is dropped."""
BACKLOG_MAX = 50_000
"""At most so many events wait for slow user code. More are logged and counted, but not passed on."""
AGENT_EVENTS_BYTES_MAX = BACKLOG_BYTES_MAX = 256 * 2**20
"""The same limits in memory, for large events."""
POLICY_ERRORS_LOGGED = 3


class Watch:
    """Passes a trial's events to `on_event` and to its policy, until one of them ends the trial.

    Args:
        policy: The trial's own.
        on_event: The user's function, or None.
        progress: Returns the trial's figures now; called in the thread.
        log: Writes a line to run.log; called in the thread.

    Attributes:
        policy_errors: How often the policy raised.
        dropped: Events that were not passed on: user code was too slow, or they came after the end.
        forgotten: Events that were dropped after the policy had seen them.
    """

    def __init__(
        self,
        policy: EjectPolicy,
        on_event: Callable[[Event], object] | None,
        progress: Callable[[], TrialProgress],
        log: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._on_event = on_event
        self._progress = progress
        self._log = log
        self._reads_events = reads_events(policy)
        self._is_listening = on_event is not None or self._reads_events
        self._waiting: SimpleQueue[Sequence[tuple[Event, int]] | None] = SimpleQueue()
        self._count_in = self._count_out = 0
        self._bytes_in = self._bytes_out = 0
        self._events_count = self._tool_calls = 0
        self._balance: Balance | None = None
        self._figures: dict[str, Any] = {}
        self._closed = False
        self._events: list[Event] = []
        self._weights: deque[int] = deque()
        self._kept_bytes = 0
        self._context: dict[str, Any] = {}
        self.policy_errors = 0
        self.dropped = 0
        self.forgotten = 0

    def take(self, events: Sequence[tuple[Event, int]]) -> None:
        """Take events of the agent, each with its size in memory (about)."""
        if not self._is_listening:
            self._count(events)
            self.look()
            return
        kept = []
        for event, weight_bytes in events:
            backlog_bytes = self._bytes_in + weight_bytes - self._bytes_out
            if self._closed or self._count_in - self._count_out >= BACKLOG_MAX or backlog_bytes > BACKLOG_BYTES_MAX:
                self.dropped += 1
                continue
            self._count_in += 1
            self._bytes_in += weight_bytes
            kept.append((event, weight_bytes))
        if kept:
            self._waiting.put(kept)

    def look(self) -> None:
        """Let the policy judge again, after a settlement or a second."""
        if self._waiting.empty():  # else it judges after each event that waits
            self._waiting.put(None)

    def close(self) -> None:
        """Take no more events. `run` returns when it has passed on those that wait."""
        self._closed = True
        self._waiting.put(None)

    async def run(self, thread_name: str) -> EndReason | None:
        """Pass on events until user code ends the trial, or until `close`. Returns the reason, if any."""
        return await in_thread(self._work, thread_name)

    def _work(self) -> EndReason | None:
        """In the thread: pass on each event and judge after it. After `close`, no more is judged."""
        while not (self._closed and self._waiting.empty()):
            for entry in self._waiting.get() or (None,):
                if entry is not None:
                    event, weight_bytes = entry
                    self._count_out += 1
                    self._bytes_out += weight_bytes
                    try:
                        if self._on_event is not None:
                            self._on_event(event)
                    except Exception as exc:
                        return EndReason(Ender.CALLBACK, str(exc) or type(exc).__name__)
                    self._keep(event, weight_bytes)
                if not self._closed and (ending := self._judge()) is not None:
                    return ending
        return None

    def _keep(self, event: Event, weight_bytes: int) -> None:
        self._count(((event, weight_bytes),))
        if not self._reads_events:
            return
        self._events.append(event)
        self._weights.append(weight_bytes)
        self._kept_bytes += weight_bytes
        while len(self._events) > AGENT_EVENTS_KEPT or self._kept_bytes > AGENT_EVENTS_BYTES_MAX:
            count = len(self._events) // 10 + 1
            del self._events[:count]
            self._kept_bytes -= sum(self._weights.popleft() for _ in range(count))
            self.forgotten += count

    def _count(self, events: Sequence[tuple[Event, int]]) -> None:
        self._events_count += len(events)
        self._tool_calls += sum(event.get("type") == "tool_execution_start" for event, _ in events)

    def _judge(self) -> EndReason | None:
        progress = self._progress()
        balance = progress.balance
        if balance is not self._balance:
            self._balance = balance
            self._figures = {
                "calls": balance.calls,
                "calls_in_flight": balance.calls_in_flight,
                "spent_usd": float(usd(balance.posted_pusd)),
                "reserved_usd": float(usd(balance.pending_pusd)),
                "available_usd": float(usd(balance.available_pusd)),
                "limit_usd": float(usd(balance.limit_pusd)),
            }
        self._context |= self._figures
        self._context |= {"events": self._events_count, "tool_calls": self._tool_calls, "repeats": progress.repeats}
        status = BudgetStatus(self._context["spent_usd"], self._context["limit_usd"], spent=balance.spent)
        try:
            decision = self._policy.check(
                elapsed_s=progress.seconds(now_s()),
                budget_status=status,
                events=self._events,
                context=self._context,
            )
        except Exception as exc:
            self.policy_errors += 1
            if self.policy_errors <= POLICY_ERRORS_LOGGED:
                self._log(f"the eject policy raised {type(exc).__name__}: {exc}; it ejects nothing this time")
            return None
        return EndReason(Ender.EJECTED, decision.reason) if decision.should_eject else None
