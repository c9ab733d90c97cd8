"""Which hosts a sealed agent may reach through the proxy, and how its requests are read. Pure.

The resolver and the check of addresses are arguments. The address that is checked is the one that is connected to: a name is never
resolved twice, so its address cannot change in between.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import IPv6Address, ip_address, ip_network

import msgspec

HEAD_BYTES_MAX = 16 * 1024
"""A request's head; a CONNECT has a few hundred bytes."""
PORT_MAX = 65535

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to addresses; raises OSError where there are none."""
Accepts = Callable[[str], bool]
"""Tells whether an address may be connected to."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?)*")
_CARRIES_IPV4 = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")))
"""NAT64, Teredo and 6to4: they contain an IPv4 address that may be private. Source: RFC 6052, 8215, 4380, 3056."""
_SERVES_THE_HOST = frozenset({ip_address("168.63.129.16")})
"""Azure's platform address, in no private range. Source: learn.microsoft.com, "What is IP address 168.63.129.16?", 2026-11."""
_HOP_HEADERS = (b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive")


class EgressRefusedError(ValueError):
    """A request that is refused.

    Attributes:
        status: The HTTP status that says so.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Target(msgspec.Struct, frozen=True):
    """A place to connect to: a host name in lower case or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class EgressRequest(msgspec.Struct, frozen=True):
    """One request to the HTTP proxy.

    Attributes:
        target: Where to connect.
        head: What to send there first: nothing for CONNECT, else the request in the form that a server expects.
    """

    target: Target
    head: bytes


def read_target(text: str) -> Target:
    """Read `HOST:PORT`; the port may not be left out.

    Raises:
        ValueError: It has another form.
    """
    host, _, port = text.rpartition(":")
    host = host.lower().removesuffix(".")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        valid = _is_ipv6(host)
    else:
        valid = len(host) <= 253 and _NAME.fullmatch(host) is not None
    if not valid or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"{text[:200]!r} is not HOST:PORT, such as pypi.org:443")
    return Target(host, int(port))


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ip_address(host), IPv6Address) and "%" not in host
    except ValueError:
        return False


def read_head(head: bytes) -> EgressRequest:
    r"""Read the head of a request to an HTTP proxy, its blank line included: CONNECT, or a whole `http://` URL.

    Of the latter only this request is passed on, and the server is told to close the connection after it: the next request may be
    for another host, and must be checked again.

    Raises:
        EgressRefusedError: It is neither.
    """
    line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        raise EgressRefusedError(400, "This is no request to an HTTP proxy.")
    method, place, version = parts
    if method == b"CONNECT":
        return EgressRequest(_target(place.decode("latin-1")), b"")
    if not place.lower().startswith(b"http://"):
        raise EgressRefusedError(400, "This is an HTTP proxy: send CONNECT, or a whole http:// URL.")
    host, slash, path = place[len(b"http://") :].partition(b"/")
    named = host.decode("latin-1")
    kept = [field for field in fields if field.partition(b":")[0].strip().lower() not in _HOP_HEADERS]
    first = b" ".join((method, slash + path or b"/", version))
    whole = b"\r\n".join([first, *kept, b"Connection: close", b"", b""])
    return EgressRequest(_target(named if re.search(r":[0-9]+$", named) else f"{named}:80"), whole)


def _target(text: str) -> Target:
    try:
        return read_target(text)
    except ValueError as exc:
        raise EgressRefusedError(400, f"{exc}.") from exc


async def route(target: Target, allowed: Collection[Target], resolve: Resolve, accepts: Accepts) -> tuple[str, ...]:
    """Return the addresses to connect to, in the resolver's order.

    Args:
        target: Where the agent wants to connect.
        allowed: The hosts that the user named.
        resolve: See `Resolve`.
        accepts: See `Accepts`.

    Raises:
        EgressRefusedError: The target was not named, has no address, or one of its addresses is not accepted.
    """
    if target not in allowed:
        raise EgressRefusedError(403, f"This trial may not reach {target}; its egress list does not name it.")
    try:
        addresses = tuple(dict.fromkeys(await resolve(target.host, target.port)))
    except OSError as exc:
        raise EgressRefusedError(502, f"The name {target.host} cannot be resolved.") from exc
    if not addresses:
        raise EgressRefusedError(502, f"The name {target.host} has no address.")
    if not all(map(accepts, addresses)):
        raise EgressRefusedError(
            403, f"{target.host} leads to an address that is not public; name it as a service instead."
        )
    return addresses


def is_public(address: str) -> bool:
    """Tell whether an address is one of the open internet's: not private, link-local, loopback, multicast or reserved."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif parsed.scope_id or any(parsed in network for network in _CARRIES_IPV4):
            return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed in _SERVES_THE_HOST)
