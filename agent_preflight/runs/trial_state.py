"""The states of a trial, the reasons of its end, and the steps of its clean-up. Pure.

A trial goes through one list of states, always forward. Set-up moves it as far as it succeeds. Then, whatever ended the trial
(its agent, a policy, a person, an error of ours), the clean-up undoes what exists in the state that it had reached:

    PLANNED -> PROVISIONED -> OPENED -> CREATED -> RUNNING        set-up, each may be the last
            -> FROZEN -> GONE -> SETTLED -> KEY_DELETED           clean-up, in this order, each verified
            -> SUMMARISED                                         always

After FROZEN no call is admitted, so the later steps cannot exceed the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, Self

import msgspec

from agent_preflight.base.tables import counted
from agent_preflight.sandboxes.interface import Exit, Step
from preflight_proxy.core.errors import OperatingError


class TrialState(Enum):
    """How far a trial has come, in this order."""

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
        """The state's name in files and tables."""
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


class EndReason(msgspec.Struct, frozen=True):
    """Why a trial ends.

    Attributes:
        by: Who or what ended it.
        text: The reason in words. Of an agent that ended by itself: its last message, if that is an error.
    """

    by: Ender
    text: str = ""

    @classmethod
    def broken(cls, exc: Exception, by: Ender = Ender.ERROR) -> Self:
        """Return the reason for a trial that an exception ended, with the exception's type unless its text is for people."""
        return cls(by, str(exc) if isinstance(exc, OperatingError) else f"{type(exc).__name__}: {exc}")

    def outcome(self, error: str | None) -> str:
        """Return the status of a trial that ended so, in one word."""
        if self.by in (Ender.EJECTED, Ender.INTERRUPTED, Ender.STOPPED, Ender.LOST):
            return str(self.by.value)
        return "done" if error is None else "failed"


TIME_LIMIT = EndReason(Ender.EJECTED, "time limit")
INTERRUPTED = EndReason(Ender.INTERRUPTED, "interrupted")
GATE_LOST = EndReason(
    Ender.GATE_LOST, "gate lost: a container that carried the agent's calls is gone, or does not move"
)


EXIT_CODE = "the agent ended with exit code"
"""Start of the error of an agent that ended with an exit code other than 0."""


def error_of(ending: EndReason, exit_: Exit | None) -> str | None:
    """Return the `error` of a trial's result; None if it ended well.

    The exit code counts only if the agent ended by itself: after `agent_end` or an eject our signal decided it. An agent whose
    last message is an error has failed, even with exit code 0.
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
    """The steps of a trial's clean-up, in this order. Their names are keys in summary.json."""

    FREEZE = "freeze"
    KILL = "kill"
    OUTPUT = "output"
    SANDBOX = "sandbox"
    SETTLE = "settle"
    KEY_USAGE = "key_usage"
    ACCOUNT = "account"
    SUB_KEY = "sub_key"


def owed(reached: TrialState) -> tuple[CleanUpStep, ...]:
    """Return the steps that a trial's clean-up has, in order.

    Args:
        reached: How far its set-up came. From OPENED on a sandbox may be half made.
    """
    if reached < TrialState.PROVISIONED:
        return ()
    return (CleanUpStep.KEY_USAGE, CleanUpStep.SUB_KEY) if reached < TrialState.OPENED else tuple(CleanUpStep)


def worst(steps: dict[str, Step]) -> Step:
    """Return the worst result of several steps; `"ok"` without steps."""
    return max(steps.values(), key=("ok", "unverified", "failed").index, default="ok")


def unverified_line(cleanups: Sequence[Mapping[str, Any]], where: str = "") -> str | None:
    """Return a line that says which clean-up steps are not verified, and what to do; None if all are.

    Args:
        cleanups: `preflight.cleanup` of each trial's summary.
        where: The option that names the runs' folder, with a space before it.
    """
    open_steps = [[step for step, how in steps.items() if how != "ok"] for steps in cleanups]
    count, keys = sum(map(bool, open_steps)), sum(CleanUpStep.SUB_KEY.value in steps for steps in open_steps)
    if not count:
        return None
    others = list(dict.fromkeys(step for steps in open_steps for step in steps if step != CleanUpStep.SUB_KEY.value))
    parts = [_keys(keys)] if keys else []
    parts += [f"{'also ' if keys else ''}not verified: {', '.join(others)}"] if others else []
    return f"The clean-up of {counted(count, 'trial')} is not verified ({'; '.join(parts)}). Run `agent-preflight sweep{where}`."


def _keys(count: int) -> str:
    if count == 1:
        return "1 key was not seen to be deleted; it ends by itself within 7 days"
    return f"{count} keys were not seen to be deleted; they end by themselves within 7 days"
