"""The gate's program, as a process of this machine: it listens, hands over, keeps open, and hands over again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.wire

GATE = Path(__file__).parents[3] / "docker" / "gate" / "gate.py"


def free_ports(count: int) -> list[int]:
    """Ports that are free, and that the system gives to nobody by itself before the gate takes them."""
    found: list[int] = []
    for port in random.sample(range(10_000, 30_000), 1000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            break
    return found


def accept(path: Path) -> socket.socket:
    """Wait on the gate's unix socket as a proxy does, and return the gate's connection."""
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(60)
        path.unlink(missing_ok=True)
        server.bind(str(path))
        server.listen(1)
        connection, _ = server.accept()
    connection.settimeout(60)
    return connection


def receive(connection: socket.socket, count: int) -> list[socket.socket]:
    message, fds, flags, _ = socket.recv_fds(connection, 16, count + 1)
    assert message == b"G"
    assert not flags & socket.MSG_CTRUNC
    return [socket.socket(fileno=fd) for fd in fds]


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ap-") as name:
        yield Path(name) / "gate.sock"


@pytest.fixture
def ports() -> list[int]:
    return free_ports(2)


@pytest.fixture
def gate(path: Path, ports: list[int]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-I", "-S", str(GATE), str(path), *map(str, ports)]) as process:
        yield process
        process.kill()


def test_the_listeners_come_over_in_the_order_of_the_ports(gate: object, path: Path, ports: list[int]) -> None:
    with accept(path) as connection:
        listeners = receive(connection, 2)
        assert [listener.getsockname() for listener in listeners] == [("127.0.0.1", port) for port in ports]
        for listener in listeners:
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
            listener.close()


def test_the_connection_stays_while_the_proxy_lives(gate: subprocess.Popen[bytes], path: Path) -> None:
    with accept(path) as connection:
        for listener in receive(connection, 2):
            listener.close()
        connection.sendall(b"K")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(60)
        gate.send_signal(signal.SIGKILL)
        assert connection.recv(1) == b""


def test_a_call_between_two_proxies_is_served_by_the_second(gate: object, path: Path, ports: list[int]) -> None:
    with accept(path) as connection:
        for listener in receive(connection, 2):
            listener.close()
    with socket.create_connection(("127.0.0.1", ports[1]), timeout=10) as client:
        client.sendall(b"ping")
        with accept(path) as connection:
            first, second = receive(connection, 2)
            second.settimeout(60)
            served, _ = second.accept()
            assert served.recv(4) == b"ping"
            for sock in (served, first, second):
                sock.close()


def test_listeners_that_were_shut_down_are_ended_in_the_gate_too(gate: object, path: Path, ports: list[int]) -> None:
    with accept(path) as connection:
        for listener in receive(connection, 2):
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ports[0]), timeout=10)


def test_a_port_that_is_taken_ends_the_gate(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, str(GATE), str(path), port], capture_output=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert b"Address already in use" in done.stderr


def test_the_gate_is_small_enough_to_be_read_at_a_glance() -> None:
    assert len(GATE.read_text().splitlines()) < 50
    assert not os.access(GATE.parent / "requirements.txt", os.F_OK)
