"""A network namespace for a test, which is for sockets what the inside of a trial is."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import pytest

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

T = TypeVar("T")


class Namespace:
    """A thread in a new network namespace. Sockets that it makes belong to that namespace wherever they are used."""

    def __init__(self) -> None:
        self._inside = ThreadPoolExecutor(max_workers=1)
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            self.run(_leave)
        except PermissionError:
            self._inside.shutdown()
            pytest.skip("a network namespace needs root (CAP_SYS_ADMIN)")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _raised: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for sock in self._sockets:
            sock.close()
        self._inside.shutdown()

    def run(self, work: Callable[[], T]) -> T:
        """Run a function inside."""
        return self._inside.submit(work).result()

    def make(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Return a socket of this namespace, which is closed with it."""
        made = self.run(lambda: socket.socket(family, kind))
        self._sockets.append(made)
        return made

    def listener(self, port: int, host: str = "127.0.0.1", *, reuse_port: bool = False) -> socket.socket:
        """Return a TCP listener of this namespace, as a gate opens it."""
        sock = self.make()
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(64)
        return sock


def _leave() -> None:
    """Move this thread into a new namespace and bring its loopback up."""
    if sys.platform != "linux":
        raise PermissionError("network namespaces are Linux's")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
