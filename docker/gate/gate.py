"""Own a trial's network namespace: open its listeners and hand them to the proxy, again and again.

Usage: gate.py SOCKET PORT...

The listeners stay open here when no proxy serves them, so calls wait in the backlog and none is refused.
It starts once a trial, so it loads no more than it uses: what `socket` imports takes longer than all the rest of its start.
"""

import _socket
import sys
import time


def listen(port: int) -> _socket.socket:
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", port))
    listener.listen(256)
    return listener


def hand_over(path: str, listeners: list[_socket.socket]) -> None:
    """Return when the proxy that took the listeners has gone."""
    fds = b"".join(listener.fileno().to_bytes(4, sys.byteorder) for listener in listeners)
    proxy = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        proxy.connect(path)
        proxy.sendmsg([b"G"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        while proxy.recv(16):
            pass
    finally:
        proxy.close()


def main(path: str, ports: list[int]) -> None:
    listeners = [listen(port) for port in ports]
    while True:
        try:  # noqa: SIM105 - `contextlib` is another slow import
            hand_over(path, listeners)
        except OSError:  # no proxy, or it died: hand over to the next one
            pass
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1], [int(port) for port in sys.argv[2:]])
