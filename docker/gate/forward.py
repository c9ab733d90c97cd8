"""Forward a portable gate's connections to the proxy, for engines on which the proxy cannot take the listeners itself.

Usage: forward.py SOCKET HOST PORT GATE_PORT...        the trial's pass is in PREFLIGHT_PASS; the first GATE_PORT is HTTP

It gets the gate's listeners over a unix socket in a volume that only gate and forwarder have, and connects to HOST:PORT for each
connection that they accept. No byte of an agent is sent before the other side has proved that it knows the pass. The pass itself
is never sent. The forwarder ends when the gate does. While the proxy is away, calls wait.
"""

import asyncio
import contextlib
import hashlib
import hmac
import os
import resource
import socket
import struct
import sys

CONNECTIONS_MAX = 256  # for each listener; the proxy has the same limit
IN_ALL_MAX = 1024  # connections of an agent must not fill the forwarder's memory
AGAIN_S = 0.1
BEAT_S = 3.0  # the proxy takes a silence of 15 s for a loss
AUTHENTICATION_S_MAX = 5.0
AWAY_S_MAX = 60.0  # how long a call waits for a proxy that is started again
LEFT_S_MAX = 60.0  # how long an agent may go on sending after the proxy has ended its side
LINGER_S_MAX = 5.0
CHUNK_BYTES = 16 * 1024

AWAY_TEXT = "The budget proxy has been away for too long. Nothing was sent and nothing was charged for this call."
# An error that clients of every API shape understand: the forwarder reads no request, so it does not know the shape.
BODY = f'{{"type": "error", "error": {{"type": "api_error", "code": 503, "message": "{AWAY_TEXT}"}}}}'
AWAY = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
).encode()


class AwayError(OSError):
    """No proxy came back within the time that a call waits."""


class Proxy:
    """The proxy's address, and the proofs that both sides exchange; the proxy's side is in `gate_proof.py`."""

    def __init__(self, address, trial_pass):
        self._address, self._pass = address, trial_pass.encode()
        self._id = hashlib.sha256(self._pass).hexdigest()[:16]
        self._knows_us = False

    async def connect(self, gate_port):
        """Open a connection to a proxy that knows this trial."""
        there = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        there.setblocking(False)
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.wait_for(self._authenticate(there, f"{gate_port:05d}"), AUTHENTICATION_S_MAX)
        except BaseException as exc:
            there.close()
            if isinstance(exc, asyncio.TimeoutError):
                raise ConnectionRefusedError("what listens there does not answer") from exc
            raise
        return there

    async def _authenticate(self, there, gate_port):
        loop, nonce = asyncio.get_running_loop(), os.urandom(16).hex()
        await loop.sock_connect(there, self._address)
        claim = f"{await read_exactly(there, 32)} {nonce} {gate_port}"
        line = f"AP2 {self._id} {nonce} {gate_port} {self._proof(f'forwarder {claim}')}\n"
        await loop.sock_sendall(there, line.encode())
        if not hmac.compare_digest(await read_exactly(there, 64), self._proof(f"portal {claim}")):
            raise ConnectionRefusedError("what listens there is not the proxy")

    def _proof(self, text):
        return hmac.new(self._pass, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    async def connect_in_time(self, gate_port):
        """Connect as soon as a proxy knows this trial. A restarted proxy knows it only after its runner has opened the account."""
        give_up_s = asyncio.get_running_loop().time() + AWAY_S_MAX
        while asyncio.get_running_loop().time() < give_up_s:
            if self._knows_us:
                with contextlib.suppress(OSError):
                    return await self.connect(gate_port)
            await asyncio.sleep(AGAIN_S)
        raise AwayError(AWAY_TEXT)

    async def watch(self):
        """Keep the watch open: it shows the proxy that the gate is there and that this forwarder runs."""
        while True:
            with contextlib.suppress(OSError), await self.connect(0) as there:
                self._knows_us = True
                await beat(there)
            self._knows_us = False
            await asyncio.sleep(AGAIN_S)


async def beat(there):
    """Beat until the proxy is gone. Beats also keep the connection from being closed as idle on its way."""
    loop = asyncio.get_running_loop()
    while True:
        await loop.sock_sendall(there, b".")
        with contextlib.suppress(asyncio.TimeoutError):
            if not await asyncio.wait_for(loop.sock_recv(there, 16), BEAT_S):
                return


async def read_exactly(there, count):
    """Read so many characters and no more: what follows is the agent's."""
    data = b""
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(there, count - len(data))
        if not more:
            raise ConnectionResetError("it left before it had authenticated")
        data += more
    return data.decode("ascii", "replace")


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


class Carrier:
    """Forwards what the listeners accept, within the limits on connections."""

    def __init__(self, proxy, http_port):
        self._proxy, self._http_port = proxy, http_port
        self._carried = {}

    async def serve(self, listener):
        """Forward what this listener accepts, until it is cancelled."""
        loop, port = asyncio.get_running_loop(), listener.getsockname()[1]
        listener.setblocking(False)
        while True:
            try:
                agent, _ = await loop.sock_accept(listener)
            except OSError:  # out of files
                await asyncio.sleep(AGAIN_S)
                continue
            if len(self._carried) >= IN_ALL_MAX or list(self._carried.values()).count(port) >= CONNECTIONS_MAX:
                agent.close()
            else:
                task = asyncio.ensure_future(self._carry(agent, port))
                self._carried[task] = port
                task.add_done_callback(self._carried.pop)
            await asyncio.sleep(0)

    async def _carry(self, agent, port):
        with agent:
            try:
                agent.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with await self._proxy.connect_in_time(port) as there:
                    await exchange(agent, there)
            except AwayError:
                if port == self._http_port:
                    await say(agent, AWAY)
                else:
                    reset(agent)
            except OSError:
                reset(agent)


async def exchange(agent, there, left_s_max=LEFT_S_MAX):
    """Pass bytes both ways until both ends have ended their side; if one breaks, both are reset."""
    up, down = (asyncio.ensure_future(way) for way in (pass_on(agent, there), pass_on(there, agent)))
    try:
        done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for way in done:
            way.result()
        if down in done:
            await asyncio.wait_for(up, left_s_max)
        else:
            await down
    except (OSError, asyncio.TimeoutError):  # noqa: UP041 - before Python 3.11 they are two
        reset(there)
        raise ConnectionResetError("one end broke") from None
    finally:
        up.cancel()
        down.cancel()
        await asyncio.gather(up, down, return_exceptions=True)  # so that neither uses a socket that is closed next


async def pass_on(source, sink):
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, CHUNK_BYTES):
        await loop.sock_sendall(sink, data)
        await asyncio.sleep(0)  # give other connections a turn, though these sockets may always be ready
    sink.shutdown(socket.SHUT_WR)


def reset(connection):
    """Make the next `close` a reset, so that the other end sees a break and no regular end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def say(agent, answer):
    """Answer, and read what the agent still sends: unread bytes at a close would destroy the answer on its way."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.get_running_loop().sock_sendall(agent, answer)
        agent.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(swallow(agent), LINGER_S_MAX)


async def swallow(agent):
    while await asyncio.get_running_loop().sock_recv(agent, CHUNK_BYTES):
        await asyncio.sleep(0)


async def main(path, host, port, *gate_ports):
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    address = socket.gethostbyname(host)  # once: each look-up by the loop would need a thread
    gate, listeners = take_listeners(path, [int(each) for each in gate_ports])
    trial_pass = os.environ.pop("PREFLIGHT_PASS")  # noqa: TID251 - a program of its own, with one variable
    proxy = Proxy((address, int(port)), trial_pass)
    carrier = Carrier(proxy, int(gate_ports[0]))
    tasks = [asyncio.ensure_future(work) for work in (proxy.watch(), *map(carrier.serve, listeners))]
    gate.setblocking(False)
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(gate, 16):
            pass
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
