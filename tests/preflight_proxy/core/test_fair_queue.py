"""Nobody who takes much delays those who take little, and nobody waits for ever."""

from preflight_proxy.core.fair_queue import FairQueue


def rest(queue: FairQueue[str]) -> list[str]:
    """Take all that waits."""
    return list(iter(queue.pop, None))


def test_items_of_one_account_come_in_their_order() -> None:
    queue = FairQueue[str]()
    for item, cost in (("a", 3), ("b", 1), ("c", 2)):
        queue.push("one", item, cost)
    assert rest(queue) == ["a", "b", "c"]


def test_an_account_with_many_items_does_not_take_the_turns_of_others() -> None:
    queue = FairQueue[str]()
    for number in range(4):
        queue.push("many", f"many {number}", 1)
    queue.push("few", "few 0", 1)
    queue.push("few", "few 1", 1)
    assert rest(queue) == ["many 0", "few 0", "many 1", "few 1", "many 2", "many 3"]


def test_who_takes_much_waits_for_those_who_take_little() -> None:
    queue = FairQueue[str]()
    for number in range(3):
        queue.push("much", f"much {number}", 10)
        queue.push("little", f"little {number}", 4)
    assert rest(queue) == ["little 0", "little 1", "much 0", "little 2", "much 1", "much 2"]


def test_something_small_is_next_however_many_large_ones_wait() -> None:
    queue = FairQueue[str]()
    for number in range(32):
        for turn in range(2):
            queue.push(f"hostile {number}", f"{number} {turn}", 1000)
    for _ in range(40):
        assert queue.pop() is not None
        queue.push("good", "good", 1)
        assert queue.pop() == "good"


def test_nobody_waits_for_ever() -> None:
    """However many small items of others come all the time."""
    queue = FairQueue[str]()
    queue.push("large", "large", 100)
    served = []
    for number in range(60):
        queue.push("a", f"a {number}", 2)
        queue.push("b", f"b {number}", 2)
        served += [queue.pop(), queue.pop()]
    assert "large" in served[:102]


def test_a_pause_earns_no_turns() -> None:
    """Who has not asked for long begins where the others are, not where it left off."""
    queue = FairQueue[str]()
    queue.push("late", "late 0", 1)
    for number in range(6):
        queue.push("steady", f"steady {number}", 1)
    assert [queue.pop() for _ in range(5)] == ["late 0", "steady 0", "steady 1", "steady 2", "steady 3"]
    for number in range(1, 5):
        queue.push("late", f"late {number}", 1)
    assert rest(queue) == ["late 1", "steady 4", "late 2", "steady 5", "late 3", "late 4"]


def test_where_none_waits_nothing_is_remembered() -> None:
    queue = FairQueue[str]()
    queue.push("a", "a", 100)
    assert rest(queue) == ["a"]
    queue.push("a", "a", 1)
    queue.push("b", "b", 1)
    assert rest(queue) == ["a", "b"]
