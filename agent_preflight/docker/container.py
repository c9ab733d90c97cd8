"""One container from its creation to its removal.

It follows C11 (one step at a time), C12 (ending a container) and C13 (the state comes from `inspect`).

No step of a removal trusts the one before: if a call fails, hangs or returns something wrong, the next harder call follows. Only
the engine's own 404 counts as gone. If the engine does not answer, nothing is known about the container.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from agent_preflight.engine.client import END_CALL_S_MAX, Engine
from agent_preflight.engine.failure import ANSWERED, DockerError, Failure
from agent_preflight.sandboxes.interface import Exit, Step
from preflight_proxy.base.tasks import Tasks

TERM_S = 0.5
"""Time for an agent to write its files. Its calls are refused already, so more time would not help it."""
REMOVE_TRIES = 3
REMOVE_AGAIN_S = 0.2
QUIET_S = 1.0
"""The engine may still run a `create` whose answer was lost, so two inspections this far apart must both find nothing."""
QUIET_TRIES = 10
DETACHED_S_MAX = 2.0
"""An agent's output may end a moment before the engine says that its container has ended."""
ENGINE_AWAY_S = 1.0
"""How often to ask an engine that does not answer."""


class Container:
    """A container of ours.

    Args:
        engine: Where it is, or will be.
        name: Its name, which nothing else has.
        what: What it is, for a person.
        identity: The engine's id of one that is there already.
        owns_network: It has its own network, as gates and forwarders have, and gets no time to write files at its end.

    Attributes:
        exit: How it ended, by itself or by us; None if that is not known.
        is_over: The engine says that it exists, has run, and does not run.
    """

    def __init__(
        self, engine: Engine, name: str, what: str, identity: str | None = None, *, owns_network: bool = False
    ) -> None:
        self.exit: Exit | None = None
        self.is_over = False
        self._engine, self._name, self._what = engine, name, what
        self._id, self._owns_network = identity, owns_network
        self._unanswered = False
        self._step: Step = "unverified"

    @property
    def id(self) -> str:
        """The engine's id.

        Raises:
            DockerError: It was not created.
        """
        if self._id is None:
            raise DockerError(f"{self._what} was not created")
        return self._id

    async def create(self, body: Mapping[str, Any], platform: str | None = None) -> None:
        """Make it, not yet started.

        Raises:
            DockerError: The engine refused, or did not answer; `end` removes what may have been made.
        """
        self._unanswered = True
        try:
            self._id = await self._engine.create(self._name, body, f"creating {self._what}", platform)
        except DockerError as exc:
            self._unanswered = exc.failure not in ANSWERED
            raise
        self._unanswered, self._step = False, "unverified"

    async def start(self) -> None:
        """Start it; it runs, or has run, when this returns.

        Raises:
            DockerError: It did not start.
        """
        await self._engine.start(self.id, f"starting {self._what}")

    async def until_ended(self, detached: asyncio.Event) -> Exit | None:
        """Return how it ended, with code None if it is gone; None if it runs on although its output is over.

        `wait` says when to inspect, and only the inspection counts (C13). It is repeated for as long as the engine does not answer.

        Args:
            detached: Set when the container's output is over, whether or not the container has ended.
        """
        while True:
            try:
                signalled = await self._until_signal(detached)
                state = await self._engine.look(self.id)
                if state is None or state.ended:
                    self.exit = self.exit or (Exit(None) if state is None else state.exit)
                    return self.exit
                if not signalled:
                    return None
                await asyncio.sleep(REMOVE_AGAIN_S)
            except DockerError:
                await asyncio.sleep(ENGINE_AWAY_S)

    async def _until_signal(self, detached: asyncio.Event) -> bool:
        """Return when the engine says that it does not run; False if its output is over and it runs on all the same."""
        tasks = Tasks()
        waiting = tasks.spawn(self._engine.wait(self.id), "wait", awaited=True)
        over = tasks.spawn(detached.wait(), "output")
        try:
            await asyncio.wait([waiting, over], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([waiting], timeout=DETACHED_S_MAX)
            if waiting.done():
                await waiting
            return waiting.done()
        except DockerError as exc:
            if exc.failure is Failure.GONE:
                return True
            raise
        finally:
            waiting.cancel()
            await tasks.cancel()

    async def stop(self) -> Step:
        """End it and keep it; `is_over` is then set. If its end cannot be seen, remove it, which ends it too. May be called again.

        Returns:
            `"ok"` only when it is seen to run no more, or to be gone.
        """
        if self.is_over or self._step == "ok":
            return "ok"
        if self._id is None or self._owns_network:
            return await self.end()
        if self.exit is None:
            await self._stop(self._id)
        with contextlib.suppress(DockerError):
            state = await self._engine.look(self._id, END_CALL_S_MAX)
            self.is_over = state is not None and state.ended
        return "ok" if self.is_over else await self.end()

    async def end(self) -> Step:
        """End and remove it, running or not, paused or not; `"ok"` only when it is seen to be gone. May be called again."""
        if self._step != "ok":
            self._step = await self._end()
        return self._step

    async def _end(self) -> Step:
        if self._id is None:
            return await self._remove_unanswered() if self._unanswered else "ok"
        if self._owns_network:
            async with self._engine.network_turn():
                await self._signal_and_wait(self._id, "KILL", END_CALL_S_MAX)
        elif self.exit is None:
            await self._stop(self._id)
        return await self._remove(self._id)

    async def _stop(self, identity: str) -> None:
        """Send TERM, wait half a second, send KILL; then set `exit`, if the engine knows it."""
        if await self._signal_and_wait(identity, "TERM", TERM_S):
            await self._signal(identity, "KILL")
        with contextlib.suppress(DockerError):
            state = await self._engine.look(identity, END_CALL_S_MAX)
            self.exit = state.exit if state is not None and state.ended else None

    async def _signal_and_wait(self, identity: str, name: str, within_s: float) -> bool:
        """Send a signal, and give the container this long to end; False if nothing was there to take it."""
        taken = await self._signal(identity, name)
        if taken:
            with contextlib.suppress(DockerError):
                await self._engine.wait(identity, within_s)
        return taken

    async def _signal(self, identity: str, name: str) -> bool:
        """Send a signal; False if nothing was there to take it."""
        try:
            await self._engine.kill(identity, name)
        except DockerError as exc:
            return exc.failure not in (Failure.GONE, Failure.CONFLICT)
        return True

    async def _remove(self, identity: str) -> Step:
        step: Step = "unverified"
        for attempt in range(REMOVE_TRIES):
            await asyncio.sleep(REMOVE_AGAIN_S * attempt)
            with contextlib.suppress(DockerError):
                await self._engine.remove(identity)
            try:
                if await self._engine.look(identity, END_CALL_S_MAX) is None:
                    return "ok"
                step = "failed"
            except DockerError:
                step = "unverified"
        return step

    async def _remove_unanswered(self) -> Step:
        """Remove what a `create` without an answer may have made, by its name, until two inspections in a row find nothing."""
        empty = 0
        for _ in range(QUIET_TRIES):
            try:
                state = await self._engine.look(self._name, END_CALL_S_MAX)
            except DockerError:
                return "unverified"
            if state is not None:
                await self._remove(self._name)
            empty = 0 if state else empty + 1
            if empty == 2:
                return "ok"
            await asyncio.sleep(QUIET_S)
        return "failed"
