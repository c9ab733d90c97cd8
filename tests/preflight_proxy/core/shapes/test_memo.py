"""A remembered result is the computed one, and memory is bounded."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from preflight_proxy.core.shapes.memo import Memo, digest16


def test_a_result_is_computed_once_for_the_same_bytes() -> None:
    computed: list[bytes] = []

    def length(raw: bytes) -> int:
        computed.append(raw)
        return len(raw)

    memo = Memo(length, 10)
    assert [memo(b"ab"), memo(b"ab"), memo(b"abc")] == [2, 2, 3]
    assert computed == [b"ab", b"abc"]


def test_the_least_recently_used_is_forgotten_first() -> None:
    computed: list[bytes] = []

    def keep(raw: bytes) -> bytes:
        computed.append(raw)
        return raw

    memo = Memo(keep, 2)
    for raw in (b"a", b"b", b"a", b"c", b"a", b"b"):
        memo(raw)
    assert computed == [b"a", b"b", b"c", b"b"]


def test_what_is_raised_is_not_remembered() -> None:
    def refuse(raw: bytes) -> int:
        raise ValueError(raw)

    memo = Memo(refuse, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            memo(b"x")


def test_threads_may_share_it() -> None:
    """Each gets the results of its own texts, though they push one another's out."""
    memo = Memo(len, 3)

    def use(start: int) -> bool:
        texts = [b"x" * (start + number % 7) for number in range(20_000)]
        return [memo(text) for text in texts] == [len(text) for text in texts]

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(use, range(4)))
    finally:
        sys.setswitchinterval(before_s)


def test_digests_are_16_bytes() -> None:
    assert len(digest16(b"")) == 16
    assert digest16(b"a") != digest16(b"b")
