"""Who waits, and whose turn it is (M18)."""

from preflight_proxy.core.admission.queue import HEAD_BLOCK_S, PASS_COUNT_MAX, WAITERS_MAX, Queue


def queue(*needed_pusd: int) -> Queue:
    """A line of account `a`: w0, w1, ... that all joined at 0 s."""
    made = Queue()
    for place, needed in enumerate(needed_pusd):
        assert made.join("a", f"w{place}", needed, 0.0)
    return made


def test_first_come_first_served() -> None:
    """Though all would fit."""
    line = queue(10, 10, 10)
    assert line.waiting("a") == ["w0", "w1", "w2"]
    assert line.next("a", 100, 1.0) == "w0"
    line.leave("a", "w0")
    assert line.next("a", 100, 1.0) == "w1"


def test_the_first_blocks_those_behind_it_only_for_a_while() -> None:
    """Five seconds, then whoever fits, the earliest of them."""
    line = queue(100, 50, 10, 5)
    assert line.next("a", 20, HEAD_BLOCK_S - 0.1) is None
    assert line.next("a", 20, HEAD_BLOCK_S) == "w2"
    assert line.next("a", 100, HEAD_BLOCK_S) == "w0"
    assert line.next("a", 4, HEAD_BLOCK_S) is None


def test_the_first_is_passed_eight_times_and_no_more() -> None:
    """A stream of small calls does not starve a large one."""
    line = queue(100, *[10] * (PASS_COUNT_MAX + 1))
    for _ in range(PASS_COUNT_MAX):
        waiter = line.next("a", 10, HEAD_BLOCK_S)
        assert waiter is not None
        line.leave("a", waiter)
    assert line.next("a", 10, HEAD_BLOCK_S) is None
    assert line.next("a", 100, HEAD_BLOCK_S) == "w0"


def test_a_waiter_that_hangs_up_has_passed_nobody() -> None:
    """Only one that was called and is not the first has."""
    line = queue(100, *[10] * 20)
    for place in range(1, 20):
        line.leave("a", f"w{place}")
    assert line.next("a", 10, HEAD_BLOCK_S) == "w20"


def test_a_new_first_blocks_from_when_it_became_the_first() -> None:
    """Or, where nobody says when that was, from its joining."""
    line = queue(100, 90, 10)
    line.leave("a", "w0", now_s=20.0)
    assert line.next("a", 10, 20.0 + HEAD_BLOCK_S - 0.1) is None
    assert line.next("a", 10, 20.0 + HEAD_BLOCK_S) == "w2"
    other = queue(100, 90, 10)
    other.leave("a", "w0")
    assert other.next("a", 10, HEAD_BLOCK_S) == "w2"


def test_a_waiter_that_leaves_is_out_of_the_line_at_once() -> None:
    """M12; and leaving twice, or a line that is empty, is no error."""
    line = queue(10)
    line.leave("a", "w0")
    line.leave("a", "w0")
    line.leave("b", "w0")
    assert line.waiting("a") == []
    assert line.next("a", 100, 0.0) is None


def test_a_waiter_may_leave_whose_line_goes_on() -> None:
    """An unknown name changes nothing."""
    line = queue(10)
    line.leave("a", "somebody else")
    assert line.waiting("a") == ["w0"]


def test_accounts_do_not_see_each_other() -> None:
    """A line each."""
    line = queue(100)
    line.join("b", "v0", 10, 0.0)
    assert line.next("b", 10, 0.0) == "v0"
    assert line.next("a", 10, 0.0) is None


def test_a_full_line_takes_no_more() -> None:
    """The call is decided without waiting."""
    line = queue(*[10] * WAITERS_MAX)
    assert not line.join("a", "one more", 10, 0.0)
    assert len(line.waiting("a")) == WAITERS_MAX
