"""`agent-preflight ui`: serves the pages of runs on 127.0.0.1, read-only, to whoever has the secret of this start.

The secret is the first part of each path, so every link carries it. A cookie would go to every port of this host, and each program
that listens there could read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from agent_preflight.views.feed import EVERY_S, Feed
from agent_preflight.views.live_pages import LivePages, View
from agent_preflight.views.page import FOLDER
from preflight_proxy.core.errors import ConfigError

HOST = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC = {"page.css": "text/css", "live.js": "text/javascript"}
PLACES = ("", "/run/{run}", "/run/{run}/trial/{trial}")
FEEDS_MAX = 64
"""Pages that are kept rendered; the one that was asked for longest ago goes first."""
SLOW_S = 10.0
"""A viewer that takes longer to take an update is cut off. Its page connects again, and gets the newest state."""
BUFFER_BYTES = 256 * 2**10
"""What the system may keep for a viewer that reads slowly."""
LOG = logging.getLogger(__name__)
LOG.addFilter(lambda record: not isinstance((record.exc_info or (None, None))[1], HttpProcessingError))
"""What is no HTTP is answered with 400, and not worth a traceback on the terminal."""


class ViewServer:
    """The server of one start.

    Args:
        pages: What is served.
        every_s: How often a page is renewed at most.
        slow_s: See `SLOW_S`.

    Attributes:
        secret: The first part of every path.
        once: As `secret`, but for one request only, which is sent on to the lasting address. A browser gets this one as an
            argument, which other users of the machine can read. Empty once it is used.
        viewers: How many streams are open.
    """

    def __init__(self, pages: LivePages, *, every_s: float = EVERY_S, slow_s: float = SLOW_S) -> None:
        self.secret, self.once = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.viewers = 0
        self._pages, self._every_s, self._slow_s = pages, every_s, slow_s
        self._hosts: tuple[str, ...] = ()
        self._closing = asyncio.Event()
        self._feed = lru_cache(FEEDS_MAX)(self._new_feed)
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._close)
        app.router.add_get("/{secret}/static/{name}", _static)
        for place in (*PLACES, *(f"{place}/{{calls:calls}}" for place in PLACES[1:])):
            app.router.add_get(f"/{{secret}}{place or '/'}", self._page)
            app.router.add_get(f"/{{secret}}{place}/live", self._live, allow_head=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, logger=LOG)

    async def start(self, port: int = 0) -> int:
        """Listen on 127.0.0.1 and return the port. Raises OSError if it is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, port).start()
        port = int(self._runner.addresses[0][1])
        self._hosts = (f"{HOST}:{port}", f"localhost:{port}")
        return port

    async def stop(self) -> None:
        """End all streams and close the port."""
        await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuse whoever has another Host (DNS rebinding), no secret, or something to change."""
        first, _, rest = request.raw_path.removeprefix("/").partition("/")
        if request.headers.get("Host") not in self._hosts:
            raise web.HTTPForbidden(text="This server answers to 127.0.0.1 and localhost only.\n")
        if self.once and request.method == "GET" and _same(first, self.once):
            self.once = ""
            raise web.HTTPSeeOther(f"/{self.secret}/{rest}")
        if not _same(first, self.secret):
            raise web.HTTPForbidden(text="Open the address that `agent-preflight ui` printed: it has a secret.\n")
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])
        try:
            return await handler(request)
        except ConfigError as exc:
            page = self._pages.page(View(), {}, 0, f"/{self.secret}", problem=str(exc))
            return web.Response(text=page, content_type="text/html", status=404)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        feed = self._feed(view := _view(request))
        await feed.refresh()
        page = self._pages.page(view, feed.since(0), feed.version, f"/{self.secret}")
        return web.Response(text=page, content_type="text/html")

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Send the fragments that changed since the viewer's version, and go on as they change."""
        feed = self._feed(_view(request))
        await feed.refresh()
        seen = request.headers.get("Last-Event-ID") or request.query.get("since", "")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if (transport := request.transport) is None:
            return response
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self.viewers += 1
        try:
            await self._follow(response, feed, _number(seen, 0), transport)
        except (TimeoutError, ConfigError, ConnectionError):  # too slow, the run is gone, or the viewer is
            transport.abort()
        finally:
            self.viewers -= 1
        return response

    async def _follow(
        self, response: web.StreamResponse, feed: Feed, version: int, transport: asyncio.BaseTransport
    ) -> None:
        await response.write(b": follows\n\n")  # the head goes out with it
        while not (self._closing.is_set() or transport.is_closing()):
            if changed := feed.since(version):
                version = feed.version
                message = f"id: {version}\ndata: {json.dumps(changed)}\n\n"
                await asyncio.wait_for(response.write(message.encode()), self._slow_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._every_s)
            await feed.refresh()

    async def _close(self, _app: web.Application) -> None:
        self._closing.set()

    def _new_feed(self, view: View) -> Feed:
        return Feed(lambda: self._pages.fragments(view, f"/{self.secret}"), self._every_s)


def _view(request: web.Request) -> View:
    """Return what a path and its query name. Nothing of it is checked yet."""
    place, page = request.match_info, _number(request.query.get("page", ""), 1)
    return View(place.get("run"), place.get("trial"), "calls" in place, page)


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else otherwise


def _same(text: str, secret: str) -> bool:
    """Compare in a time that says nothing of the secret."""
    return secrets.compare_digest(text.encode(errors="replace"), secret.encode())


async def _static(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name not in STATIC:
        raise web.HTTPNotFound
    return web.Response(body=(FOLDER / "static" / name).read_bytes(), content_type=STATIC[name], charset="utf-8")


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


async def serve_until_stopped(pages: LivePages, port: int, begun: Callable[[str, str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        pages: What is served.
        port: 0 takes a free one.
        begun: Called once connections are accepted, with the lasting address and with one that is good for one request.

    Raises:
        OSError: The port is taken.
    """
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    server = ViewServer(pages)
    try:
        address = f"http://{HOST}:{await server.start(port)}"
        begun(f"{address}/{server.secret}", f"{address}/{server.once}")
        await stop.wait()
    finally:
        await server.stop()
