"""Chooses the HTTP proxy for a URL from the usual environment variables, for all HTTP clients of both halves. Pure.

A lower-case variable has precedence over its upper-case form, and one for the scheme over `all_proxy`. NO_PROXY takes
host names (with their subdomains), `host:port`, IP addresses, networks such as 10.0.0.0/8, and `*`.
A loopback address never uses a proxy.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import msgspec

from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
"""The variables that are read, each in this spelling and in capitals."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class HttpProxy(msgspec.Struct, frozen=True):
    """One proxy that speaks plain HTTP.

    Attributes:
        url: Scheme, host and port, without a name or a password: safe to show.
        authorization: The value of `Proxy-Authorization`, with name and password; None if the variable has no login.
        variable: The environment variable that names it.
    """

    url: str
    authorization: Secret | None
    variable: str


def http_proxy(url: str, variables: Mapping[str, str]) -> HttpProxy | None:
    """Return the proxy by which `url` is reached; None if it is reached directly.

    Args:
        url: An absolute http or https URL.
        variables: The environment.

    Raises:
        ConfigError: The variable names a SOCKS or https proxy, or no URL. Its text holds no name and no password.
    """
    target = urlsplit(url)
    scheme, host, port = target.scheme, (target.hostname or "").rstrip("."), target.port
    if is_loopback(host) or _is_exempt(host, port or _DEFAULT_PORTS.get(scheme), _first(variables, "no_proxy")[1]):
        return None
    for kind in (f"{scheme}_proxy", "all_proxy"):
        variable, value = _first(variables, kind)
        if value:
            return _parsed(variable, value)
    return None


def _first(variables: Mapping[str, str], name: str) -> tuple[str, str]:
    """The spelling that is set, and its value; the lower-case one hides the other, even where it is empty."""
    for spelling in (name, name.upper()):
        if spelling in variables:
            return spelling, variables[spelling].strip()
    return name, ""


def _parsed(variable: str, value: str) -> HttpProxy:
    try:
        proxy = urlsplit(value if "://" in value else f"http://{value}")
        host, port = proxy.hostname, proxy.port or _DEFAULT_PORTS["http"]
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise ConfigError(f"{variable} is no URL of a proxy. Set it to http://HOST:PORT. {_NOTHING_SENT}")
    if proxy.scheme != "http":
        kind = "SOCKS" if proxy.scheme.startswith("socks") else proxy.scheme[:10]
        raise ConfigError(
            f"{variable} names a proxy of the kind {kind}; only http://HOST:PORT can be used. "
            f"Set it to one of those, or name OpenRouter's host in NO_PROXY. {_NOTHING_SENT}"
        )
    shown = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return HttpProxy(shown, _basic(proxy.username, proxy.password), variable)


def _basic(username: str | None, password: str | None) -> Secret | None:
    """The login by RFC 7617; the variable has both parts percent-encoded."""
    if username is None:
        return None
    login = f"{unquote(username)}:{unquote(password or '')}"
    return Secret(f"Basic {base64.b64encode(login.encode()).decode()}")


_NOTHING_SENT = "Nothing was sent and nothing was spent."


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    return any(_matches(entry, host, port) for entry in no_proxy.lower().replace(",", " ").split())


def _matches(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    network, address = _network(entry), _address(host)
    if network is not None:
        return address is not None and address in network
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit():
        if digits != str(port):
            return False
        entry = name.strip("[]")
    name = entry.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(name) and (host == name or (address is None and host.endswith(f".{name}")))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network or the one address that an entry names; None for a host name or an entry with a port."""
    try:
        return ipaddress.ip_network(text.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        return None
