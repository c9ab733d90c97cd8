"""A mapping that keeps what was used last, and never more than its size."""

from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.recent import Recent


def test_an_item_that_was_used_stays_and_the_others_are_forgotten() -> None:
    recent: Recent[str, int] = Recent(4)
    for number, key in enumerate("ab"):
        recent.put(key, number)
    for key in "cdefg":
        assert recent.get("a") == 0
        recent.put(key, 9)
    assert recent.get("a") == 0
    assert recent.get("b") is None


def test_the_last_value_of_a_key_counts_whatever_was_forgotten_between() -> None:
    recent: Recent[str, int] = Recent(4)
    recent.put("a", 1)
    recent.put("b", 1)
    recent.put("c", 1)
    recent.put("a", 2)
    for key in "de":
        recent.put(key, 1)
    assert recent.get("a") in (2, None)


def test_an_item_that_is_removed_is_gone_from_both_generations() -> None:
    recent: Recent[str, int] = Recent(4)
    for key in "abc":
        recent.put(key, 1)
    for key in "abcx":
        recent.forget(key)
        assert recent.get(key) is None
    assert len(recent) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12))), st.integers(2, 9))
def test_it_is_a_dict_that_keeps_at_least_the_last_half_and_at_most_all(
    uses: list[tuple[bool, int]], items_max: int
) -> None:
    recent: Recent[int, int] = Recent(items_max)
    values: dict[int, int] = {}
    used: list[int] = []
    for number, (is_put, key) in enumerate(uses):
        if is_put:
            recent.put(key, number)
            values[key] = number
        elif (value := recent.get(key)) is not None:
            assert value == values[key]
        else:
            continue
        used = [key, *(other for other in used if other != key)]
        assert len(recent) <= items_max
    for key in used[: items_max // 2]:
        assert recent.get(key) == values[key]


@given(st.lists(st.integers(1, 12)), st.lists(st.integers(1, 12)))
def test_many_items_are_those_of_their_keys_in_order(stored: list[int], keys: list[int]) -> None:
    """Whichever generation each is in; those that are not there are None."""
    one, many = Recent[int, str](6), Recent[int, str](6)
    for recent in (one, many):
        for key in stored:
            recent.put(key, f"value {key}")
    before = {key: one.get(key) for key in keys} if len(set(keys)) <= 3 else None
    values = many.get_all(keys)
    assert all(value in (None, f"value {key}") for key, value in zip(keys, values, strict=True))
    if before is not None:
        assert values == [before[key] for key in keys]
