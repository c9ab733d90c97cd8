"""A Docker Engine of which a test decides what runs in its containers, which calls fail, and when it dies.

    async with ScriptedEngine(tmp_path / "e.sock") as engine:
        engine.script("POST /containers/*/start", Fail(500, "no"), USUAL)

It speaks the Engine API over HTTP and keeps state as a real one: `engine_state.py` has what it knows, `engine_routes.py` the
calls, `engine_attach.py` the attached connections.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import unquote_plus

from aiohttp import web

from tests.support.engine_container import Container
from tests.support.engine_routes import VERSIONED, Call, carry_out, failure
from tests.support.engine_state import RefusedError, State

PATH_BYTES_MAX = 107
ACCEPTED_ROUNDS = 10
"""A connection that was accepted a moment ago has its transport after some rounds of the loop; a closed server gives it none."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Answer with an error, as the engine writes one; the call has no effect."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Text:
    """Answer with this; the call has no effect."""

    status: int
    body: str | bytes
    content_type: str = "application/json"


class Way(Enum):
    """What else may become of a call."""

    USUAL = auto()
    HANG = auto()
    DROP = auto()
    LOST = auto()


USUAL = Way.USUAL
"""As without a script."""
HANG = Way.HANG
"""No answer and no effect while this script holds; afterwards the call goes on as it then would."""
DROP = Way.DROP
"""The connection is aborted; the call has no effect. Mind that aiohttp's client sends all but POST a second time then."""
LOST = Way.LOST
"""The call has its effect, and the connection is aborted without an answer. A `wait` or `attach` has no effect to wait for."""

Answer = Fail | Text | Way


class _Script:
    """The answers of one pattern; `lifted` when they no longer hold."""

    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self._answers = deque(answers or (USUAL,))
        self.lifted = asyncio.Event()

    def next(self) -> Answer:
        return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]


class ScriptedEngine:
    """A server that plays the engine, from `start` to `stop`, again and again; state, calls and scripts are kept.

    Args:
        path: The unix socket it serves on, of at most 107 bytes.
        tcp: Serve on a port of 127.0.0.1 instead; it stays the same over a restart.
        ssl_context: Serve TLS on that port.

    Attributes:
        state: All that the engine knows; a test may read and change it.
        calls: "METHOD /path?query" of each call, in order of arrival, without the version and with nothing escaped.
        bodies: The call and its body, for each call that had one: what its JSON says, or the bytes if it is none.
    """

    def __init__(
        self, path: Path | str | None = None, *, tcp: bool = False, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        assert (path is None) is tcp, "a path, or tcp"
        assert len(str(path).encode()) <= PATH_BYTES_MAX, f"{path} is too long for a socket"
        self.state = State()
        self.calls: list[str] = []
        self.bodies: list[tuple[str, Any]] = []
        self._path, self._port, self._ssl = None if path is None else Path(path), 0, ssl_context
        self._scripts: dict[str, _Script] = {}
        self._faults: list[Exception] = []
        self._http: web.Server | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it serves, as in DOCKER_HOST."""
        return f"tcp://127.0.0.1:{self._port}" if self._path is None else f"unix://{self._path}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        if self._faults and exc is None:
            raise ExceptionGroup("the scripted engine itself failed", self._faults)

    async def start(self) -> None:
        """Serve; it did not before."""
        assert self._server is None
        loop = asyncio.get_running_loop()
        self._http = http = web.Server(self._handle, handler_cancellation=True, access_log=None)
        if self._path is not None:
            self._server = await loop.create_unix_server(http, self._path)
            return
        self._server = await loop.create_server(http, "127.0.0.1", self._port, ssl=self._ssl)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: all connections are aborted, the socket is gone. Nothing happens if it is dead."""
        server, self._server = self._server, None
        if server is None:
            return
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(ACCEPTED_ROUNDS):
            await asyncio.sleep(0)
        server.close()
        while self._http is not None and self._http.connections:  # each stays there until its task has ended
            self.drop_connections()
            await asyncio.sleep(0)
        await server.wait_closed()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def drop_connections(self) -> None:
        """Abort all connections that are open; new ones are served."""
        for connection in self._http.connections if self._http is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    def script(self, pattern: str, *answers: Answer) -> None:
        """Let calls whose "METHOD /path" matches take these answers in turn; the last one stays.

        `*` stands for anything, slashes too. Of several patterns that match, the one that was scripted last holds.
        """
        self.unscript(pattern)
        self._scripts[pattern] = _Script(answers)

    def unscript(self, pattern: str) -> None:
        """Forget what was scripted for this pattern; calls that hang by it go on."""
        if script := self._scripts.pop(pattern, None):
            script.lifted.set()

    async def called(self, pattern: str, times: int = 1) -> None:
        """Return once so many calls have come whose "METHOD /path" matches."""
        await self.state.until(lambda: sum(_matches(call, pattern) for call in self.calls) >= times)

    def container(self, name: str) -> Container:
        """Return the container of this name or id."""
        return self.state.find(name)

    def print(self, name: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        """Let a container that runs print."""
        for stream, data in ((1, stdout), (2, stderr)):
            if data:
                self.container(name).print(stream, data)

    def exit(self, name: str, code: int, *, oom: bool = False) -> None:
        """End a container that runs."""
        self.container(name).end(code, oom=oom)

    def stdin(self, name: str) -> bytes:
        """Return what has come for a container's stdin so far."""
        return bytes(self.container(name).stdin)

    def stdin_closed(self, name: str) -> bool:
        """Tell whether a container has read its stdin's end."""
        return self.container(name).stdin_closed

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request, await self._arrived(request))
        except RefusedError as exc:
            return failure(self.state, request.path, exc.status, exc.message)
        except ConnectionError:
            raise
        except Exception as exc:
            self._faults.append(exc)
            raise

    async def _arrived(self, request: web.BaseRequest) -> Call:
        """Read the call, and write it down."""
        found = VERSIONED.fullmatch(request.path)
        path, api = (found[3], (int(found[1]), int(found[2]))) if found else (request.path, None)
        written = f"{request.method} {path}?{unquote_plus(request.rel_url.raw_query_string)}".removesuffix("?")
        self.calls.append(written)
        self.state.changed()
        body = await request.content.read()
        if body:
            self.bodies.append((written, _decoded(body)))
        return Call(request.method, path, api, request.query, body)

    async def _answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        match await self._scripted(f"{call.method} {call.path}"):
            case Fail(status, message):
                return failure(self.state, call.path, status, message)
            case Text(status, text, content_type):
                return web.Response(status=status, body=text, headers={"Content-Type": content_type})
            case Way.DROP:
                await _abort(request)
            case Way.LOST:
                try:
                    carry_out(self.state, call)
                finally:
                    await _abort(request)
        outcome = carry_out(self.state, call)
        return outcome if isinstance(outcome, web.Response) else await outcome(request)

    async def _scripted(self, line: str) -> Answer:
        """Return the next answer that is one; a call that hangs has none until its script is lifted."""
        while script := next((one for key, one in reversed(self._scripts.items()) if _matches(line, key)), None):
            answer = script.next()
            if answer is not HANG:
                return answer
            await script.lifted.wait()
        return USUAL


def _matches(call: str, pattern: str) -> bool:
    return fnmatchcase(call.partition("?")[0], pattern)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


async def _abort(request: web.BaseRequest) -> NoReturn:
    """Abort a call's connection, and wait to be cancelled by that."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.get_running_loop().create_future()
    raise AssertionError("cancelled before")
