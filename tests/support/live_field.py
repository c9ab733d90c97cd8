"""A run in a thread, which a test can change while it runs."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from agent_preflight.models import RunResult
from tests.support.trial_field import Field

LIMIT_S = 60.0
WAITING = "call(); say('ready'); time.sleep(60)"
"""An agent that has spent something and then does nothing."""


class LiveField:
    """A run with the id `live`. Entering it waits until `ready` agents have said that they are ready."""

    def __init__(self, trials: Field, agents: Mapping[str, str], *, ready: int = 1, **options: Any) -> None:
        self.trials = trials
        self.run_dir: Path = trials.runs_dir / "live"
        self._agents, self._options = agents, options
        self._due = threading.Semaphore(0)
        self._ready = ready
        self._pool = ThreadPoolExecutor(1)
        self._future: Future[list[RunResult]] | None = None

    def __enter__(self) -> Self:
        self._future = self._pool.submit(
            lambda: self.trials.run(self._agents, run_id="live", on_event=self._heard, **self._options)
        )
        for _ in range(self._ready):
            assert self._due.acquire(timeout=LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def _heard(self, event: dict[str, Any]) -> None:
        if event["type"] == "ready":
            self._due.release()

    def until(self) -> None:
        """Return when one more agent has said that it is ready."""
        assert self._due.acquire(timeout=LIMIT_S)

    def results(self) -> list[RunResult]:
        """Wait for the end of the run; return its results."""
        assert self._future is not None
        return self._future.result(LIMIT_S)
