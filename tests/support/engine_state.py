"""What a scripted engine knows: containers, images, networks and volumes, and what becomes of them by a call.

Source: Docker 20.10.24 (API 1.41), asked by hand for every status and message here.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.support.engine_container import Container, timestamp

NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
SIGNALS_THAT_END = frozenset({"KILL", "TERM"})

CONFIG: dict[str, Any] = {"Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None}
CONFIG |= {"WorkingDir": "", "Labels": {}}
HOST_CONFIG = {"NetworkMode": "default", "Binds": None, "AutoRemove": False, "Privileged": False}


class RefusedError(Exception):
    """What the engine answers to a call that it does not carry out."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"[{status}] {message}")
        self.status, self.message = status, message


class State:
    """All that is there. Images, networks and volumes are what the engine would tell of them, by name."""

    def __init__(self) -> None:
        self.version = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux"}
        self.version |= {"Arch": "amd64", "KernelVersion": "6.1.0"}
        self.info: dict[str, Any] = {"ID": "SCRIPTED", "ServerVersion": "20.10.24", "CgroupVersion": "2"}
        self.info |= {"OperatingSystem": "Debian GNU/Linux 12", "SecurityOptions": ["name=seccomp,profile=default"]}
        self.containers: dict[str, Container] = {}
        self.images: dict[str, dict[str, Any]] = {
            name: {"Id": image_id, "RepoTags": tags, "Created": timestamp(), "Os": "linux", "Architecture": "amd64"}
            for name, image_id, tags in (
                ("sha256:gate", "sha256:gate", []),
                ("me/agent", "sha256:agent", ["me/agent:latest"]),
            )
        }
        self.networks: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.on_start: Callable[[Container], None] = lambda container: None
        self._made = 0
        self._pulse = asyncio.Event()
        self.create_network({"Name": "bridge", "Options": {"com.docker.network.bridge.name": "docker0"}})

    def changed(self) -> None:
        """Let whoever waits for something look again."""
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    async def until(self, holds: Callable[[], object]) -> None:
        """Return once this holds."""
        while not holds():
            await self._pulse.wait()

    def find(self, name: str) -> Container:
        """Return the container of this name or id, or the one whose id begins so."""
        wanted = name.removeprefix("/")
        for container in self.containers.values():
            if wanted in {container.id, container.name}:
                return container
        found = [container for container in self.containers.values() if wanted and container.id.startswith(wanted)]
        if len(found) != 1:
            raise RefusedError(404, f"No such container: {name}")
        return found[0]

    def create(self, name: str, body: dict[str, Any]) -> Container:
        """Make a container, as a call's body describes it."""
        image = self.image(body.get("Image", ""))
        if image is None:
            raise RefusedError(404, f"No such image: {tagged(body.get('Image', ''))}")
        made = self._new_id()
        name = name or f"unnamed_{made[:12]}"
        if not NAME.fullmatch(name):
            raise RefusedError(400, f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        name = name.removeprefix("/")
        if holder := next((known.id for known in self.containers.values() if known.name == name), None):
            advice = "You have to remove (or rename) that container to be able to reuse that name."
            raise RefusedError(
                409, f'Conflict. The container name "/{name}" is already in use by container "{holder}". {advice}'
            )
        container = Container(
            id=made,
            name=name,
            config=CONFIG
            | {key: value for key, value in body.items() if key not in {"HostConfig", "NetworkingConfig"}},
            host_config=HOST_CONFIG | (body.get("HostConfig") or {}),
            image_id=image["Id"],
            changed=self.changed,
            created=datetime.now(UTC),
        )
        container.config["Labels"] = container.config["Labels"] or {}
        container.directories |= {container.config["WorkingDir"] or "/"}
        self.containers[made] = container
        return container

    def launch(self, name: str) -> bool:
        """Start a container; False if it runs already."""
        container = self.find(name)
        if container.status == "paused":
            raise RefusedError(409, "cannot start a paused container, try unpause instead")
        if container.running:
            return False
        container.begin()
        self.on_start(container)
        return True

    def kill(self, name: str, sent: str) -> None:
        """Send a signal, given as `SIGTERM`, `TERM` or `15`."""
        number = signal_number(sent)
        try:
            container = self.find(name)
        except RefusedError as exc:
            raise RefusedError(exc.status, f"Cannot kill container: {name}: {exc.message}") from exc
        if not container.running:
            raise RefusedError(409, f"Cannot kill container: {name}: Container {container.id} is not running")
        short = number.name.removeprefix("SIG")
        container.signals.append(short)
        if short in SIGNALS_THAT_END - container.ignored_signals:
            container.end(128 + number)

    def pause(self, name: str) -> None:
        """Freeze a container that runs."""
        container = self.find(name)
        if not container.running:
            raise RefusedError(409, f"Container {container.id} is not running")
        if container.status == "paused":
            raise RefusedError(409, f"Container {container.id} is already paused")
        container.status = "paused"

    def unpause(self, name: str) -> None:
        """Let a frozen container go on."""
        container = self.find(name)
        if container.status != "paused":
            raise RefusedError(500, f"Container {container.id} is not paused")
        container.status = "running"

    def remove(self, name: str, *, force: bool) -> None:
        """Remove a container; one that runs only by force."""
        container = self.find(name)
        if container.running and not force:
            how = "Unpause and then stop" if container.status == "paused" else "Stop"
            kind, advice = container.status, f"{how} the container before attempting removal or force remove"
            raise RefusedError(409, f"You cannot remove a {kind} container {container.id}. {advice}")
        if container.running:
            container.end(137)
        del self.containers[container.id]
        container.removed.set()
        container.tell_ended()

    def image(self, name: str) -> dict[str, Any] | None:
        """Return the image of this name or id."""
        return next((told for key, told in self.images.items() if tagged(name) in {tagged(key), told["Id"]}), None)

    def create_network(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make a network."""
        if body["Name"] in self.networks:
            raise RefusedError(409, f"network with name {body['Name']} already exists")
        usual: dict[str, Any] = {
            "Created": timestamp(),
            "Scope": "local",
            "Driver": "bridge",
            "Internal": False,
            "Options": {},
        }
        made: dict[str, Any] = {"Id": self._new_id()} | usual | {"Labels": {}, "Containers": {}} | body
        return self.networks.setdefault(made["Name"], made)

    def network(self, name: str) -> dict[str, Any]:
        """Return the network of this name or id."""
        for told in self.networks.values():
            if name in {told["Name"], told["Id"]}:
                return told
        raise RefusedError(404, f"network {name} not found")

    def remove_network(self, name: str) -> None:
        """Remove a network that somebody made."""
        found = self.network(name)["Name"]
        if found == "bridge":
            raise RefusedError(403, "bridge is a pre-defined network and cannot be removed")
        del self.networks[found]

    def create_volume(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make a volume, or return the one of this name."""
        name = body.get("Name") or self._new_id()
        usual = {"Name": name, "CreatedAt": timestamp(), "Driver": "local", "Labels": None, "Options": None}
        told = usual | {"Mountpoint": f"/var/lib/docker/volumes/{name}/_data", "Scope": "local"} | body
        return self.volumes.setdefault(name, told | {"Name": name})

    def volume(self, name: str) -> dict[str, Any]:
        """Return the volume of this name."""
        if name not in self.volumes:
            raise RefusedError(404, f"get {name}: no such volume")
        return self.volumes[name]

    def _new_id(self) -> str:
        self._made += 1
        return hashlib.sha256(str(self._made).encode()).hexdigest()


def tagged(name: str) -> str:
    """Return an image's name with the tag that the engine thinks of where none is given."""
    return name if ":" in name.rpartition("/")[2] or not name else f"{name}:latest"


def signal_number(sent: str) -> signal.Signals:
    """Return the signal that a call names."""
    try:
        return signal.Signals(int(sent)) if sent.isdigit() else signal.Signals[f"SIG{sent.upper().removeprefix('SIG')}"]
    except (KeyError, ValueError) as exc:
        raise RefusedError(400, f"Invalid signal: {sent}") from exc
