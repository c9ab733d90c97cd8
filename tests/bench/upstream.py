"""The constant upstream: it answers as OpenRouter does, at almost no CPU, and never twice alike. `python -m tests.bench.upstream`.

It prints its port. How it answers is set by `POST /bench/behaviour`; what it has billed is read by `GET /bench/bill`. It notes
into each answer how long it kept the call waiting (`held=`, nanoseconds) and into each chunk when it wrote it (`at=`, nanoseconds
of the monotonic clock, which all processes of a machine share), so that its own delays and timers drop out of every measure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

MODEL = "bench/model"
PROVIDER = "Bench"
BACKLOG = 8192
PROMPT_PUSD, COMPLETION_PUSD = 10**6, 10**7
"""Prices of a token, in pico-dollars."""
COMPLETION_TOKENS = 50
BYTES_PER_PROMPT_TOKEN = 4
PUSD_PER_USD = 10**12
CHUNKS_PER_COMMENT = 20
COMMENT = b": OPENROUTER PROCESSING\n\n"
"""Source: https://openrouter.ai/docs/api-reference/streaming (comments keep a connection alive)."""

ENDPOINT = {
    "name": f"{PROVIDER} | {MODEL}",
    "tag": "bench",
    "provider_name": PROVIDER,
    "context_length": 100_000_000,
    "max_completion_tokens": 8000,
    "max_prompt_tokens": None,
    "pricing": {"prompt": "0.000001", "completion": "0.00001"},
    "supported_parameters": ["max_tokens", "tools"],
    "status": 0,
}
ENDPOINTS = {"data": {"id": MODEL, "name": MODEL, "architecture": {"tokenizer": "GPT"}, "endpoints": [ENDPOINT]}}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the next calls are answered: after `delay_s`, in `chunks` events every `interval_s`; no chunks: as one JSON body."""

    delay_s: float = 0.0
    chunks: int = 0
    interval_s: float = 0.0


class Upstream:
    """What all connections share: the behaviour, the numbers of the answers, and the bill."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.calls = 0
        self.billed_pusd = 0

    def bill(self, body_bytes: int) -> tuple[str, bytes]:
        """Count and price a call; return its generation id and its `usage` as JSON."""
        self.calls += 1
        prompt_tokens = body_bytes // BYTES_PER_PROMPT_TOKEN
        cost_pusd = prompt_tokens * PROMPT_PUSD + COMPLETION_TOKENS * COMPLETION_PUSD
        self.billed_pusd += cost_pusd
        cost = f"{cost_pusd // PUSD_PER_USD}.{cost_pusd % PUSD_PER_USD:012d}"
        usage = (
            f'{{"prompt_tokens":{prompt_tokens},"completion_tokens":{COMPLETION_TOKENS},'
            f'"total_tokens":{prompt_tokens + COMPLETION_TOKENS},"cost":{cost},'
            f'"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}}'
        )
        return f"gen-1764500000-{os.getpid():07d}{self.calls:013d}", usage.encode()

    def document(self, path: bytes) -> object:
        """Return the answer to a GET: prices, the key, or the bill."""
        if path.endswith(b"/endpoints"):
            return ENDPOINTS
        if path.endswith(b"/key"):
            used_usd = self.billed_pusd / PUSD_PER_USD
            key = {"label": "bench", "usage": used_usd, "limit": None, "limit_remaining": None, "byok_usage": 0}
            return {"data": {**key, "is_free_tier": False}}
        if path == b"/bench/bill":
            return {"calls": self.calls, "billed_pusd": self.billed_pusd}
        return {}


class UpstreamConnection(asyncio.Protocol):
    """One connection: requests with `Content-Length`, answered in their order. It is no parser for strangers."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._input = bytearray()
        self._head: tuple[bytes, bytes] | None = None
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Serve each request that is whole."""
        self._input += data
        while self._input or self._head:
            if self._head is None:
                end = self._input.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(self._input[:end])
                del self._input[: end + 4]
                method, path, _ = head.split(b" ", 2)
                found = head.lower().find(b"content-length:")
                self._body_bytes = int(head[found + 15 :].split(b"\r\n", 1)[0]) if found >= 0 else 0
                self._head = method, path
            if len(self._input) < self._body_bytes:
                return
            method, path = self._head
            self._head = None
            body = bytes(self._input[: self._body_bytes]) if path.startswith(b"/bench/") else b""
            del self._input[: self._body_bytes]
            self._serve(method, path, body)

    def _serve(self, method: bytes, path: bytes, body: bytes) -> None:
        came_ns = time.monotonic_ns()
        if path == b"/bench/behaviour":
            self._upstream.behaviour = Behaviour(**json.loads(body))
            self._send(b"{}")
        elif method == b"GET":
            self._send(json.dumps(self._upstream.document(path)).encode())
        elif delay_s := self._upstream.behaviour.delay_s:
            self._loop.call_later(delay_s, self._answer, self._body_bytes, came_ns)
        else:
            self._answer(self._body_bytes, came_ns)

    def _send(self, body: bytes, more_head: bytes = b"") -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        self._transport.write(head % (more_head, len(body)) + body)

    def _answer(self, body_bytes: int, came_ns: int) -> None:
        generation, usage = self._upstream.bill(body_bytes)
        if self._upstream.behaviour.chunks:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Generation-Id: %b\r\n"
            self._transport.write(head % generation.encode() + b"\r\n" + _framed(COMMENT))
            self._chunk(_Stream(generation, usage, self._upstream.behaviour, self._loop.time()), came_ns)
            return
        answer = (
            b'{"id":"%b","provider":"%b","model":"%b","object":"chat.completion","created":1764500000,"system_fingerprint":"held=%d",'
            b'"choices":[{"index":0,"finish_reason":"stop","native_finish_reason":"stop","message":{"role":"assistant",'
            b'"content":"Answer %b. %b","refusal":null}}],"usage":%b}'
        )
        names = generation.encode(), PROVIDER.encode(), MODEL.encode()
        held_ns = time.monotonic_ns() - came_ns
        body = answer % (*names, held_ns, generation.encode(), b"Some words of an answer. " * 8, usage)
        self._send(body, b"X-Generation-Id: %b\r\n" % generation.encode())

    def _chunk(self, stream: _Stream, came_ns: int = 0) -> None:
        """Write the next chunk of a stream, and the one after it at its time."""
        if self._transport.is_closing():
            return
        at_ns = time.monotonic_ns()
        text = f"at={at_ns} " + (f"held={at_ns - came_ns} " if came_ns else "")
        event = b"data: " + stream.event(text, None) + b"\n\n"
        stream.written += 1
        if stream.written % CHUNKS_PER_COMMENT == 0:
            event = COMMENT + event
        self._transport.write(_framed(event))
        if stream.written == stream.behaviour.chunks:
            end = b"data: " + stream.event("", stream.usage) + b"\n\ndata: [DONE]\n\n"
            self._transport.write(_framed(end) + b"0\r\n\r\n")
            return
        self._loop.call_at(stream.began_s + stream.written * stream.behaviour.interval_s, self._chunk, stream)


@dataclass(slots=True)
class _Stream:
    """A stream that is being written."""

    generation: str
    usage: bytes
    behaviour: Behaviour
    began_s: float
    written: int = 0

    def event(self, text: str, usage: bytes | None) -> bytes:
        """Return one event's JSON; with usage it is the last one."""
        event = (
            b'{"id":"%b","provider":"%b","model":"%b","object":"chat.completion.chunk","created":1764500000,'
            b'"choices":[{"index":0,"delta":{"role":"assistant","content":"%b"},"finish_reason":%b}]%b}'
        )
        finish, more = (b"null", b"") if usage is None else (b'"stop"', b',"usage":' + usage)
        return event % (self.generation.encode(), PROVIDER.encode(), MODEL.encode(), text.encode(), finish, more)


def _framed(data: bytes) -> bytes:
    """Return data as one chunk of HTTP."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int, certificate: Path | None) -> None:
    """Serve until the process is ended; prints the port.

    Args:
        port: 0 for any free one.
        certificate: PEM file of a certificate and its key, for TLS; None for plain TCP.
    """
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    make = lambda: UpstreamConnection(upstream)  # noqa: E731 - a factory
    server = await loop.create_server(make, "127.0.0.1", port, ssl=context, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.upstream")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", type=Path)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.certificate))
