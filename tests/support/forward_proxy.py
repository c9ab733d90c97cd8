"""An HTTP proxy as companies have one: CONNECT and absolute URLs. It sends every host to one address, and can require a login."""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

PIECE_BYTES = 65536
HEAD_END = b"\r\n\r\n"
REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class ForwardProxy:
    """Serves on a free port of 127.0.0.1, in threads of its own.

    Attributes:
        leads_to: Host and port that every request is led to.
        login: `name:password` that each request must bring, or empty.
        tls: With it a tunnel's end is here: it speaks TLS to the client, and plainly to `leads_to`.
        asked: The first line of each request.
    """

    leads_to: tuple[str, int]
    login: str = ""
    tls: ssl.SSLContext | None = None
    asked: list[str] = field(default_factory=list)
    _server: socketserver.ThreadingTCPServer | None = None

    def __enter__(self) -> Self:
        """Start to serve."""
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    proxy._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Accept no more connections."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        assert self._server is not None
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def _serve(self, client: socket.socket) -> None:
        head, _, rest = _read_head(client)
        first, *fields = head.decode("latin-1").split("\r\n")
        self.asked.append(first)
        wanted = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and f"proxy-authorization: {wanted}".lower() not in (line.lower() for line in fields):
            client.sendall(REFUSED)
            return
        with socket.create_connection(self.leads_to) as server:
            method, url, version = first.split(" ")
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                client = self.tls.wrap_socket(client, server_side=True) if self.tls is not None else client
            else:
                parts = urlsplit(url)
                kept = [line for line in fields if not line.lower().startswith(("proxy-", "connection:"))]
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                lines = [f"{method} {path} {version}", *kept, "Connection: close"]
                server.sendall("\r\n".join(lines).encode("latin-1") + HEAD_END)
            server.sendall(rest)
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            _pump(server, client)
            client.close()


def _read_head(client: socket.socket) -> tuple[bytes, bytes, bytes]:
    received = b""
    while HEAD_END not in received:
        piece = client.recv(PIECE_BYTES)
        if not piece:
            raise ConnectionError("the client left before its head was complete")
        received += piece
    return received.partition(HEAD_END)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until the source ends, then end the target."""
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
