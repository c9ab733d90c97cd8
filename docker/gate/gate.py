"""Own a trial's network namespace: open its listeners and hand them to the proxy, again and again.

Usage: gate.py SOCKET PORT...

The listeners stay open here when no proxy serves them, so calls wait in the backlog and none is refused.
"""

import contextlib
import socket
import sys
import time


def listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", port))
    listener.listen(256)
    return listener


def hand_over(path: str, listeners: list[socket.socket]) -> None:
    """Return when the proxy that took the listeners has gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as proxy:
        proxy.connect(path)
        socket.send_fds(proxy, [b"G"], [listener.fileno() for listener in listeners])
        while proxy.recv(16):
            pass


def main(path: str, ports: list[int]) -> None:
    listeners = [listen(port) for port in ports]
    while True:
        with contextlib.suppress(OSError):  # no proxy, or it died: hand over to the next one
            hand_over(path, listeners)
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1], [int(port) for port in sys.argv[2:]])
