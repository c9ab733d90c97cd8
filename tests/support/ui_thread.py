"""The server of `agent-preflight ui` on a loop and thread of its own, for tests that look at it with a browser, which block."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_preflight.views.live_pages import LivePages
from agent_preflight.views.server import ViewServer


@dataclass
class UiThread:
    """A server that can be ended and begun again."""

    runs: Path
    loop: asyncio.AbstractEventLoop
    server: ViewServer
    port: int = 0

    def url(self, path: str = "/") -> str:
        """Return the address of a page."""
        return f"http://127.0.0.1:{self.port}/{self.server.secret}{path}"

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def begin(self, secret: str | None = None) -> None:
        """Serve on the port of before, with a secret of its own or this one."""
        self.server = ViewServer(LivePages(self.runs), every_s=0.05)
        self.server.secret = secret or self.server.secret
        self.port = self.do(self.server.start(self.port))

    def end(self) -> None:
        """End the server."""
        self.do(self.server.stop())


@contextlib.contextmanager
def ui_thread(runs: Path) -> Iterator[UiThread]:
    """Serve the runs of a folder until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ui = UiThread(runs, loop, ViewServer(LivePages(runs)))
    ui.begin()
    try:
        yield ui
    finally:
        ui.end()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
