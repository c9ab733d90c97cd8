"""The only client of Docker's Engine API. Every call has a time limit, and every failure is a `DockerError` with a meaning.

A call that is late or cancelled says nothing about what the engine does with the request meanwhile.

Source: docs.docker.com/reference/api/engine/version/v1.41.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import copy
from http import HTTPStatus
from typing import Any, Self, TypeVar

import aiodocker
import msgspec
from aiodocker.networks import DockerNetwork
from aiodocker.stream import Stream
from aiodocker.volumes import DockerVolume
from aiohttp import ClientTimeout
from yarl import URL

from agent_preflight.engine.address import Version, connect, negotiate
from agent_preflight.engine.failure import DockerError, Failure, explained
from agent_preflight.sandboxes.interface import Exit

ENGINE_CALL_S_MAX = 30.0
"""Creating a container on a busy engine takes seconds; half a minute means that it hangs."""
END_CALL_S_MAX = 2.0
"""Calls that end a container must not hold up the next harder one (C12)."""
REMOVE_CALL_S_MAX = 30.0
"""Removal deletes the container's layer: one of 30,000 files took 12 s on a busy machine (measured)."""
ASK_S_MAX = 10.0
"""An engine that does not return its version within this time hangs."""
NETWORK_TURN_S_MAX = 5.0
"""Longer than a whole field takes to leave its networks, one after another."""
BUILD_S_MAX = 600.0
"""Our images copy a file or two; a busy machine takes seconds."""
SIGSYS_CODE = 128 + 31
"""The exit code of a container whose program ended by SIGSYS, which is signal 31 on Linux, wherever we run."""
_NEVER = "0001-01-01T00:00:00Z"

T = TypeVar("T")


class ContainerState(msgspec.Struct, rename="pascal", frozen=True):
    """One container at one moment, as the engine inspects it; the status is `created`, `running`, `paused`, `exited`, ..."""

    status: str
    exit_code: int
    started_at: str
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")

    @property
    def ended(self) -> bool:
        """It ran and runs no more."""
        return self.started_at != _NEVER and self.status in ("exited", "dead")

    @property
    def exit(self) -> Exit:
        """How it ended; means nothing before."""
        return Exit(self.exit_code, self.oom_killed, self.exit_code == SIGSYS_CODE)


class _Inspection(msgspec.Struct):
    state: ContainerState | None = msgspec.field(default=None, name="State")
    message: str = ""


class Image(msgspec.Struct, rename="pascal", frozen=True):
    """An image on the engine: its id, when it was made, the platform that its programs are for, and its configuration."""

    id: str
    created: str = ""
    os: str = ""
    architecture: str = ""
    config: dict[str, Any] | None = None

    @property
    def env(self) -> dict[str, str]:
        """The variables that it gives its containers."""
        entries = (entry.partition("=") for entry in (self.config or {}).get("Env") or ())
        return {name: value for name, _, value in entries}


class StartTurns:
    """Limits how many containers start at once.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._agents: deque[asyncio.Future[None]] = deque()
        self._gates: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, *, of_agent: bool = False) -> AsyncIterator[None]:
        """Wait for a turn, and hold it during the context.

        An agent, whose gate runs, goes before gates that wait: so the first trials end while the last ones begin.
        """
        await self._take(self._agents if of_agent else self._gates)
        try:
            yield
        finally:
            self._give()

    async def _take(self, queue: deque[asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():  # its turn had come already
                self._give()
            raise

    def _give(self) -> None:
        for queue in (self._agents, self._gates):
            while queue:
                if not (waiting := queue.popleft()).done():
                    waiting.set_result(None)
                    return
        self._free += 1


class Engine:
    """One engine, as one event loop uses it; made by `Engine.open`.

    Attributes:
        url: Where it is.
        version: What the engine says of itself.
        starts: Limits how many containers start at once: beyond it the engine gets slower, not faster (C14).
    """

    def __init__(self, address: str | None, client: aiodocker.Docker, version: Version) -> None:
        self.url, self.version = client._connection_info, version
        self.starts = StartTurns(max(4, 2 * (os.cpu_count() or 1)))
        self._networks = asyncio.Lock()
        self._address, self._client, self._clients = address, client, [client]

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str | None = None) -> AsyncIterator[Self]:
        """Connect to the engine at this address, or to the one that the environment names; connections end with the context.

        Raises:
            DockerError: There is none, it does not answer, it is no Docker, or it is older than 20.10.
        """
        async with connect(url) as client:
            place = client._connection_info
            try:
                async with explained(place, "looking for Docker", ASK_S_MAX):
                    document = await client._query_json("version", versioned_api=False)
                    version = msgspec.convert(document, type=Version)
            except DockerError as exc:
                if exc.failure is not Failure.GONE:
                    raise
                text = f"looking for Docker: what answers at {place} is no Docker engine (404)."
                raise DockerError(text, Failure.NOT_DOCKER) from exc
            client.api_version = negotiate(place, version)
            engine = cls(url, client, version)
            try:
                yield engine
            finally:
                for opened in engine._clients:
                    await opened.close()

    def apart(self) -> Self:
        """Return the same engine by connections of its own, for one trial: a client has 100, and each trial holds three."""
        other = copy(self)
        other._client = connect(self._address)
        other._client.api_version = self._client.api_version
        self._clients.append(other._client)
        return other

    @asynccontextmanager
    async def network_turn(self) -> AsyncIterator[None]:
        """Wait until no other container of ours is leaving its network, but not for long: an engine may hang.

        Docker 20.10 as a whole hangs for good if two leave at the wrong moment (seen in libnetwork: `getSvcRecords` and
        `processEndpointDelete` wait for each other's lock).
        """
        is_locked = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NETWORK_TURN_S_MAX):
                is_locked = await self._networks.acquire()
        try:
            yield
        finally:
            if is_locked:
                self._networks.release()

    def _call(self, doing: str, limit_s: float | None = ENGINE_CALL_S_MAX) -> AbstractAsyncContextManager[None]:
        return explained(self.url, doing, limit_s)

    async def info(self) -> dict[str, Any]:
        """Return the engine's description of itself and its host. Raises DockerError, as every call below does."""
        async with self._call("asking Docker what it is", ASK_S_MAX):
            return msgspec.convert(await self._client.system.info(), type=dict[str, Any])

    async def create(self, name: str, body: Mapping[str, Any], doing: str, platform: str | None = None) -> str:
        """Make a container, which does not run yet, and return its id; nothing is pulled."""
        params = {"name": name} | ({} if platform is None else {"platform": platform})
        async with self._call(doing):  # aiodocker's own `create` takes no platform
            document = await self._client._query_json("containers/create", "POST", params=params, data=dict(body))
            return str(document["Id"])

    async def start(self, container: str, doing: str) -> None:
        """Start a container; it runs, or has run, when this returns."""
        async with self._call(doing):
            await self._client.containers.container(container).start()

    async def put(self, container: str, directory: str, archive: bytes, limit_s: float = ENGINE_CALL_S_MAX) -> None:
        """Unpack a tar archive in a directory of a container; GONE if there is no such directory."""
        async with self._call(f"writing into {directory}", limit_s):
            await self._client.containers.container(container).put_archive(directory, archive)  # type: ignore[no-untyped-call]

    async def archive(self, container: str, path: str) -> AsyncGenerator[bytes, None]:
        """Yield a tar archive of a file or folder of a container, as it comes and without a time limit; GONE if it does not exist.

        It is requested uncompressed: a compressed one could grow a thousandfold in memory.
        """
        doing, head = f"reading {path}", {"Accept-Encoding": "identity"}
        async with self._call(doing, None):  # aiodocker's own `get_archive` reads it whole
            answer = await self._client._do_query(
                f"containers/{container}/archive", "GET", params={"path": path}, headers=head, timeout=ClientTimeout()
            )
        try:
            while True:
                async with self._call(doing, None):
                    piece = await answer.content.readany()
                if not piece:
                    return
                yield piece
        finally:
            answer.close()

    async def is_readable(self, container: str) -> bool:
        """Return whether the engine can read a container at all. If so, a folder that it cannot read is itself at fault."""
        with contextlib.suppress(DockerError):
            async with self._call("looking into a container"):
                path = f"containers/{container}/archive"
                (await self._client._do_query(path, "HEAD", params={"path": "/"})).close()
                return True
        return False

    async def attach(self, container: str, *, stdin: bool) -> Stream:
        """Return a connection to a container's standard input, or to both of its outputs, from now on."""
        wanted = {"stream": 1, "stdin": 1} if stdin else {"stream": 1, "stdout": 1, "stderr": 1}

        async def setup() -> tuple[URL, None, bool]:  # aiodocker's own `attach` inspects the container first
            return URL(f"containers/{container}/attach").with_query(wanted), None, False

        stream = Stream(self._client, setup)
        try:
            async with self._call("attaching to the agent"):
                return await stream.__aenter__()
        except BaseException:
            with contextlib.suppress(AssertionError):  # there may be no connection to close
                await stream.close()
            raise

    async def wait(self, container: str, limit_s: float | None = None) -> None:
        """Return when a container does not run."""
        async with self._call("waiting for a container", limit_s):
            await self._client.containers.container(container).wait()

    async def kill(self, container: str, name: str) -> None:
        """Send a signal; CONFLICT if the container does not run."""
        async with self._call(f"sending {name}", END_CALL_S_MAX):
            await self._client.containers.container(container).kill(signal=name)

    async def remove(self, container: str) -> None:
        """Remove a container, running or not, with its anonymous volumes."""
        async with self._call("removing a container", REMOVE_CALL_S_MAX):
            await self._client.containers.container(container).delete(force=True, v=True)

    async def look(self, container: str, limit_s: float = ENGINE_CALL_S_MAX) -> ContainerState | None:
        """Return a container's state; None only if the engine says that there is no such container."""
        url = self._client._canonicalize_url(f"containers/{container}/json")  # aiodocker takes any 404 for the engine's
        async with self._call("looking at a container", limit_s), self._client.session.get(url) as answer:
            inspection = msgspec.json.decode(await answer.read(), type=_Inspection)
            if answer.status == HTTPStatus.NOT_FOUND and inspection.message:
                return None
            if inspection.state is None and answer.status < HTTPStatus.BAD_REQUEST:
                raise ValueError("an answer without a state")
            if inspection.state is None:
                raise aiodocker.DockerError(answer.status, inspection.message)
            return inspection.state

    async def listed(
        self, kind: str, labels: Mapping[str, str | None], *, running: bool = False
    ) -> list[dict[str, Any]]:
        """Return the `containers`, `images`, `networks` or `volumes` with these labels; a label without value may have any."""
        wanted = [key if value is None else f"{key}={value}" for key, value in labels.items()]
        params = {"filters": json.dumps({"label": wanted}), "all": 0 if running else 1}
        path = f"{kind}/json" if kind in ("containers", "images") else kind
        async with self._call(f"listing {kind}"):
            rows = await self._client._query_json(path, params=params)
            return msgspec.convert((rows["Volumes"] or []) if kind == "volumes" else rows, list[dict[str, Any]])

    async def network(self, name: str) -> dict[str, Any]:
        """Return the description of a network."""
        async with self._call(f"looking at the network {name}"):
            return dict(await DockerNetwork(self._client, name).show())  # type: ignore[no-untyped-call]

    async def make_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a volume."""
        async with self._call("making the gate's volume"):
            await self._client.volumes.create({"Name": name, "Labels": dict(labels)})  # type: ignore[no-untyped-call]

    async def remove_volume(self, name: str) -> None:
        """Remove a volume."""
        async with self._call("removing a volume", REMOVE_CALL_S_MAX):
            await DockerVolume(self._client, name).delete()  # type: ignore[no-untyped-call]

    async def image(self, name: str) -> Image | None:
        """Return an image; None only if the engine says that it does not have it."""
        try:
            async with self._call(f"looking for the image {name}"):
                return msgspec.convert(await self._client.images.inspect(name), type=Image)
        except DockerError as exc:
            if exc.failure is Failure.GONE:
                return None
            raise

    async def build(self, name: str, context: bytes, arguments: Mapping[str, str]) -> None:
        """Build an image from a tar archive, without network."""
        arguments_json = json.dumps(dict(arguments))  # aiodocker's own `build` takes no network
        params: dict[str, Any] = {"t": name, "networkmode": "none", "forcerm": 1, "buildargs": arguments_json}
        head = {"Content-Type": "application/x-tar"}
        building = self._client._query("build", "POST", params=params, data=context, headers=head)
        async with self._call(f"building {name}", BUILD_S_MAX), building as answer:
            async for line in answer.content:
                if reason := json.loads(line).get("error"):
                    raise aiodocker.DockerError(500, str(reason))


def on_engine(work: Callable[[Engine], Awaitable[T]]) -> T:
    """Do something on the engine from code that is not async, whether or not a loop runs around it.

    Raises:
        DockerError: There is no engine, or what `work` raises.
    """

    async def connected() -> T:
        async with Engine.open() as engine:
            return await work(engine)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, connected()).result()
