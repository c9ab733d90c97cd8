"""Token counts that a user's runs share: what a preamble was billed at, and by how much an endpoint's bills passed the estimate.

A preamble is what comes before the first user message: tools and leading system messages (M4, calibration). Counts are looked up in
memory, on the loop. A thread writes them into the user's file and reads what other runs wrote; see `shared_counts_file`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar

from preflight_proxy.base.clock import Clock
from preflight_proxy.core.pricing.token_factors import AS_ESTIMATED, BY_BYTES
from preflight_proxy.ledger.shared_counts_file import (
    KEY_BYTES,
    ROWS_MAX,
    ModelTag,
    Note,
    Rows,
    SharedCountsFile,
    name_of,
)

TOKENS_MAX = 10**9
"""No prompt has as many; a bill of more is an error."""
AGREEMENT = 100
"""Two runs agree if their counts differ by at most one part in this many."""

SHARED_LOOK_S = 60.0
"""What other runs wrote is read this often, as long as counts are looked up."""
GATHER_S = 0.2
"""How long the thread waits for more to write: that much is lost with a process that is killed."""
AGAIN_S = 86400.0
"""A count that this run wrote is written again after this long, so that it does not grow old while it is seen."""
CLOSE_S_MAX = 3.0


class SharedCounts:
    """What this run and the user's others know. Used on the loop, where no call waits for the file or raises.

    Args:
        path: The file; None shares nothing, and what is known is this process's own.
        run: Whatever names the run, the same after a restart.
        upstream: Origin of the API that billed.
        clock: The moments of notes.
        share_preambles: False to know and note no preambles; so it is without a file.
    """

    def __init__(
        self, path: Path | None, *, run: str, upstream: str, clock: Clock, share_preambles: bool = True
    ) -> None:
        self._file = None if path is None else SharedCountsFile(path, upstream, run)
        self._shares_preambles = share_preambles and path is not None
        self._run = run
        self._clock = clock
        self._lock = threading.Lock()  # over memory alone: the thread never keeps it while it reads or writes
        self._news: list[Note] = []
        self._known = _Known(os.urandom(KEY_BYTES), run)  # until the file's key is read
        self._is_used = False
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def shares(self) -> bool:
        """True if accounts may know what others were billed for."""
        return self._shares_preambles

    def begin(self) -> None:
        """Start the thread, which opens the file and reads it."""
        if self._file is not None:
            self._thread = threading.Thread(target=self._work, args=(self._file,), name="shared-counts", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what is not written yet, and end the thread; returns after `CLOSE_S_MAX` at the latest."""
        self._over.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S_MAX)

    def preamble_tokens(self, digest: bytes) -> tuple[int, bool] | None:
        """Return the tokens of a preamble, and whether two runs agree on them; None if none was billed for it.

        If two runs agree, it is the larger of their two counts; else the highest of all.

        Args:
            digest: Of all that decides its tokens and prices, the endpoint included.
        """
        if not self._shares_preambles:
            return None
        self._is_used = True
        known = self._known
        return known.preambles.answers.get(known.name(digest))

    def note_preamble(self, digest: bytes, tokens: int, least_tokens: int) -> None:
        """Note what a prompt with this preamble was billed at. The least that this run saw counts.

        Args:
            digest: See `preamble_tokens`.
            tokens: What was billed.
            least_tokens: A bill of fewer is not believed, and ignored.
        """
        if self._shares_preambles and max(1, least_tokens) <= tokens <= TOKENS_MAX:
            self._note(digest, tokens)

    def forget_preamble(self, digest: bytes) -> None:
        """Delete what all runs noted of a preamble, because a bill has shown that it is too low."""
        self._note(digest, None)

    def factor(self, model: str, tag: str) -> int:
        """Return by how many thousandths the estimate of an endpoint's tokens is to be multiplied, or `BY_BYTES`.

        It is the largest that this run saw, or that two runs saw.
        """
        self._is_used = True
        return self._known.factors.answers.get((model, tag), AS_ESTIMATED)

    def note_factor(self, model: str, tag: str, factor: int) -> None:
        """Note a bill that was above the estimate, as `factor` returns it."""
        if factor > AS_ESTIMATED:
            self._note((model, tag), min(factor, BY_BYTES))

    def clear_factor(self, model: str, tag: str) -> None:
        """Delete what all runs noted of an endpoint, because a person wants that."""
        self._note((model, tag), None)

    def _note(self, key: bytes | ModelTag, count: int | None) -> None:
        with self._lock:
            if self._known.note(key, count, self._clock.epoch_s()) and self._file is not None:
                self._news.append((key, count))
                self._wake.set()

    def _work(self, file: SharedCountsFile) -> None:
        self._exchange(file)
        while not self._over.is_set():
            if self._wake.wait(SHARED_LOOK_S):
                self._over.wait(GATHER_S)
            self._wake.clear()
            if self._news or self._is_used:
                self._exchange(file)
        if self._news:
            self._exchange(file)
        file.close()

    def _exchange(self, file: SharedCountsFile) -> None:
        with self._lock:
            sent, self._news, self._is_used = self._news, [], False
        now_s = self._clock.epoch_s()
        rows = file.exchange(sent, now_s)
        known = None if rows is None else _Known(file.key, self._run, rows)
        with self._lock:
            if known is None:  # memory has it all the same; it is written with what comes next
                self._news = [*sent, *self._news][-ROWS_MAX:]
            else:
                for key, count in self._news:
                    known.note(key, count, now_s)
                self._known = known


_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")
_Runs = dict[bytes, tuple[int, float]]
"""What each run saw of one thing, and when, by the run's name."""


class _Table(Generic[_Key, _Answer]):
    """What runs saw of texts or of endpoints, and what follows from it. Beyond `ROWS_MAX` the oldest are dropped.

    Args:
        rows: The file's, the newest first.
        best: Which of two counts a run keeps.
        judge: What follows from the counts of all runs.

    Attributes:
        answers: What follows, by text or endpoint.
    """

    def __init__(
        self,
        rows: Sequence[tuple[_Key, bytes, int, float]],
        best: Callable[[int, int], int],
        judge: Callable[[_Runs], _Answer],
    ) -> None:
        self._best = best
        self._judge = judge
        self._runs: dict[_Key, _Runs] = {}
        for key, run, count, at_s in reversed(rows):
            self._runs.setdefault(key, {})[run] = count, at_s
        self.answers = {key: judge(runs) for key, runs in self._runs.items()}

    def note(self, key: _Key, run: bytes, count: int | None, now_s: float) -> bool:
        """Add what a run saw, or forget what all saw. Return whether that is new: a better count, or the first for a day."""
        if count is None:
            self._drop(key)
            return True
        if key not in self._runs and len(self._runs) >= ROWS_MAX:
            self._drop(next(iter(self._runs)))
        runs = self._runs.setdefault(key, {})
        before, at_s = runs.get(run, (count, 0.0))
        best = self._best(count, before)
        if best == before and now_s - at_s < AGAIN_S:
            return False
        runs[run] = best, now_s
        self.answers[key] = self._judge(runs)
        return True

    def _drop(self, key: _Key) -> None:
        self._runs.pop(key, None)
        self.answers.pop(key, None)


class _Known:
    """What all runs know, in memory, under one key.

    Args:
        key: The file's.
        run: This run.
        rows: The file's.

    Attributes:
        preambles: By name: tokens, and whether two runs agree.
        factors: By endpoint: thousandths.
    """

    def __init__(self, key: bytes, run: str, rows: Rows = ([], [])) -> None:
        self._key = key
        self._run = name_of(key, b"run", run.encode())
        self.preambles = _Table(rows[0], min, _agreed)
        self.factors = _Table(rows[1], max, partial(_largest, self._run))

    def name(self, digest: bytes) -> bytes:
        """Return the name of a preamble."""
        return name_of(self._key, b"text", digest)

    def note(self, key: bytes | ModelTag, count: int | None, now_s: float) -> bool:
        """Add what this run saw, or forget what all saw; return whether that is new."""
        if isinstance(key, bytes):
            return self.preambles.note(self.name(key), self._run, count, now_s)
        return self.factors.note(key, self._run, count, now_s)


def _agreed(runs: _Runs) -> tuple[int, bool]:
    """Return the count of the two lowest runs that agree, which is the larger of theirs; else the highest."""
    counts = sorted(tokens for tokens, _at_s in runs.values())
    for lower, higher in pairwise(counts):
        if (higher - lower) * AGREEMENT <= higher:
            return higher, True
    return counts[-1], False


def _largest(own: bytes, runs: _Runs) -> int:
    """Return the largest factor that this run saw, or two runs."""
    own_factor, _at_s = runs.get(own, (AS_ESTIMATED, 0.0))
    factors = sorted([AS_ESTIMATED, AS_ESTIMATED, *(factor for factor, _at_s in runs.values())])
    return max(own_factor, factors[-2])
