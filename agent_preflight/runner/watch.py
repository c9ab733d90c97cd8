"""The user's code in a trial: `on_event` for each event in order, and the policy on each event, settlement and second.

All of it runs in the trial's own thread. A slow one delays only its own trial; the hard budget does not wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import structs

from agent_preflight.base.usd import usd
from agent_preflight.eject import EjectPolicy
from agent_preflight.models import BudgetStatus
from agent_preflight.runner.user_thread import UserThread
from agent_preflight.runs.trial_state import Ender, EndReason
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.refusals.outcomes import Outcomes

Event = dict[str, Any]

EVENTS_KEPT = 100_000
"""A policy sees the newest events of an agent that prints more; when the list is full, its oldest tenth goes."""
BACKLOG_MAX = 50_000
"""Events that wait for slow user code; more are logged and counted, but not handed on."""
KEPT_BYTES_MAX = BACKLOG_BYTES_MAX = 256 * 2**20
"""The same bounds in memory, for agents whose events are large."""
POLICY_ERRORS_LOGGED = 3


@dataclass(slots=True)
class TrialFigures:
    """The trial as the watch was last told of it; written by the loop, read by the thread."""

    elapsed_s: float = 0.0
    balance: Balance = field(default_factory=Balance)
    repeats: int = 0

    def take(self, balance: Balance) -> None:
        """Remember how the account stands, unless this is older than what is known.

        A proxy that was killed has forgotten what became of the calls since its account's last change.
        """
        if balance.as_of < self.balance.as_of:
            return
        known = self.balance.outcomes
        self.balance = structs.replace(balance, outcomes=known) if _count(balance.outcomes) < _count(known) else balance


def _dollars(balance: Balance) -> dict[str, float]:
    """The account in USD, as a policy's context has it."""
    amounts_pusd = {
        "spent_usd": balance.posted_pusd,
        "reserved_usd": balance.pending_pusd,
        "available_usd": balance.available_pusd,
        "limit_usd": balance.limit_pusd,
    }
    return {name: float(usd(amount_pusd)) for name, amount_pusd in amounts_pusd.items()}


def _count(outcomes: Outcomes) -> int:
    return outcomes.served + outcomes.unserved


class Watch:
    """Judges one trial.

    Args:
        policy: The trial's own.
        on_event: The user's function, or None.
        user_thread: The trial's thread.
        seen: How the trial stands.
        log: Takes a line for run.log; called in the thread.
        kept_bytes_max: How much memory the events that the policy sees may take.
        backlog_bytes_max: How much the events may take that wait.

    Attributes:
        policy_errors: How often the policy raised.
        dropped: Events that were not handed on, because user code was too slow, or because they came after the end.
        forgotten: Events that the policy has seen and will not see again.
    """

    def __init__(
        self,
        policy: EjectPolicy,
        on_event: Callable[[Event], object] | None,
        user_thread: UserThread,
        seen: TrialFigures,
        log: Callable[[str], None],
        *,
        kept_bytes_max: int = KEPT_BYTES_MAX,
        backlog_bytes_max: int = BACKLOG_BYTES_MAX,
    ) -> None:
        self._policy = policy
        self._on_event = on_event
        self._user_thread = user_thread
        self._seen = seen
        self._log = log
        self._kept_bytes_max, self._backlog_bytes_max = kept_bytes_max, backlog_bytes_max
        self._waiting: list[tuple[Event, int]] = []
        self._waiting_bytes = 0
        self._due = asyncio.Event()
        self._closed = False
        self._events: list[Event] = []
        self._weights: deque[int] = deque()
        self._kept_bytes = 0
        self._context: dict[str, Any] = {"tool_calls": 0}
        self.policy_errors = 0
        self.dropped = 0
        self.forgotten = 0

    def event(self, event: Event, weight_bytes: int) -> None:
        """Take an event of the agent, and about what it takes in memory."""
        full = len(self._waiting) >= BACKLOG_MAX or self._waiting_bytes + weight_bytes > self._backlog_bytes_max
        if full or self._closed:
            self.dropped += 1
            return
        self._waiting.append((event, weight_bytes))
        self._waiting_bytes += weight_bytes
        self._due.set()

    def look(self) -> None:
        """Ask the policy again: a call was settled, or a second has passed."""
        self._due.set()

    def close(self) -> None:
        """No more events come: `run` returns when it has handed on what is waiting."""
        self._closed = True
        self._due.set()

    async def run(self) -> EndReason | None:
        """Work until somebody's code ends the trial, or until `close`; returns the ending, if any."""
        while True:
            await self._due.wait()
            self._due.clear()
            batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if batch or not self._closed:
                ending = await self._user_thread.call(partial(self._work, batch, judged=not self._closed))
                if ending is not None:
                    return ending
            if self._closed and not self._waiting:
                return None

    def _work(self, batch: list[tuple[Event, int]], *, judged: bool) -> EndReason | None:
        """In the thread: hand on the events, each judged; without any, judge once."""
        for event, weight_bytes in batch:
            try:
                if self._on_event is not None:
                    self._on_event(event)
            except Exception as exc:
                return EndReason(Ender.CALLBACK, str(exc) or type(exc).__name__)
            self._take(event, weight_bytes)
            if judged and not self._closed and (ending := self._judge()) is not None:
                return ending
        return self._judge() if judged and not batch else None

    def _take(self, event: Event, weight_bytes: int) -> None:
        self._events.append(event)
        self._weights.append(weight_bytes)
        self._kept_bytes += weight_bytes
        while len(self._events) > EVENTS_KEPT or self._kept_bytes > self._kept_bytes_max:
            self._forget(len(self._events) // 10 + 1)
        self._context["tool_calls"] += event.get("type") == "tool_execution_start"

    def _forget(self, count: int) -> None:
        del self._events[:count]
        self._kept_bytes -= sum(self._weights.popleft() for _ in range(count))
        self.forgotten += count

    def _judge(self) -> EndReason | None:
        seen, balance = self._seen, self._seen.balance
        self._context |= {
            "calls": balance.calls,
            "calls_in_flight": balance.calls_in_flight,
            "repeats": seen.repeats,
            **_dollars(balance),
        }
        status = BudgetStatus(float(usd(balance.posted_pusd)), float(usd(balance.limit_pusd)), spent=balance.spent)
        try:
            decision = self._policy.check(
                elapsed_s=seen.elapsed_s, budget_status=status, events=self._events, context=self._context
            )
        except Exception as exc:
            self.policy_errors += 1
            if self.policy_errors <= POLICY_ERRORS_LOGGED:
                self._log(f"the eject policy raised {type(exc).__name__}: {exc}; it ejects nothing this time")
            return None
        return EndReason(Ender.EJECTED, decision.reason) if decision.should_eject else None
