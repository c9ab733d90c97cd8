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

from dataclasses import dataclass
from enum import Enum, auto
from typing import Self

from agent_preflight.sandboxes.interface import Exit, Step
from preflight_proxy.core.errors import OperatingError


class State(Enum):
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

    def __lt__(self, other: State) -> bool:
        return self.value < other.value

    @property
    def text(self) -> str:
        """The state as files and tables show it."""
        return self.name.lower().replace("_", " ")


class By(Enum):
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
class Ending:
    """Why a trial ends, and the words for it: of an agent that ended by itself, the error that its last message was."""

    by: By
    text: str = ""

    @classmethod
    def broken(cls, exc: Exception, by: By = By.ERROR) -> Self:
        """Return the ending by something that went wrong, in its own words where they are meant for people."""
        return cls(by, str(exc) if isinstance(exc, OperatingError) else f"{type(exc).__name__}: {exc}")

    def outcome(self, error: str | None) -> str:
        """Return how a trial with this ending stands, in one word."""
        if self.by in (By.EJECTED, By.INTERRUPTED, By.STOPPED, By.LOST):
            return str(self.by.value)
        return "done" if error is None else "failed"


TIME_LIMIT = Ending(By.EJECTED, "time limit")
INTERRUPTED = Ending(By.INTERRUPTED, "interrupted")
GATE_LOST = Ending(By.GATE_LOST, "gate lost: a container that carried the agent's calls is gone, or does not move")


EXIT_CODE = "the agent ended with exit code"
"""How the error of an agent begins that ended by itself with a code other than 0."""


def error_of(ending: Ending, exit_: Exit | None) -> str | None:
    """Return the `error` of a trial's result; None if it ended well.

    An agent's exit code is judged only if the agent ended by itself: after `agent_end` or an eject it is what our signal
    made of it. An agent whose last message is an error has failed, also with exit code 0.
    """
    match ending.by:
        case By.AGENT_END:
            return ending.text or None
        case By.AGENT:
            return _exit_error(exit_) or ending.text or None
        case By.EJECTED:
            return f"ejected: {ending.text}"
        case By.PROVISIONING:
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


class CleanUp(Enum):
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
    CleanUp.FREEZE: State.OPENED,
    CleanUp.KILL: State.OPENED,
    CleanUp.OUTPUT: State.OPENED,
    CleanUp.SANDBOX: State.OPENED,
    CleanUp.SETTLE: State.OPENED,
    CleanUp.KEY_USAGE: State.PROVISIONED,
    CleanUp.ACCOUNT: State.OPENED,
    CleanUp.SUB_KEY: State.PROVISIONED,
}
"""The set-up state from which on something is there to undo. A sandbox may be half made from OPENED on."""


def owed(reached: State) -> tuple[CleanUp, ...]:
    """Return what must be undone of a trial whose set-up came as far as `reached`, in order."""
    return tuple(step for step in CleanUp if not reached < _OWED_FROM[step])


def worst(steps: dict[str, Step]) -> Step:
    """Return the worst result of several steps; `"ok"` where there are none."""
    results = set(steps.values())
    if "failed" in results:
        return "failed"
    return "unverified" if "unverified" in results else "ok"
