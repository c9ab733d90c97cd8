"""Connections that have not yet shown who they are: so many from one address, so many in all, and the oldest gives way.

Whoever belongs here shows it within milliseconds. So a newcomer is always let in, and the one that has dawdled longest is cut
off for it: a crowd can neither fill the place nor keep it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager


class Strangers:
    """Those that are here.

    Args:
        from_one_max: Connections at once from one address.
        in_all_max: Connections at once.

    Attributes:
        cut_off: How many had to give way.
    """

    def __init__(self, from_one_max: int, in_all_max: int) -> None:
        self._from_one_max = from_one_max
        self._in_all_max = in_all_max
        self._by_address: dict[str, dict[socket.socket, None]] = {}
        self._all: dict[socket.socket, str] = {}
        self.cut_off = 0

    def __len__(self) -> int:
        """How many are here."""
        return len(self._all)

    @contextmanager
    def one(self, connection: socket.socket, address: str) -> Iterator[None]:
        """Count a connection for as long as the context lasts; one that must give way reads its end."""
        if len(self._by_address.get(address, ())) >= self._from_one_max:
            self._cut_off(next(iter(self._by_address[address])))
        elif len(self._all) >= self._in_all_max:
            self._cut_off(next(iter(self._all)))
        self._all[connection] = address
        self._by_address.setdefault(address, {})[connection] = None
        try:
            yield
        finally:
            self._forget(connection)

    def _cut_off(self, connection: socket.socket) -> None:
        self.cut_off += 1
        self._forget(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _forget(self, connection: socket.socket) -> None:
        address = self._all.pop(connection, None)
        if address is None:
            return
        of_address = self._by_address[address]
        del of_address[connection]
        if not of_address:
            del self._by_address[address]
