"""Runs checks side by side, yields their results in a fixed order, and limits the time of each."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from agent_preflight.checks.report import CheckLine


class Job(msgspec.Struct, frozen=True):
    """A check to be run.

    Attributes:
        run: Runs the check; returns its lines.
        crashed: Returns the line of a check without a result, from the reason.
        limit_s: Seconds it may take.
        lane: Jobs of one lane run one after another, in order; lanes run side by side.
    """

    run: Callable[[], list[CheckLine]]
    crashed: Callable[[str], CheckLine]
    limit_s: float
    lane: str


class _Slot(msgspec.Struct):
    job: Job
    lines: list[CheckLine] = []
    started: threading.Event = msgspec.field(default_factory=threading.Event)
    started_at: float = 0.0
    done: threading.Event = msgspec.field(default_factory=threading.Event)


def run_in_order(jobs: Sequence[Job]) -> Iterator[list[CheckLine]]:
    """Start all lanes and yield each job's lines in the order of the jobs.

    A job that takes too long fails, and so do the jobs behind it in its lane. Its thread goes on as a daemon, which does not keep
    the process alive.
    """
    slots = [_Slot(job) for job in jobs]
    for lane in dict.fromkeys(job.lane for job in jobs):
        mine = [slot for slot in slots if slot.job.lane == lane]
        threading.Thread(target=_run_lane, args=(mine,), name=f"preflight {lane}", daemon=True).start()
    stuck: set[str] = set()
    for slot in slots:
        yield _result(slot, stuck)


def _run_lane(slots: Sequence[_Slot]) -> None:
    for slot in slots:
        slot.started_at = time.monotonic()
        slot.started.set()
        try:
            slot.lines = slot.job.run()
        except BaseException as exc:  # an exception of this thread is seen nowhere else
            slot.lines = [slot.job.crashed(str(exc) or type(exc).__name__)]
        slot.done.set()


def _result(slot: _Slot, stuck: set[str]) -> list[CheckLine]:
    if slot.job.lane in stuck and not slot.done.is_set():
        return [slot.job.crashed("not run: the check before it did not end")]
    slot.started.wait()
    if slot.done.wait(max(slot.started_at + slot.job.limit_s - time.monotonic(), 0.0)):
        return slot.lines
    stuck.add(slot.job.lane)
    return [slot.job.crashed(f"no result within {slot.job.limit_s:.0f}s")]
