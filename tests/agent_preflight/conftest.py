"""What the tests of the host half share: an OpenRouter and an engine in threads, and servers that answer by script."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from openrouter_sim import Simulator
from tests.support.engine_thread import docker_host, no_engine
from tests.support.scored_run import scored_run
from tests.support.trial_field import trials

__all__ = ["docker_host", "no_engine", "scored_run", "trials"]


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """The offline OpenRouter on a loop and thread of its own; OPENROUTER_BASE_URL names it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made = Simulator()
    asyncio.run_coroutine_threadsafe(made.start(), loop).result(60)
    monkeypatch.setenv("OPENROUTER_BASE_URL", made.base_url)
    yield made
    asyncio.run_coroutine_threadsafe(made.stop(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()


@dataclass
class Seen:
    """A request as a scripted server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


Script = Callable[[Seen], tuple[int, Any] | None]
"""Returns status and body (bytes, or a value for JSON); None hangs up without a word."""


@dataclass
class ScriptedServer:
    """A server whose answers a test decides, and which remembers what it was asked."""

    base_url: str
    script: Script
    seen: list[Seen] = field(default_factory=list)

    def asked(self, method: str, path: str) -> int:
        """Count the requests of that method whose path begins so."""
        return sum(s.method == method and s.path.startswith(path) for s in self.seen)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], ScriptedServer]]:
    """Starts servers that answer by script; OPENROUTER_BASE_URL names the last one started."""
    running: list[ThreadingHTTPServer] = []

    def start(script: Script) -> ScriptedServer:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                content = self.rfile.read(length)
                seen = Seen(self.command, self.path, dict(self.headers), json.loads(content) if content else None)
                made.seen.append(seen)
                decided = made.script(seen)
                if decided is None:
                    self.close_connection = True
                    return
                status, body = decided
                payload = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the names of http.server

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its parameter's name
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        made = ScriptedServer(f"http://127.0.0.1:{server.server_address[1]}", script)
        monkeypatch.setenv("OPENROUTER_BASE_URL", made.base_url)
        return made

    yield start
    for server in running:
        server.shutdown()
        server.server_close()
