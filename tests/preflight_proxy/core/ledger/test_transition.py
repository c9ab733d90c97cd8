"""The one transition function: what each command does to an account, and what it refuses."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Literal

import pytest
from hypothesis import settings

from preflight_proxy.core.ledger.commands import (
    Assume,
    ClearQuarantine,
    Command,
    Freeze,
    MarkUnknown,
    OpenAccount,
    Post,
    Quarantine,
    Recover,
    SetGeneration,
    SetLimit,
    Unfreeze,
    Void,
)
from preflight_proxy.core.ledger.rows import Account, CallFacts, ReservationState
from preflight_proxy.core.ledger.state import Change, LedgerState
from preflight_proxy.core.ledger.transition import may_send, transition
from preflight_proxy.core.refusals.refusals import Code, Refusal
from tests.support.cases import each
from tests.support.ledger_cases import NOW_S, account, do, hold, opened

# Limit 1000 in every row. After each command: posted, pending, available; or the code of the refusal.
STORIES: list[tuple[str, list[tuple[Command, tuple[int, int, int] | Code]]]] = [
    (
        "a call that costs less than was reserved gives the rest back",
        [(hold("r", 400), (0, 400, 600)), (Post("r", 150), (150, 0, 850))],
    ),
    ("a call that costs nothing", [(hold("r", 400), (0, 400, 600)), (Post("r", 0), (0, 0, 1000))]),
    ("a voided call", [(hold("r", 400), (0, 400, 600)), (Void("r", "refused"), (0, 0, 1000))]),
    ("an assumed call", [(hold("r", 400), (0, 400, 600)), (Assume("r", 400), (400, 0, 600))]),
    ("the very last pico-dollar may be reserved", [(hold("r", 1000), (0, 1000, 0)), (Post("r", 1000), (1000, 0, 0))]),
    ("one pico-dollar more may not", [(hold("r", 1001), Code.DOES_NOT_FIT)]),
    (
        "what is in flight counts",
        [(hold("r", 600), (0, 600, 400)), (hold("s", 401), Code.DOES_NOT_FIT), (hold("t", 400), (0, 1000, 0))],
    ),
    ("a call for nothing fits into nothing", [(SetLimit("a", 0), (0, 0, 0)), (hold("r", 0), (0, 0, 0))]),
    (
        "a limit below what is pending stops new calls, and ends none",
        [
            (hold("r", 600), (0, 600, 400)),
            (SetLimit("a", 500), (0, 600, -100)),
            (hold("s", 0), Code.DOES_NOT_FIT),
            (Post("r", 100), (100, 0, 400)),
            (hold("t", 400), (100, 400, 0)),
        ],
    ),
    (
        "a frozen account takes no call, and those in flight still end",
        [
            (hold("r", 100), (0, 100, 900)),
            (Freeze("a", "by hand"), (0, 100, 900)),
            (hold("s", 1), Code.FROZEN),
            (Post("r", 90), (90, 0, 910)),
            (Unfreeze("a"), (90, 0, 910)),
            (hold("t", 1), (90, 1, 909)),
        ],
    ),
    (
        "frozen is said before quarantined, quarantined before what does not fit",
        [
            (Quarantine("m/x", "t", "billed above"), (0, 0, 1000)),
            (hold("r", 2000), Code.QUARANTINED),
            (hold("r", 1, tag="u"), (0, 1, 999)),
            (hold("s", 1, model="m/y"), (0, 2, 998)),
            (Freeze("a", "by hand"), (0, 2, 998)),
            (hold("u", 2000), Code.FROZEN),
            (Unfreeze("a"), (0, 2, 998)),
            (ClearQuarantine("m/x", "t"), (0, 2, 998)),
            (hold("u", 8), (0, 10, 990)),
        ],
    ),
    (
        "an account waits for its key's usage, whatever it showed",
        [(Recover("a", 300), (300, 0, 700)), (Recover("a", 0), (300, 0, 700))],
    ),
]


@each("story", [rows for _, rows in STORIES])
def test_balances_after_each_command(story: list[tuple[Command, tuple[int, int, int] | Code]]) -> None:
    """Each row is one command and what it leaves."""
    book = opened(1000)
    for command, expected in story:
        answer = transition(book, command, NOW_S)
        if isinstance(expected, Code):
            assert isinstance(answer, Refusal)
            assert answer.code is expected
            continue
        do(book, command)
        now = account(book)
        assert (now.posted_pusd, now.pending_pusd, now.available_pusd) == expected, command


def test_a_refusal_tells_the_balance_and_what_was_needed() -> None:
    """The headers of a refusal are made of these."""
    book = opened(1000)
    do(book, hold("r", 300))
    do(book, Post("r", 200))
    do(book, hold("s", 100))
    assert transition(book, hold("t", 701), NOW_S) == Refusal(Code.DOES_NOT_FIT, 1000, 200, 100, 700, 701)


ENDS: list[Command] = [Post("r", 5), Void("r", "x"), Assume("r", 5)]
SECONDS: list[Command] = [Post("r", 1), Void("r", "x"), Assume("r", 1), MarkUnknown("r"), SetGeneration("r", "g")]


@each("first, second", product(ENDS, SECONDS))
def test_a_reservation_ends_once(first: Command, second: Command) -> None:
    """M15: whatever comes second is an error of the caller, and changes nothing."""
    book = opened()
    do(book, hold("r"))
    do(book, first)
    before = account(book)
    with pytest.raises(ValueError, match="ended"):
        transition(book, second, NOW_S)
    assert account(book) == before
    assert book.next_entry_id == 2


def test_an_id_in_use_is_not_taken_twice() -> None:
    """Pending or assumed: the book knows it. Ended otherwise: the store does."""
    book = opened()
    do(book, hold("r"))
    with pytest.raises(ValueError, match="used before"):
        transition(book, hold("r"), NOW_S)
    do(book, Assume("r", 1))
    with pytest.raises(ValueError, match="used before"):
        transition(book, hold("r"), NOW_S)


@each(
    "command", [hold("r", -1), hold("r", account="nobody"), Post("nothing", 1), SetLimit("nobody", 1), Recover("a", -1)]
)
def test_nonsense_is_an_error_and_not_an_entry(command: Command) -> None:
    """Negative amounts and unknown names."""
    book = opened()
    with pytest.raises(ValueError, match=r"negative|no account|ended"):
        transition(book, command, NOW_S)


def test_the_generation_id_and_the_tag_are_kept_through_the_end() -> None:
    """What the headers told is not lost when the end tells nothing."""
    book = opened()
    do(book, hold("r"))
    do(book, SetGeneration("r", "gen-1", "openai"))
    ended = do(book, Post("r", 5)).reservation
    assert ended is not None
    assert (ended.state, ended.posted_pusd, ended.generation_id, ended.tag) == (
        ReservationState.POSTED,
        5,
        "gen-1",
        "openai",
    )


def test_a_second_mark_keeps_the_first_moment_of_not_knowing() -> None:
    """The age of an unknown outcome decides what evidence counts (M13)."""
    book = opened()
    do(book, hold("r"))
    do(book, MarkUnknown("r", CallFacts(generation_id="gen-1")), at_s=10.0)
    do(book, MarkUnknown("r"), at_s=20.0)
    assert book.reservations["r"].unknown_since_s == 10.0
    assert book.reservations["r"].generation_id == "gen-1"


def test_the_transition_itself_changes_nothing() -> None:
    """Durable first, in memory after: so a failed commit needs no undoing."""
    book = opened()
    before = (dict(book.accounts), dict(book.reservations), book.next_entry_id)
    transition(book, hold("r"), NOW_S)
    transition(book, SetLimit("a", 1), NOW_S)
    transition(book, Recover("a", 1), NOW_S)
    assert (dict(book.accounts), dict(book.reservations), book.next_entry_id) == before


@each(
    "between",
    [
        Freeze("a", "by hand"),
        SetLimit("a", 50),
        MarkUnknown("r"),
        Void("r", "gone"),
        Quarantine("m/x", "t", "billed above its bound"),
        OpenAccount("a", "run", 1000, token_hash="another"),
        OpenAccount("a", "run", 1000, token_hash="token of a", models=("m/y",)),
        OpenAccount("a", "run", 1000, token_hash="token of a", key_hash="another"),
    ],
)
def test_a_call_does_not_leave_once_its_account_has_changed(between: Command) -> None:
    """M10, step 2."""
    book = opened()
    reserved = do(book, hold("r")).account
    assert reserved is not None
    assert may_send(book, "r", reserved)
    do(book, between)
    assert not may_send(book, "r", reserved)


def test_a_raised_limit_and_other_calls_stop_nothing() -> None:
    """Only what takes the ground from under a reservation counts as a change."""
    book = opened()
    reserved = do(book, hold("r")).account
    assert reserved is not None
    do(book, SetLimit("a", 2000))
    do(book, hold("s"))
    do(book, Post("s", 7))
    assert may_send(book, "r", reserved)


EVENTS: tuple[Command | None, ...] = (
    Freeze("a", "ended"),
    Unfreeze("a"),
    SetLimit("a", 50),
    SetLimit("a", 1000),
    None,  # the client hangs up
)
EVENTS_MAX = 2


def test_no_freeze_and_no_hang_up_slips_in_between_reserving_and_sending() -> None:
    """M10: every order of a call and up to two freezes, hang-ups and cut limits; step 2 and the first byte are one step."""
    _play(list(_orders()))


def test_nor_does_one_in_long_orders_that_are_drawn() -> None:
    """Up to six events, seeded; ten thousand orders where properties are tried on many examples."""
    rng = random.Random(20260801)
    _play([_drawn(rng) for _ in range(50 * settings().max_examples)])


Step = Literal["reserve", "send"] | Command | None


def _orders() -> Iterator[tuple[Step, ...]]:
    for count in range(EVENTS_MAX + 1):
        for events in product(EVENTS, repeat=count):
            for reserve, send in combinations(range(count + 2), 2):
                yield (*events[:reserve], "reserve", *events[reserve : send - 1], "send", *events[send - 1 :])


def _drawn(rng: random.Random) -> tuple[Step, ...]:
    steps: list[Step] = ["reserve", "send"]
    for event in rng.choices(EVENTS, k=rng.randint(0, 6)):
        steps.insert(rng.randint(0, len(steps)), event)
    return tuple(steps)


def _play(orders: Sequence[tuple[Step, ...]]) -> None:
    start = opened(1000)
    outcomes = {"sent": 0, "voided": 0, "refused": 0}
    for steps in orders:
        book = replace(start, accounts=dict(start.accounts), reservations={}, assumed={})
        _interleave(steps, book, outcomes)
        assert account(book).pending_pusd == 0
        assert account(book).posted_pusd <= 1000
    assert min(outcomes.values()) > len(orders) // 20, outcomes


def _interleave(steps: Sequence[Step], book: LedgerState, outcomes: dict[str, int]) -> None:
    here, under = True, dict[str, Account]()
    for step in steps:
        if step == "reserve":
            answer = transition(book, hold("r", 600), NOW_S)
            if isinstance(answer, Change) and answer.account is not None:
                book.apply(answer)
                under["r"] = answer.account
            else:
                outcomes["refused"] += 1
        elif step == "send" and "r" in under:
            if here and may_send(book, "r", under["r"]):
                now = account(book)
                assert now.frozen is None
                assert now.posted_pusd + now.pending_pusd <= now.limit_pusd
                outcomes["sent"] += 1
                do(book, Post("r", 600))
            else:
                outcomes["voided"] += 1
                do(book, Void("r", "not sent"))
        elif step is None:
            here = False
        elif not isinstance(step, str):
            do(book, step)
