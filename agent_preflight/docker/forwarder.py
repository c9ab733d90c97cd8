"""A portable gate's other half: a container on the bridge network that carries what the gate's listeners accept to the proxy.

The gate stays as it is, without any network if the trial is sealed; it hands its listeners to the forwarder instead of to the
proxy, over a volume of their own inside the engine. So it works where engine and host share no unix socket, and an agent has
no more of a network than with a gate that the proxy serves itself.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_preflight.docker import argv
from agent_preflight.docker.argv import Tag
from agent_preflight.docker.cli import END_CALL_S_MAX, Docker
from agent_preflight.docker.ending import REMOVE_CALL_S_MAX, remove_container, remove_strays
from agent_preflight.docker.failure import DockerError, Failure
from agent_preflight.docker.gate import only_id
from agent_preflight.sandbox import PortalKey, Step


@dataclass(slots=True)
class Forwarder:
    """One trial's forwarder and the volume that it shares with the gate."""

    docker: Docker
    tag: Tag
    key: PortalKey
    _id: str | None = None
    _begun: bool = False

    async def open(self, image: str, ports: Sequence[int]) -> None:
        """Make the volume, and start the forwarder: it waits for the gate.

        Args:
            image: The gate image's id.
            ports: What the gate hands over.

        Raises:
            DockerError: The engine refused; `close` removes what was made.
        """
        self._begun = True
        await self.docker.must("making the gate's volume", *argv.volume_create(self.tag))
        with tempfile.TemporaryDirectory(prefix="ap-") as private:
            env_file = Path(private) / "env"
            env_file.touch(mode=0o600)
            env_file.write_text(argv.env_file_text({"PREFLIGHT_PASS": self.key.trial_pass.reveal()}))
            args = argv.forwarder_create(self.tag, self.key.host, self.key.port, env_file, image, ports)
            self._id = only_id(await self.docker.must("creating the gate's forwarder", *args))
        await self.docker.must("starting the gate's forwarder", "start", self._id)

    async def close(self) -> dict[str, Step]:
        """Remove forwarder and volume, after the gate is gone; `"ok"` only for what is seen to be gone."""
        if not self._begun:
            return {"forwarder": "ok", "volume": "ok"}
        if self._id is not None:
            step = await remove_container(self.docker, self._id)
        else:
            step = await remove_strays(self.docker, self.tag.filters("forwarder"))
        return {"forwarder": step, "volume": await _remove_volume(self.docker, self.tag.name("volume"))}


async def _remove_volume(docker: Docker, name: str) -> Step:
    with contextlib.suppress(DockerError):
        await docker.run("volume", "rm", "-f", name, limit_s=REMOVE_CALL_S_MAX)
        found = await docker.run("volume", "inspect", name, limit_s=END_CALL_S_MAX)
        if found.failure is not None:
            return "ok" if found.failure is Failure.GONE else "unverified"
        return "failed"
    return "unverified"
