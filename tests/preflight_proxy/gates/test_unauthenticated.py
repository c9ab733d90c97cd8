"""Who gives way when too many have connected that are nobody yet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from preflight_proxy.gates.unauthenticated import Strangers

pytestmark = pytest.mark.wire


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def come(strangers: Strangers, held: ExitStack, address: str) -> socket.socket:
    """Connect; returns the other end."""
    here, there = (held.enter_context(end) for end in socket.socketpair())
    held.enter_context(strangers.one(here, address))
    there.settimeout(20)
    return there


def is_cut_off(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


def test_the_oldest_of_a_crowded_address_gives_way_and_no_other(held: ExitStack) -> None:
    strangers = Strangers(from_one_max=2, in_all_max=10)
    other = come(strangers, held, "other")
    crowd = [come(strangers, held, "crowd") for _ in range(4)]
    assert [is_cut_off(end) for end in crowd] == [True, True, False, False]
    assert not is_cut_off(other)
    assert (len(strangers), strangers.cut_off) == (3, 2)


def test_the_oldest_of_all_gives_way_when_the_place_is_full(held: ExitStack) -> None:
    strangers = Strangers(from_one_max=2, in_all_max=3)
    ends = [come(strangers, held, str(number)) for number in range(5)]
    assert [is_cut_off(end) for end in ends] == [True, True, False, False, False]
    assert (len(strangers), strangers.cut_off) == (3, 2)


def test_who_has_gone_takes_no_place(held: ExitStack) -> None:
    strangers = Strangers(from_one_max=1, in_all_max=1)
    for _ in range(3):
        with ExitStack() as visit:
            come(strangers, visit, "one")
    assert (len(strangers), strangers.cut_off) == (0, 0)
