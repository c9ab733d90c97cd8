"""Which places may be reached, and what a request says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.egress import (
    EgressRefusedError,
    EgressRequest,
    Target,
    is_public,
    read_head,
    read_target,
    route,
)
from tests.support.cases import each

PYPI = Target("pypi.org", 443)


@each(
    "text, target",
    [
        ("pypi.org:443", PYPI),
        ("PyPI.org.:443", PYPI),
        ("127.0.0.1:3000", Target("127.0.0.1", 3000)),
        ("[2001:db8::1]:80", Target("2001:db8::1", 80)),
        ("my_db:65535", Target("my_db", 65535)),
    ],
)
def test_a_place_is_a_host_and_a_port(text: str, target: Target) -> None:
    assert read_target(text) == target
    assert read_target(str(target)) == target


@each(
    "text",
    [
        *(
            "",
            "pypi.org",
            "pypi.org:",
            ":443",
            "pypi.org:0",
            "pypi.org:65536",
            "pypi.org:４４３",
            "pypi.org:+443",
            "a b:1",
        ),
        *(
            "-a.org:1",
            "a..b:1",
            "[::1:1",
            "::1:1",
            "[fe80::1%eth0]:1",
            "[1.2.3.4]:1",
            f"{'a' * 64}.org:1",
            f"{'a.' * 200}b:1",
        ),
        *("http://pypi.org:443", "user@pypi.org:443", "pypi.org/x:443", "*.pypi.org:443", "pypi.org:443\n"),
    ],
)
def test_what_is_no_place_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        read_target(text)


@given(st.text(max_size=40))
def test_whatever_is_read_as_a_place_can_be_written_and_read_again(text: str) -> None:
    try:
        target = read_target(text)
    except ValueError:
        return
    assert read_target(str(target)) == target


def test_a_connect_names_its_place_and_sends_nothing_before() -> None:
    assert read_head(b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n") == EgressRequest(PYPI, b"")


def test_a_whole_url_is_sent_as_a_server_takes_it_and_ends_its_connection() -> None:
    head = (
        b"GET http://Deb.example/a?b=http://c HTTP/1.1\r\nHost: deb.example\r\nProxy-Connection: keep-alive\r\n"
        b"proxy-authorization: Basic x\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\n"
    )
    assert read_head(head) == EgressRequest(
        Target("deb.example", 80),
        b"GET /a?b=http://c HTTP/1.1\r\nHost: deb.example\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    )
    assert read_head(b"HEAD HTTP://a.b:8080 HTTP/1.0\r\n\r\n") == EgressRequest(
        Target("a.b", 8080), b"HEAD / HTTP/1.0\r\nConnection: close\r\n\r\n"
    )


@each(
    "head",
    [
        *(b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"CONNECT pypi.org HTTP/1.1\r\n\r\n", b"CONNECT  HTTP/1.1\r\n\r\n"),
        *(b"CONNECT pypi.org:443 SPDY/3\r\n\r\n", b"GET https://pypi.org/ HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"),
        *(
            b"GET http://u@pypi.org/ HTTP/1.1\r\n\r\n",
            b"GET http:// HTTP/1.1\r\n\r\n",
            b"CONNECT \xff:1 HTTP/1.1\r\n\r\n",
        ),
    ],
)
def test_what_no_proxy_takes_is_refused(head: bytes) -> None:
    with pytest.raises(EgressRefusedError) as caught:
        read_head(head)
    assert caught.value.status == 400


@each(
    "address",
    [
        *(
            "127.0.0.1",
            "127.8.9.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
        ),
        *("224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "168.63.129.16"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::127.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::1"),
        *("2002:7f00:1::", "2001:0:1::1", "", "pypi.org", "1.2.3", "0x7f000001", "2130706433", "127.1", "1.1.1.1%eth0"),
    ],
)
def test_an_address_that_is_not_the_open_internets_is_not_taken(address: str) -> None:
    assert not is_public(address)


@each("address", ["1.1.1.1", "151.101.0.223", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_an_address_of_the_open_internet_is_taken(address: str) -> None:
    assert is_public(address)


class Names:
    """A resolver of its own."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.names:
            raise OSError("unknown")
        return self.names[host]


def reached(target: Target, names: Names) -> tuple[str, ...]:
    allowed = {Target("named", 443), Target("empty", 443), Target("unknown", 443)}
    return asyncio.run(route(target, allowed, names.resolve, lambda address: not address.startswith("10.")))


def test_a_named_place_leads_to_its_addresses_once_each() -> None:
    names = Names(named=["1.1.1.1", "1.0.0.1", "1.1.1.1"])
    assert reached(Target("named", 443), names) == ("1.1.1.1", "1.0.0.1")


@each(
    "target, status, asked",
    [
        (Target("other", 443), 403, 0),
        (Target("named", 80), 403, 0),
        (Target("named", 443), 403, 1),
        (Target("empty", 443), 502, 1),
        (Target("unknown", 443), 502, 1),
    ],
)
def test_a_place_that_was_not_named_or_leads_nowhere_or_inside_is_refused(
    target: Target, status: int, asked: int
) -> None:
    names = Names(named=["1.1.1.1", "10.0.0.1"], empty=[])
    with pytest.raises(EgressRefusedError) as caught:
        reached(target, names)
    assert caught.value.status == status
    assert len(names.asked) == asked
