"""Runs a score's command to its end within a time limit, here or in a container, and reads its last line.

What it prints goes into `score.log`, up to a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agent_preflight.runs.record import Score
from agent_preflight.runs.trial_state import EndReason, worst
from agent_preflight.sandboxes.interface import Exit, Pipes, Step
from agent_preflight.scoring.reading import SCORE_LINE_BYTES_MAX, score_of_output, unscored
from preflight_proxy.core.errors import OperatingError

T = TypeVar("T")

SCORE_LOG = "score.log"
"""In a trial's folder: what the score's command printed."""
SCORE_LOG_BYTES_MAX = 4 * 2**20
SCORE_CHUNK_BYTES = 2**16
LAST_WORDS_BYTES = 2**13
LAST_SCORE_OUTPUT_S = 2.0
"""How long the rest of the output may take once the command and all its processes have ended."""
SHELL = ("/bin/sh", "-c")
CUT = "scoring was cut off, because the run was ended at once"


class ScoreError(OperatingError):
    """A trial has no score; the text says why."""


class ScorePlace(Protocol):
    """Where a score's command runs: a `SessionProcess`, or a `ScoreContainer`."""

    async def start(self) -> Pipes:
        """Start the command. Raises OperatingError."""

    async def wait(self) -> Exit:
        """Return when it has ended. Raises OperatingError."""

    async def close(self) -> dict[str, Step]:
        """End what may still run, and remove what `start` made; returns whether it is seen to be gone."""


async def within(work: Coroutine[Any, Any, T], timeout_s: float, hurry: asyncio.Event) -> T:
    """Return what some work returns; it is cancelled if it takes too long, or the run is ended at once.

    Raises:
        ScoreError: It did not end in time.
    """
    task, over = asyncio.ensure_future(work), asyncio.ensure_future(hurry.wait())
    try:
        await asyncio.wait([task, over], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ScoreError(CUT if hurry.is_set() else f"it took longer than {timeout_s:g} s (score_timeout_s)")
    finally:
        over.cancel()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


async def score_by_command(
    place: ScorePlace, log: Path, timeout_s: float, score_pass: float, hurry: asyncio.Event
) -> tuple[Score, Step]:
    """Run a score's command to its end. Afterwards nothing of it runs.

    Args:
        place: Where it runs.
        log: The file for what it prints; private.
        timeout_s: It is ended after this long.
        score_pass: The least number that is a success.
        hurry: Set if the run is ended at once.

    Returns:
        The score, and whether what ran is seen to be gone.
    """
    output = _Output(log)
    reading: list[asyncio.Task[None]] = []

    async def run() -> Exit:
        pipes = await place.start()
        pipes.stdin.close()
        streams = ((pipes.stdout, output.end), (pipes.stderr, bytearray()))
        reading.extend(asyncio.ensure_future(output.read(stream, end)) for stream, end in streams)
        return await place.wait()

    exit_, reason = None, ""
    try:
        exit_ = await within(run(), timeout_s, hurry)
    except Exception as exc:  # whatever it is, what was started is ended
        reason = EndReason.broken(exc).text
    gone = worst(await place.close())
    if reading:
        await asyncio.wait(reading, timeout=LAST_SCORE_OUTPUT_S)
        for task in reading:
            task.cancel()
    if exit_ is None:
        return unscored(reason), gone
    if exit_.code != 0:
        memory = " (out of memory)" if exit_.out_of_memory else ""
        return unscored(f"the command ended with exit code {exit_.code}{memory}{output.last_words}"), gone
    return score_of_output(bytes(output.end), score_pass), gone


class _Output:
    """Writes both streams of a command to a log, up to a limit, and keeps their ends."""

    def __init__(self, log: Path) -> None:
        self.end, self._words = bytearray(), bytearray()
        self._log, self._left = log, SCORE_LOG_BYTES_MAX
        log.unlink(missing_ok=True)  # of an earlier attempt
        log.touch(mode=0o600)

    @property
    def last_words(self) -> str:
        """Its last line that is not empty, after a colon; empty if there is none."""
        lines = self._words.decode("utf-8", "replace").split("\n")
        return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")

    async def read(self, stream: StreamReader, end: bytearray) -> None:
        """Read a stream until it is over, and keep its end."""
        while chunk := await stream.read(SCORE_CHUNK_BYTES):
            with contextlib.suppress(OSError), self._log.open("ab", buffering=0) as log:  # the score does not need it
                log.write(chunk[: self._left])
            self._left = max(self._left - len(chunk), 0)
            self._words = (self._words + chunk)[-LAST_WORDS_BYTES:]
            end += chunk
            del end[: -SCORE_LINE_BYTES_MAX - 1]
