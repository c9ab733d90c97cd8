"""A relay in front of the real engine: it tells which calls pass, and loses or holds up what passes whenever a test says so.

    with EngineRelay(short_dir / "e.sock") as relay:
        relay.on_call(lambda number, call, moment: ...)

It serves in a thread of its own, so that it goes on whatever the test's loop does.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

USUAL_ENGINE = "unix:///var/run/docker.sock"
HEAD_BYTES_MAX = 1024 * 1024
"""Of a request's head; longer ones break the connection."""
PIECE_BYTES = 64 * 1024
HEAD_END = b"\r\n\r\n"
ABOVE_ALL_S = 10.0
"""No step of the relay's own takes longer, or it hangs."""

Moment = Literal["asked", "answered"]
"""The request is with the engine, whole; or the head of its answer is with the client."""
OnCall = Callable[[int, str, Moment], object]
T = TypeVar("T")


class EngineRelay:
    """A unix socket that leads to the engine, as long as this context is open.

    Args:
        path: The socket, of at most 107 bytes.
        engine: The engine's address; None for the one in DOCKER_HOST, else the usual one.

    Attributes:
        engine: The engine's own socket.
        calls: "METHOD /path" of each call in order of arrival, without the version and the query.
    """

    def __init__(self, path: Path, engine: str | None = None) -> None:
        url = engine or os.environ.get("DOCKER_HOST") or USUAL_ENGINE
        assert url.startswith("unix://"), f"{url} is no unix socket"
        self.calls: list[str] = []
        self.engine, self._path = url.removeprefix("unix://"), path
        self._listener: OnCall | None = None
        self._links: set[_Link] = set()
        self._faults: list[BaseException] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"relay {path.name}", daemon=True)

    @property
    def url(self) -> str:
        """Where it serves, as in DOCKER_HOST."""
        return f"unix://{self._path}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(ABOVE_ALL_S)
        self._raise_faults()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._on_loop(lambda: self._over.set())
        self._thread.join(ABOVE_ALL_S)
        self._path.unlink(missing_ok=True)
        if exc is None:
            self._raise_faults()

    def on_call(self, function: OnCall) -> None:
        """Call this with a call's number (from 1), the call, and the moment: on the relay's thread, and nothing passes then."""
        self._listener = function

    def cut(self) -> int:
        """Abort all open connections, at both ends; new ones are served. Returns how many there were."""
        return self._on_loop(self._cut)

    def pause(self) -> None:
        """Pass nothing on; connections are accepted and stay open."""
        self._on_loop(lambda: self._open.clear())

    def resume(self) -> None:
        """Pass on what was held up, and what comes."""
        self._on_loop(lambda: self._open.set())

    def _on_loop(self, action: Callable[[], T]) -> T:
        """Return what this returns, from whatever thread."""
        if threading.current_thread() is self._thread:
            return action()
        done: Future[T] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(action()))
        return done.result(ABOVE_ALL_S)

    def _raise_faults(self) -> None:
        if self._faults:
            raise BaseExceptionGroup("the relay itself failed", self._faults)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:
            self._faults.append(exc)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over, self._open = asyncio.Event(), asyncio.Event()
        self._open.set()
        server = await asyncio.start_unix_server(self._accept, self._path, limit=HEAD_BYTES_MAX)
        self._ready.set()
        await self._over.wait()
        server.close()
        while self._links:
            self._cut()
            await asyncio.sleep(0)
        await server.wait_closed()

    def _cut(self) -> int:
        for link in self._links:
            link.cut()
        return len(self._links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run(self.engine)
        except asyncio.CancelledError:
            pass
        except Exception as exc:
            self._faults.append(exc)
        finally:
            link.cut()
            self._links.discard(link)

    def note(self, call: str) -> int:
        """Write a call down; returns its number."""
        self.calls.append(call)
        return len(self.calls)

    def tell(self, number: int, moment: Moment) -> None:
        """Tell whoever listens."""
        if self._listener is not None:
            self._listener(number, self.calls[number - 1], moment)

    async def may_pass(self) -> None:
        """Return when something may be passed on."""
        await self._open.wait()


class _Link:
    """One connection of a client, and its own to the engine."""

    def __init__(self, relay: EngineRelay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relay = relay
        self._from_client, self._to_client = reader, writer
        self._to_engine: asyncio.StreamWriter | None = None
        self._task = asyncio.current_task()
        self._unanswered: int | None = None

    def cut(self) -> None:
        """End both connections, whatever is under way on them."""
        for writer in (self._to_client, self._to_engine):
            if writer is not None:
                writer.transport.abort()
        if self._task is not None and self._task is not asyncio.current_task(self._task.get_loop()):
            self._task.cancel()

    async def run(self, engine: str) -> None:
        """Pass on what comes from both sides, until neither has more to say."""
        try:
            from_engine, self._to_engine = await asyncio.open_unix_connection(engine)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._upwards(self._to_engine))
                both.create_task(self._downwards(from_engine))
        except* OSError:
            pass  # one side broke its connection; so is the other's

    async def _upwards(self, to: asyncio.StreamWriter) -> None:
        """Pass on requests, one after the other; after an attach whatever comes."""
        try:
            while not await self._request(to):
                pass
            while piece := await self._from_client.read(PIECE_BYTES):
                await self._pass(piece, to)
        except asyncio.IncompleteReadError as exc:
            await self._pass(exc.partial, to)
        if _is_closed(self._to_client):
            raise ConnectionResetError
        to.write_eof()

    async def _request(self, to: asyncio.StreamWriter) -> bool:
        """Pass one request on; True if what follows it is none."""
        head = await self._from_client.readuntil(HEAD_END)
        method, path, *_ = head.decode("latin-1").split()
        path = re.sub(r"^/v\d+\.\d+(?=/)", "", path).partition("?")[0]
        number = self._unanswered = self._relay.note(f"{method} {path}")
        await self._pass(head, to)
        if length := re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE):
            await self._body(int(length[1]), to)
        elif re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
            await self._chunks(to)
        self._relay.tell(number, "asked")
        return path.endswith("/attach")

    async def _chunks(self, to: asyncio.StreamWriter) -> None:
        size = 1
        while size:
            line = await self._from_client.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            await self._pass(line, to)
            await self._body(size + 2, to)

    async def _body(self, size: int, to: asyncio.StreamWriter) -> None:
        while size:
            piece = await self._from_client.read(min(size, PIECE_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            await self._pass(piece, to)
            size -= len(piece)

    async def _downwards(self, reader: asyncio.StreamReader) -> None:
        """Pass on whatever comes; one request at a time is under way, so what comes next begins with its answer's head."""
        head = b""
        while piece := await reader.read(PIECE_BYTES):
            await self._pass(piece, self._to_client)
            if self._unanswered is None:
                continue
            head += piece
            if HEAD_END in head:
                number, self._unanswered, head = self._unanswered, None, b""
                self._relay.tell(number, "answered")
        self._to_client.write_eof()

    async def _pass(self, piece: bytes, to: asyncio.StreamWriter) -> None:
        await self._relay.may_pass()
        to.write(piece)
        await to.drain()


def _is_closed(writer: asyncio.StreamWriter) -> bool:
    """Tell whether the other side has closed its socket, and not just said that it sends no more."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
