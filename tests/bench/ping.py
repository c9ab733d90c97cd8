"""Asks `/health` of a proxy every millisecond until its standard input ends: `python ping.py PORT`.

The longest answer is as long as the proxy's event loop was busy with something else. It is a process of its own, so that the load
generator's own work does not count. It prints a line when it has begun, and for each line that it reads the longest time since
the line before, in nanoseconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time

EVERY_S = 0.001
ANSWER_S_MAX = 60.0


def main(port: int) -> None:
    """Ask, and print."""
    with contextlib.suppress(OSError):
        os.nice(-10)  # the load must not delay us; where it is not allowed, the figure is an upper bound
    request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    longest_ns = 0
    with socket.create_connection(("127.0.0.1", port), ANSWER_S_MAX) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("asking", flush=True)
        while True:
            began_ns = time.monotonic_ns()
            connection.sendall(request)
            if not connection.recv(65536):
                raise ConnectionError("the proxy closed the connection")
            longest_ns = max(longest_ns, time.monotonic_ns() - began_ns)
            if select.select([sys.stdin], [], [], EVERY_S)[0]:
                if not sys.stdin.readline():
                    return
                print(longest_ns, flush=True)
                longest_ns = 0


if __name__ == "__main__":
    main(int(sys.argv[1]))
