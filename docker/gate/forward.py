"""Carry a portable gate's connections to the proxy: for engines on which the proxy cannot take the listeners itself.

Usage: forward.py SOCKET HOST PORT GATE_PORT...        the trial's pass is in PREFLIGHT_PASS

It takes the gate's listeners over a unix socket in a volume that only the two of them have, and connects to HOST:PORT for each
connection that they accept. It ends when the gate does. While the proxy is away, calls wait.
"""

import asyncio
import contextlib
import os
import socket
import sys

CONNECTIONS_MAX = 256  # for each listener; the proxy has the same limit
AGAIN_S = 0.1
BEAT_S = 10.0
AWAY_S_MAX = 60.0  # how long a call waits for a proxy that is started again
CHUNK_BYTES = 64 * 1024


class Proxy:
    """Where the proxy is, and how it knows whom this forwarder serves."""

    def __init__(self, host, port, trial_pass):
        self.host, self.port, self._pass = host, port, trial_pass
        self._knows_us = False

    async def connect(self, gate_port):
        """Open a connection and say what it is for."""
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=CHUNK_BYTES)
        writer.write(f"AP1 {self._pass} {gate_port:05d}\n".encode())
        return reader, writer

    async def connect_in_time(self, gate_port):
        """Connect as soon as there is a proxy that knows this trial; one that was started again is told of it only then."""
        give_up_s = asyncio.get_running_loop().time() + AWAY_S_MAX
        while asyncio.get_running_loop().time() < give_up_s:
            if self._knows_us:
                with contextlib.suppress(OSError):
                    return await self.connect(gate_port)
            await asyncio.sleep(AGAIN_S)
        raise ConnectionRefusedError("the proxy is away")

    async def watch(self):
        """Tell the proxy that the gate is here, whenever there is a proxy."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await self.connect(0)
                beating = asyncio.ensure_future(beat(writer))
                while await reader.read(16):
                    self._knows_us = True
                beating.cancel()
                writer.close()
            self._knows_us = False
            await asyncio.sleep(AGAIN_S)


async def beat(writer):
    """Keep a connection from looking idle to whatever carries it out of a virtual machine."""
    while not writer.is_closing():
        writer.write(b".")
        await asyncio.sleep(BEAT_S)


def take_listeners(path, ports):
    """Return the gate's connection and its listeners."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen(1)
        gate, _ = server.accept()
    message, fds, _, _ = socket.recv_fds(gate, 16, len(ports) + 1)
    listeners = [socket.socket(fileno=fd) for fd in fds]
    if message != b"G" or [each.getsockname() for each in listeners] != [("127.0.0.1", port) for port in ports]:
        sys.exit("what the gate handed over is not what it must be")
    gate.sendall(b"K")
    return gate, listeners


async def serve(listener, proxy):
    port, count = listener.getsockname()[1], 0

    async def carry(reader, writer):
        nonlocal count
        if count >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        count += 1
        try:
            await exchange((reader, writer), await proxy.connect_in_time(port))
        except OSError:
            writer.transport.abort()
        finally:
            count -= 1

    await asyncio.start_server(carry, sock=listener, limit=CHUNK_BYTES, backlog=CONNECTIONS_MAX)


async def exchange(one, other):
    """Pass bytes on both ways until both ends have said their last; if one breaks, both do."""
    ways = [asyncio.ensure_future(pass_on(one[0], other[1])), asyncio.ensure_future(pass_on(other[0], one[1]))]
    try:
        await asyncio.gather(*ways)
        for _, writer in (one, other):
            writer.close()
    except OSError:
        for way in ways:
            way.cancel()
        for _, writer in (one, other):
            writer.transport.abort()


async def pass_on(reader, writer):
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if not writer.is_closing():
        writer.write_eof()


async def main(path, host, port, *gate_ports):
    address = socket.gethostbyname(host)  # once, because each look-up by the loop would take a thread
    gate, listeners = take_listeners(path, [int(each) for each in gate_ports])
    proxy = Proxy(address, int(port), os.environ.pop("PREFLIGHT_PASS"))  # noqa: TID251 - a program of its own, with one variable
    for listener in listeners:
        listener.setblocking(False)
        await serve(listener, proxy)
    watching = asyncio.ensure_future(proxy.watch())
    gate.setblocking(False)
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(gate, 16):
            pass
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
