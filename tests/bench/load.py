"""The load generator: agents that call over raw connections, each with a conversation that grows.

No HTTP library: what it costs would be measured too. No two bodies are equal; each repeats all messages before it, as agents do.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import cast

from tests.bench.upstream import MODEL

LAST_CHUNK = b"\r\n0\r\n\r\n"
HELD = re.compile(rb"held=(\d+)\D")
WRITTEN_AT = re.compile(rb"at=(\d+)\D")
TURNS_MAX = 24
"""After so many turns an agent begins a new conversation."""
MAX_TOKENS = 200
FILLER = b"Some words to read. "
MESSAGE_BYTES = 50
"""Of a message, without its filler."""
CALL_S_MAX = 180.0

PARAMETERS = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "lines": {"type": "integer"}},
    "required": ["path"],
}
TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {"name": name, "description": f"Use {name} for it. " * 6, "parameters": PARAMETERS},
        }
        for name in ("read_file", "write_file", "run_command")
    ]
)
_numbers = count(1)


class CallError(Exception):
    """A call was not answered with 200 and a whole body; the measure is worth nothing."""


class Conversation:
    """The requests of one agent, one after another; each body repeats all messages of the one before.

    Args:
        stream: Ask for an answer in events.
        messages: So many messages come before the first question.
        message_bytes: Size of each of them, about.
        turns_max: After so many turns a new conversation begins, which shares no message with the one before.
    """

    def __init__(
        self, *, stream: bool = False, messages: int = 1, message_bytes: int = 600, turns_max: int = TURNS_MAX
    ) -> None:
        self._count = messages
        self._filler = FILLER * (max(message_bytes - MESSAGE_BYTES, 0) // len(FILLER))
        self._turns_max = turns_max
        self._turn = turns_max
        self._messages = b""
        head = {"model": MODEL, "max_tokens": MAX_TOKENS, "temperature": 0.2, "usage": {"include": True}}
        self._head = (
            json.dumps({**head, "stream": stream})[:-1].encode() + b',"tools":' + TOOLS.encode() + b',"messages":['
        )

    def next_body(self) -> bytes:
        """Return the body of the next call."""
        number = next(_numbers)
        if self._turn >= self._turns_max:
            self._turn = 0
            message = b'{"role":"user","content":"Part %d of %d. %b"}'
            parts = [message % (part, number, self._filler) for part in range(self._count)]
            self._messages = b",".join(parts)
        else:
            self._messages += b',{"role":"assistant","content":"Answer %d. %b"}' % (number, FILLER * 8)
        self._turn += 1
        self._messages += b',{"role":"user","content":"Question %d. %b"}' % (number, FILLER * 6)
        return self._head + self._messages + b"]}"


@dataclass(slots=True)
class Load:
    """What a load saw. Times are nanoseconds, without what the upstream kept the calls waiting."""

    calls: int = 0
    wall_s: float = 0.0
    call_ns: list[int] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    """From the request to the first chunk."""
    late_ns: list[int] = field(default_factory=list)
    """Of each chunk: from its writing to its arrival."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where calls go."""

    port: int
    path: str
    tokens: tuple[str, ...]
    """Agents take turns with them."""

    def request(self, body: bytes, agent: int = 0) -> bytes:
        """Return a whole POST of an agent."""
        return self._head(len(body), self.tokens[agent % len(self.tokens)]) + body

    def _head(self, body_bytes: int, token: str) -> bytes:
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: application/json\r\n"
            f"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: OpenAI/Python 2.0.0\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nX-Title: bench\r\n"
            f"X-Stainless-Lang: python\r\nX-Stainless-Runtime: CPython\r\nContent-Length: {body_bytes}\r\n\r\n"
        ).encode()


class LoadConnection(asyncio.Protocol):
    """One kept-alive connection of a caller."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the call under way."""
        self._end(CallError(f"the connection was lost: {exc}"))

    async def call(self, request: bytes, load: Load) -> None:
        """Send a request and note its times.

        Raises:
            CallError: It was not answered with 200 and a whole body.
        """
        self._load = load
        self._pieces: list[bytes] = []
        self._body_left: int | None = None
        self._chunked = False
        self._first_ns = 0
        self._waiter = asyncio.get_running_loop().create_future()
        self._began_ns = time.monotonic_ns()
        self._transport.write(request)
        await self._waiter

    def data_received(self, data: bytes) -> None:
        """Note when chunks came, and end the call with its answer."""
        came_ns = time.monotonic_ns()
        self._pieces.append(data)
        if self._body_left is None and not self._chunked and (rest := self._read_head()) is not None:
            data = rest
        elif self._body_left is None and not self._chunked:
            return
        if self._chunked:
            self._note_chunks(data, came_ns)
            # Our upstream's texts never end like this, so the framing need not be parsed.
            last = data if len(data) > len(LAST_CHUNK) else b"".join(self._pieces[-3:])
            done = last.endswith(LAST_CHUNK)
        else:
            assert self._body_left is not None
            self._body_left -= len(data)
            done = self._body_left <= 0
        if done:
            self._finish(came_ns)

    def _read_head(self) -> bytes | None:
        """Return what follows the answer's head; None while it is not whole."""
        data = b"".join(self._pieces)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None
        self._pieces = [data]
        head = data[:end].lower()
        if b" 200 " not in head[:16]:
            self._end(CallError(data[:2000].decode(errors="replace")))
            return None
        self._chunked = b"transfer-encoding: chunked" in head
        if not self._chunked:
            self._body_left = int(head[head.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        return data[end + 4 :]

    def _note_chunks(self, data: bytes, came_ns: int) -> None:
        written = WRITTEN_AT.findall(data)
        if written and not self._first_ns:
            self._first_ns = came_ns
        self._load.late_ns += [came_ns - int(at) for at in written]

    def _finish(self, came_ns: int) -> None:
        held = HELD.search(b"".join(self._pieces[:4]))
        if held is None:
            self._end(CallError("the answer is not the upstream's"))
            return
        held_ns = int(held[1])
        self._load.calls += 1
        self._load.call_ns.append(came_ns - self._began_ns - held_ns)
        if self._first_ns:
            self._load.first_ns.append(self._first_ns - self._began_ns - held_ns)
        self._end(None)

    def _end(self, error: CallError | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None) if error is None else waiter.set_exception(error)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


async def connect(target: Target) -> LoadConnection:
    """Return a new connection."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(LoadConnection, "127.0.0.1", target.port)
    return connection


async def run_for(
    target: Target,
    seconds: float,
    *,
    connections: int = 1,
    stagger_s: float = 0.0,
    conversation: Callable[[], Conversation] = Conversation,
    calls_max: int = 10**9,
) -> Load:
    """Let agents call without a pause until so many seconds have gone; a call that has begun is awaited.

    Args:
        target: Whom they call.
        seconds: How long; each agent makes one call at least.
        connections: How many agents, each on its connection.
        stagger_s: The agents begin within so many seconds one after another, so that their streams do not beat as one.
        conversation: Makes what an agent says.
        calls_max: No call begins after so many.

    Raises:
        CallError: A call failed.
    """
    load = Load()
    began_s = time.monotonic()
    begun = count(1)

    async def agent(number: int) -> None:
        says = conversation()
        connection = await connect(target)
        await asyncio.sleep(stagger_s * number / connections)
        try:
            while next(begun) <= calls_max:
                async with asyncio.timeout(CALL_S_MAX):
                    await connection.call(target.request(says.next_body(), number), load)
                if time.monotonic() > began_s + seconds:
                    return
        finally:
            connection.close()

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(agent(number))
    except ExceptionGroup as exc:
        raise exc.exceptions[0] from None
    load.wall_s = time.monotonic() - began_s
    return load


async def run_bodies(target: Target, bodies: Iterable[bytes]) -> Load:
    """Send given bodies one after another on one connection.

    Raises:
        CallError: A call failed.
    """
    load = Load()
    connection = await connect(target)
    try:
        for body in bodies:
            async with asyncio.timeout(CALL_S_MAX):
                await connection.call(target.request(body), load)
    finally:
        connection.close()
    return load
