"""A portable gate's other half: a container on the bridge network that carries what the gate's listeners accept to the proxy.

The gate stays as it is, without any network if the trial is sealed; it hands its listeners to the forwarder instead of to the
proxy, over a volume of their own inside the engine. So it works where engine and host share no unix socket, and an agent has
no more of a network than with a gate that the proxy serves itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent_preflight.docker.container import Container
from agent_preflight.docker.container_config import TrialLabels, forwarder_config
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.sandboxes.interface import ForwarderTarget, Step


class Forwarder:
    """One trial's forwarder and the volume that it shares with the gate."""

    def __init__(self, engine: Engine, tag: TrialLabels, key: ForwarderTarget) -> None:
        self._engine, self._tag, self._key = engine, tag, key
        self._volume = tag.name("volume")
        self._container = Container(engine, tag.name("forwarder"), "the gate's forwarder", owns_network=True)
        self._begun = False

    async def open(self, image: str, ports: Sequence[int]) -> None:
        """Make the volume, and start the forwarder: it waits for the gate.

        Args:
            image: The gate image's id.
            ports: What the gate hands over.

        Raises:
            DockerError: The engine refused; `close` removes what was made.
        """
        self._begun = True
        await self._engine.make_volume(self._volume, self._tag.labels("volume"))
        await self._container.create(forwarder_config(self._tag, self._key, image, ports))
        await self._container.start()

    async def close(self) -> dict[str, Step]:
        """Remove forwarder and volume, after the gate is gone; `"ok"` only for what is seen to be gone."""
        step = await self._container.end()
        return {"forwarder": step, "volume": await self._remove_volume() if self._begun else "ok"}

    async def _remove_volume(self) -> Step:
        for _ in range(2):  # the second call sees that it is gone
            try:
                await self._engine.remove_volume(self._volume)
            except DockerError as exc:
                return "ok" if exc.failure is Failure.GONE else "unverified"
        return "failed"
