"""A trial's own two logs, which no full disk can turn against it: what cannot be written is counted, and its end goes on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_preflight.events import EventLogger


class Records(EventLogger):
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
