"""A dict of limited size."""

from preflight_proxy.core.lru import Lru


def test_the_least_recently_used_item_is_forgotten_first() -> None:
    lru: Lru[str, int] = Lru(2)
    lru.remember("a", 1)
    lru.remember("b", 2)
    assert lru.recall("a") == 1
    lru.remember("c", 3)
    assert (lru.recall("a"), lru.recall("b"), lru.recall("c")) == (1, None, 3)


def test_an_item_that_is_stored_again_counts_as_used() -> None:
    lru: Lru[str, int] = Lru(2)
    for key in ("a", "b", "a", "c"):
        lru.remember(key, len(lru))
    assert list(lru) == ["a", "c"]


def test_reading_without_recall_does_not_count_as_use() -> None:
    lru: Lru[str, int] = Lru(2)
    lru.remember("a", 1)
    lru.remember("b", 2)
    assert lru.get("a") == 1
    lru.remember("c", 3)
    assert list(lru) == ["b", "c"]
