"""The states of a trial, how it can end, and what is owed from each state. Pure.

Theory of operation. A trial goes through one list of states, always forward, never skipping an undo. Set-up moves it as
far as it comes; then, whatever ended it (the agent itself, a policy, a person, a crash of ours), the same clean-up follows
from the state that it had reached:

    PLANNED -> PROVISIONED -> OPENED -> CREATED -> RUNNING        set-up, each may be the last
            -> FROZEN -> GONE -> SETTLED -> KEY_DELETED           clean-up, in this order, each verified
            -> SUMMARISED                                         always

Money first: after FROZEN no call is admitted, so the order of the rest decides nothing about the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

from agent_preflight.sandboxes.interface import Exit, Step
from preflight_proxy.core.errors import OperatingError


class TrialState(Enum):
    """How far a trial has come; the order of definition is the order of passing."""

    PLANNED = auto()
    PROVISIONED = auto()
    OPENED = auto()
    CREATED = auto()
    RUNNING = auto()
    FROZEN = auto()
    GONE = auto()
    SETTLED = auto()
    KEY_DELETED = auto()
    SUMMARISED = auto()

    def __lt__(self, other: TrialState) -> bool:
        return self.value < other.value

    @property
    def text(self) -> str:
        """The state as files and tables show it."""
        return self.name.lower().replace("_", " ")


class Ender(Enum):
    """Who or what ended a trial."""

    AGENT = "agent"
    AGENT_END = "agent_end"
    EJECTED = "ejected"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    LOST = "lost"
    GATE_LOST = "gate_lost"
    CALLBACK = "on_event"
    PROVISIONING = "provisioning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class EndReason:
    """Why a trial ends, and the words for it: of an agent that ended by itself, the error that its last message was."""

    by: Ender
    text: str = ""

    @classmethod
    def broken(cls, exc: Exception, by: Ender = Ender.ERROR) -> Self:
        """Return the ending by something that went wrong, in its own words where they are meant for people."""
        return cls(by, str(exc) if isinstance(exc, OperatingError) else f"{type(exc).__name__}: {exc}")

    def outcome(self, error: str | None) -> str:
        """Return how a trial with this ending stands, in one word."""
        if self.by in (Ender.EJECTED, Ender.INTERRUPTED, Ender.STOPPED, Ender.LOST):
            return str(self.by.value)
        return "done" if error is None else "failed"


TIME_LIMIT = EndReason(Ender.EJECTED, "time limit")
INTERRUPTED = EndReason(Ender.INTERRUPTED, "interrupted")
GATE_LOST = EndReason(
    Ender.GATE_LOST, "gate lost: a container that carried the agent's calls is gone, or does not move"
)


EXIT_CODE = "the agent ended with exit code"
"""How the error of an agent begins that ended by itself with a code other than 0."""


def error_of(ending: EndReason, exit_: Exit | None) -> str | None:
    """Return the `error` of a trial's result; None if it ended well.

    An agent's exit code is judged only if the agent ended by itself: after `agent_end` or an eject it is what our signal
    made of it. An agent whose last message is an error has failed, also with exit code 0.
    """
    match ending.by:
        case Ender.AGENT_END:
            return ending.text or None
        case Ender.AGENT:
            return _exit_error(exit_) or ending.text or None
        case Ender.EJECTED:
            return f"ejected: {ending.text}"
        case Ender.PROVISIONING:
            return f"provisioning_failed: {ending.text}"
        case _:
            return ending.text or ending.by.value


def _exit_error(exit_: Exit | None) -> str | None:
    if exit_ is None or exit_.code is None:
        return "the agent is gone and its exit code is lost"
    if exit_.out_of_memory:
        return "the agent was killed: out of memory"
    if exit_.bad_system_call:
        return "32-bit programs do not run in a trial"
    if exit_.code == 0:
        return None
    return f"{EXIT_CODE} {exit_.code}"


class CleanUpStep(Enum):
    """What is undone at the end of a trial, in this order; the names stand in summary.json."""

    FREEZE = "freeze"
    KILL = "kill"
    OUTPUT = "output"
    SANDBOX = "sandbox"
    SETTLE = "settle"
    KEY_USAGE = "key_usage"
    ACCOUNT = "account"
    SUB_KEY = "sub_key"


_OWED_FROM = {
    CleanUpStep.FREEZE: TrialState.OPENED,
    CleanUpStep.KILL: TrialState.OPENED,
    CleanUpStep.OUTPUT: TrialState.OPENED,
    CleanUpStep.SANDBOX: TrialState.OPENED,
    CleanUpStep.SETTLE: TrialState.OPENED,
    CleanUpStep.KEY_USAGE: TrialState.PROVISIONED,
    CleanUpStep.ACCOUNT: TrialState.OPENED,
    CleanUpStep.SUB_KEY: TrialState.PROVISIONED,
}
"""The set-up state from which on something is there to undo. A sandbox may be half made from OPENED on."""


def owed(reached: TrialState) -> tuple[CleanUpStep, ...]:
    """Return what must be undone of a trial whose set-up came as far as `reached`, in order."""
    return tuple(step for step in CleanUpStep if not reached < _OWED_FROM[step])


def worst(steps: dict[str, Step]) -> Step:
    """Return the worst result of several steps; `"ok"` where there are none."""
    results = set(steps.values())
    if "failed" in results:
        return "failed"
    return "unverified" if "unverified" in results else "ok"


def unverified_line(cleanups: Sequence[Mapping[str, Any]], where: str = "") -> str | None:
    """Return what is not verified of the trials' clean-up, and what to do; None if all of it is.

    Args:
        cleanups: The steps of each trial, as `preflight.cleanup` in its summary has them.
        where: The option that names the runs' folder, with a space before it.
    """
    open_steps = [[step for step, how in steps.items() if how != "ok"] for steps in cleanups]
    count, keys = sum(map(bool, open_steps)), sum(CleanUpStep.SUB_KEY.value in steps for steps in open_steps)
    if not count:
        return None
    others = list(dict.fromkeys(step for steps in open_steps for step in steps if step != CleanUpStep.SUB_KEY.value))
    told = [_keys(keys)] if keys else []
    told += [f"{'also ' if keys else ''}not verified: {', '.join(others)}"] if others else []
    of = "1 trial" if count == 1 else f"{count} trials"
    return f"The clean-up of {of} is not verified ({'; '.join(told)}). Run `agent-preflight sweep{where}`."


def _keys(count: int) -> str:
    if count == 1:
        return "1 key was not seen to be deleted; it ends by itself within 7 days"
    return f"{count} keys were not seen to be deleted; they end by themselves within 7 days"
