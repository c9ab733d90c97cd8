"""What the end of a reservation leaves in the books, and later truths (M13-M15, M21)."""

import pytest

from preflight_proxy.core.ledger.commands import Adjust, Assume, OpenAccount, Post, Recover, SetGeneration, Void
from preflight_proxy.core.ledger.rows import CallFacts, EntryKind, ReservationState
from preflight_proxy.core.ledger.transition import transition
from tests.support.cases import each
from tests.support.ledger_cases import NOW_S, account, do, hold, opened


@each(
    "command, state, kind, calls",
    [
        (Post("r", 40), ReservationState.POSTED, EntryKind.POSTED, 1),
        (Assume("r", 40), ReservationState.POSTED, EntryKind.ASSUMED, 1),
        (Void("r", "upstream refused"), ReservationState.VOIDED, EntryKind.VOIDED, 0),
    ],
)
def test_each_end_leaves_one_entry(
    command: Post | Assume | Void, state: ReservationState, kind: EntryKind, calls: int
) -> None:
    """With its kind, and numbered."""
    book = opened()
    do(book, hold("r", 100))
    change = do(book, command)
    assert change.reservation is not None
    assert change.entry is not None
    assert change.reservation.state is state
    assert (change.entry.kind, change.entry.entry_id, change.entry.reservation_id) == (kind, 1, "r")
    assert change.entry.cost_pusd == change.reservation.posted_pusd == (0 if kind is EntryKind.VOIDED else 40)
    assert account(book).calls == calls
    assert book.next_entry_id == 2


def test_a_bill_above_the_reservation_is_posted_and_the_endpoint_goes_out_of_use() -> None:
    """M14: the truth is posted, the excess printed, in one change."""
    book = opened(100)
    do(book, hold("r", 100))
    do(book, SetGeneration("r", "gen-1", "t"))
    change = do(book, Post("r", 130))
    assert change.overrun_pusd == 30
    assert (account(book).posted_pusd, account(book).overrun_pusd, account(book).available_pusd) == (130, 30, -30)
    assert list(book.quarantined) == [("m/x", "t")]
    assert "gen-1" in book.quarantined["m/x", "t"].reason


def test_where_nobody_told_who_served_each_quoted_endpoint_goes_out_of_use() -> None:
    """Any of them may have been the one."""
    book = opened(100)
    command = hold("r", 100)
    do(book, type(command)("r", "a", 100, "chat", "m/x", ("t", "u"), 16))
    do(book, Post("r", 101))
    assert set(book.quarantined) == {("m/x", "t"), ("m/x", "u")}


def test_no_more_than_the_reservation_is_assumed() -> None:
    """Silence cannot cost more than was promised."""
    book = opened()
    do(book, hold("r", 100))
    with pytest.raises(ValueError, match="never assumed"):
        transition(book, Assume("r", 101), NOW_S)


@each("truth_pusd", [0, 40, 60, 100])
def test_a_late_truth_replaces_what_was_assumed(truth_pusd: int) -> None:
    """M15: a signed entry that names the reservation, and nothing is assumed any more."""
    book = opened()
    do(book, hold("r", 100))
    do(book, Assume("r", 60))
    assert account(book).assumed_pusd == 60
    change = do(book, Adjust("r", truth_pusd - 60, CallFacts(generation_id="gen-late")))
    assert change.entry is not None
    assert (change.entry.kind, change.entry.reservation_id) == (EntryKind.ADJUSTED, "r")
    assert (account(book).posted_pusd, account(book).assumed_pusd, account(book).overrun_pusd) == (truth_pusd, 0, 0)
    with pytest.raises(ValueError, match="only once"):
        transition(book, Adjust("r", 1), NOW_S)


def test_a_late_truth_above_the_reservation_is_overrun_too() -> None:
    """Late, and no less a broken bound."""
    book = opened()
    do(book, hold("r", 100))
    do(book, Assume("r", 100))
    assert do(book, Adjust("r", 25, CallFacts(tag="t"))).overrun_pusd == 25
    assert account(book).overrun_pusd == 25
    assert ("m/x", "t") in book.quarantined


@pytest.mark.parametrize("first", [Post("r", 60), Void("r", "proven")])
def test_what_upstream_told_is_not_adjusted(first: Post | Void) -> None:
    """For assumed and recovered amounts only."""
    book = opened()
    do(book, hold("r", 100))
    do(book, first)
    with pytest.raises(ValueError, match="only an assumed cost"):
        transition(book, Adjust("r", -1), NOW_S)


def test_no_adjustment_makes_a_cost_negative() -> None:
    """Neither of a call nor of what was recovered."""
    book = opened()
    do(book, hold("r", 100))
    do(book, Assume("r", 10))
    do(book, Recover("a", 5))
    for command in (Adjust("r", -11), Adjust(None, -6, account="a")):
        with pytest.raises(ValueError, match=r"negative|no more can be taken back"):
            transition(book, command, NOW_S)


def test_what_the_key_shows_beyond_the_books_is_posted() -> None:
    """M21: an entry without a reservation; nothing to recover leaves none."""
    book = opened()
    change = do(book, Recover("a", 70))
    assert change.entry is not None
    assert (change.entry.kind, change.entry.reservation_id, change.entry.cost_pusd) == (EntryKind.RECOVERED, None, 70)
    assert do(book, Recover("a", 0)).entry is None
    do(book, Adjust(None, -30, account="a"))
    assert (account(book).posted_pusd, account(book).recovered_pusd) == (40, 40)


def test_hostile_text_from_upstream_is_made_harmless() -> None:
    """Lone surrogates break databases; a megabyte of id would swell the books."""
    book = opened()
    do(book, hold("r"))
    change = do(book, SetGeneration("r", "gen-\ud800" + "x" * 10_000, "t\udfff"))
    assert change.reservation is not None
    assert change.reservation.generation_id is not None
    assert change.reservation.generation_id.startswith("gen-?x")
    assert len(change.reservation.generation_id) == 200
    assert change.reservation.tag == "t?"


def test_an_end_in_one_account_leaves_the_other_alone() -> None:
    """Balances are an account's own."""
    book = opened()
    do(book, OpenAccount("b", "run", 500, token_hash="token of b"))
    do(book, hold("r", 100, account="b"))
    do(book, Post("r", 50))
    assert (account(book).posted_pusd, book.accounts["b"].posted_pusd) == (0, 50)
