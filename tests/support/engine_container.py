"""One container of a scripted engine: what it is, and what becomes of it by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

NEVER = "0001-01-01T00:00:00Z"
USUAL_DIRECTORIES = frozenset({"/", "/tmp", "/workspace"})


class Listener(Protocol):
    """A connection that is attached to a container."""

    def feed(self, stream: int, data: bytes) -> None:
        """Take what was printed: 1 is stdout, 2 is stderr."""

    def finish(self) -> None:
        """Close the connection after what was fed."""


@dataclass(eq=False, kw_only=True)
class Container:
    """One container; a test may change whatever it likes. `ended` and `removed` are set when that happens next."""

    id: str
    name: str
    config: dict[str, Any]
    host_config: dict[str, Any]
    image_id: str
    changed: Callable[[], None]
    created: datetime
    status: Literal["created", "running", "paused", "exited"] = "created"
    exit_code: int = 0
    oom: bool = False
    error: str = ""
    started_at: str = NEVER
    finished_at: str = NEVER
    directories: set[str] = field(default_factory=lambda: set(USUAL_DIRECTORIES))
    archives: list[tuple[str, bytes]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    signals: list[str] = field(default_factory=list)
    ignored_signals: set[str] = field(default_factory=set)
    output: list[tuple[int, bytes]] = field(default_factory=list)
    stdin: bytearray = field(default_factory=bytearray)
    stdin_closed: bool = False
    attached: list[Listener] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    removed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        """Tell whether it has a process, be it paused."""
        return self.status in {"running", "paused"}

    def begin(self) -> None:
        """Let it run, be it again."""
        self.stdin_closed = self.stdin_closed and self.status == "created"
        self.status, self.started_at, self.exit_code, self.oom = "running", timestamp(), 0, False
        self.changed()

    def print(self, stream: int, data: bytes) -> None:
        """Let it print to stdout (1) or stderr (2); it runs."""
        assert self.running, f"{self.name} is {self.status}: it cannot print"
        self.output.append((stream, data))
        for listener in self.attached:
            listener.feed(stream, data)

    def end(self, code: int, *, oom: bool = False) -> None:
        """End its process and all that is attached; it runs."""
        assert self.running, f"{self.name} is {self.status}: it cannot end"
        self.status, self.finished_at, self.exit_code, self.oom = "exited", timestamp(), code, oom
        for listener in tuple(self.attached):
            listener.finish()
        self.tell_ended()

    def tell_ended(self) -> None:
        """Wake who waits for its end."""
        ended, self.ended = self.ended, asyncio.Event()
        ended.set()
        self.changed()

    def take(self, data: bytes) -> None:
        """Take what came for its stdin."""
        self.stdin += data
        self.changed()

    def hang_up(self) -> None:
        """An attached stdin was closed: so is the container's, if it was to be read once."""
        self.stdin_closed = self.stdin_closed or bool(self.config["StdinOnce"])
        self.changed()

    def inspect(self) -> dict[str, Any]:
        """Return what the engine tells of it."""
        state = {
            "Status": self.status,
            "Running": self.running,
            "Paused": self.status == "paused",
            "Restarting": False,
            "OOMKilled": self.oom,
            "Dead": False,
            "Pid": 4711 if self.running else 0,
            "ExitCode": self.exit_code,
            "Error": self.error,
            "StartedAt": self.started_at,
            "FinishedAt": self.finished_at,
        }
        told = {"Id": self.id, "Name": f"/{self.name}", "Created": timestamp(self.created), "Image": self.image_id}
        return told | {"State": state, "Config": self.config, "HostConfig": self.host_config, "Mounts": []}

    def summary(self) -> dict[str, Any]:
        """Return its entry in a list."""
        told = {"Id": self.id, "Names": [f"/{self.name}"], "Image": self.config["Image"], "ImageID": self.image_id}
        told |= {"Created": int(self.created.timestamp()), "Labels": self.config["Labels"]}
        return told | {"State": self.status, "Status": self.status.capitalize(), "Mounts": []}


def timestamp(when: datetime | None = None) -> str:
    """Return a time, or the time now, as the engine writes it: with nanoseconds."""
    return (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
