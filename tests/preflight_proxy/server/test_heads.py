"""What request heads may take, one and all: by values."""

from __future__ import annotations

from preflight_proxy.server.heads import ConnectionHeads, UnservedHeads


class Ended(list[str]):
    """The connections that were ended, by name."""

    def held(self, heads: UnservedHeads, name: str) -> ConnectionHeads:
        return ConnectionHeads(heads, lambda: self.append(name))


def test_one_head_may_grow_to_its_limit_and_no_further() -> None:
    held = Ended().held(UnservedHeads(head_bytes_max=10), "a")
    assert held.received(4)
    assert held.received(6)
    assert not held.received(1)


def test_body_ends_a_head_and_what_follows_it_counts_anew() -> None:
    heads = UnservedHeads(head_bytes_max=10)
    held = Ended().held(heads, "a")
    held.received(9)
    held.body_came()
    assert heads.total_bytes == 0
    assert held.received(9)


def test_a_complete_head_counts_until_it_is_served() -> None:
    heads = UnservedHeads()
    held = Ended().held(heads, "a")
    held.received(5)
    held.completed(2, 3)
    assert heads.total_bytes == 8
    held.received(4)
    assert heads.total_bytes == 12
    held.served()
    assert heads.total_bytes == 4
    held.served()
    held.served()  # an answer to what was no head
    assert heads.total_bytes == 4


def test_a_connection_that_has_ended_keeps_nothing() -> None:
    heads, ended = UnservedHeads(), Ended()
    held = ended.held(heads, "a")
    held.received(5)
    held.completed(1, 3)
    held.received(5)
    held.forget()
    assert (heads.total_bytes, ended) == (0, [])


def test_where_all_keep_too_much_those_end_that_keep_most_until_a_quarter_is_free() -> None:
    heads, ended = UnservedHeads(head_bytes_max=100, heads_bytes_max=100), Ended()
    for name, size_bytes in (("honest", 3), ("b", 20), ("c", 37), ("d", 40)):
        ended.held(heads, name).received(size_bytes)
    assert (ended, heads.total_bytes) == ([], 100)
    ended.held(heads, "late").received(1)
    assert (ended, heads.total_bytes) == (["d"], 61)


def test_heads_that_wait_count_in_the_sum_too() -> None:
    heads, ended = UnservedHeads(head_bytes_max=100, heads_bytes_max=100), Ended()
    waiting = ended.held(heads, "waiting")
    for _ in range(3):
        waiting.completed(1, 30)
    ended.held(heads, "other").received(11)
    assert ended == ["waiting"]
