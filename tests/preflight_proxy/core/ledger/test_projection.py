"""A start: the projection and the rows after it make the ledger, or contradict each other."""

from typing import Any

import pytest
from msgspec.structs import replace

from preflight_proxy.core.budget_text import UNLABELLED, Action
from preflight_proxy.core.ledger.account_changes import with_ended
from preflight_proxy.core.ledger.commands import NoteKeyBase, OpenAccount, Post, Recover, Reserve
from preflight_proxy.core.ledger.projection import IN_ROW, Marks, check_sums, fold, marks_of, projected
from preflight_proxy.core.ledger.rows import Account, CallFacts, Entry, EntryKind, Reservation
from preflight_proxy.core.ledger.state import KeyPosted, Pending
from preflight_proxy.core.refusals.outcomes import NONE_YET
from tests.support.ledger_cases import account, do, hold, opened

ROW = Account("a", "run", 1000)


def reservation(seq: int, reserved_pusd: int = 10) -> Reservation:
    return Reservation(f"r{seq}", "a", reserved_pusd, "chat", "m/x", ("t",), 16, False, 1.0, seq=seq)


def entry(entry_id: int, reservation_id: str | None = "r1", kind: EntryKind = EntryKind.POSTED) -> Entry:
    return Entry(entry_id, reservation_id, "a", kind, 7, 2.0, '{"prompt_tokens": 3}')


def test_rows_after_the_marks_are_added_to_the_projection() -> None:
    """A reservation that was pending then and one that is newer; an entry of each, and one of no reservation."""
    before = replace(ROW, posted_pusd=40, pending_pusd=20, calls=4, prompt_tokens=9, actions_count=2)
    marks = Marks(entry_id=5, seq=2, pending=(1, 2), key_posted={1: (8, 3)})
    state = fold(
        marks,
        [before],
        [reservation(1), reservation(2)],
        [reservation(3, 30), reservation(4)],
        [entry(6), entry(7, "r3", EntryKind.ASSUMED), entry(8, None, EntryKind.RECOVERED)],
    )
    now = account(state)
    assert (now.posted_pusd, now.pending_pusd, now.assumed_pusd, now.recovered_pusd) == (61, 20, 7, 7)
    assert (now.calls, now.prompt_tokens, now.actions, now.actions_count) == (6, 15, (Action(UNLABELLED, 7),), 3)
    assert [pending.id for pending in state.pending()] == ["r2", "r4"]
    assert (state.next_entry_id, state.next_seq, now.last_entry_s) == (9, 5, 2.0)
    assert state.key_posted == {1: KeyPosted(8, 3)}


def test_a_start_tells_a_lost_cache_from_a_miscount_as_the_ledger_did() -> None:
    """Both were billed at 7 for a reservation of 5."""
    lost = replace(reservation(1, 5), cache_read_tokens=3)
    miscounted = replace(reservation(2, 5), cache_read_tokens=2, tags=("u",))
    state = fold(Marks(entry_id=5), [ROW], [], [lost, miscounted], [entry(6), entry(7, "r2")])
    assert account(state).overrun_pusd == 4
    assert account(state).byte_counted == ("m/x u",)


CASES: list[tuple[dict[str, Any], str]] = [
    ({"pending": [reservation(1, 11)]}, "pending is not the sum"),
    ({"pending": []}, "pending reservations are missing"),
    ({"new": [reservation(3)]}, "reservations are missing"),
    ({"entries": [entry(7)]}, "entries are missing"),
    ({"entries": [entry(6, "r9")]}, "no reservation r9 is pending"),
    ({"entries": [entry(6), entry(7)]}, "no reservation r1 is pending"),
    ({"entries": [replace(entry(6), account="b")]}, "no account 'b'"),
]


@pytest.mark.parametrize(("rows", "complaint"), CASES)
def test_rows_that_contradict_the_projection_make_no_ledger(rows: dict[str, Any], complaint: str) -> None:
    """Nothing could be promised on it."""
    parts: dict[str, Any] = {"pending": [reservation(1)], "new": [reservation(2)], "entries": [entry(6)]} | rows
    marks = Marks(entry_id=5, seq=1, pending=(1,))
    with pytest.raises(ValueError, match=complaint):
        fold(marks, [replace(ROW, posted_pusd=40, pending_pusd=10)], **parts)


def test_the_row_of_an_account_is_newer_than_its_projection() -> None:
    """A freeze or a limit that came after it stands; the balance is the projected one."""
    row = replace(ROW, limit_pusd=5, frozen_reason="by hand")
    before = replace(ROW, posted_pusd=3, refused=2, outcomes=NONE_YET.with_served())
    assert projected(row, before) == replace(row, posted_pusd=3, refused=2, outcomes=before.outcomes)
    assert projected(row, None) == row


def test_a_new_token_begins_new_counts_of_outcomes_whichever_was_projected() -> None:
    state = opened()
    before = state.accounts["a"] = with_ended(account(state), None, overtaken=False)
    do(state, OpenAccount("a", "run", 1000, token_hash="another"))
    row = Account(**{name: getattr(account(state), name) for name in IN_ROW})
    assert projected(row, before) == account(state)


def test_the_marks_of_a_state_name_its_last_rows_and_what_is_pending() -> None:
    state = opened()
    do(state, NoteKeyBase("upstream", "key", 5, 0))
    do(state, Reserve("r", "a", 100, "chat", "m/x", ("t",), 16, key_base=1))
    do(state, hold("s"))
    do(state, Post("r", 7, CallFacts()))
    assert marks_of(state, (1, 90)) == Marks(1, 2, (2,), {1: (7, 0)}, (1, 90))


def test_an_audit_compares_each_balance_with_all_entries() -> None:
    state = opened()
    change = do(state, Recover("a", 7))
    assert change.entry is not None
    check_sums(state.accounts, [change.entry])
    with pytest.raises(ValueError, match="account a: posted is not the sum"):
        check_sums(state.accounts, [])


def test_exposures_and_byte_counted_endpoints_are_there_after_a_start() -> None:
    """Whether the rows are before the marks or after them."""
    state = opened(1000)
    reserve = Reserve("r", "a", 10, "chat", "m/x", ("t",), 16, exposure_pusd=100)
    do(state, reserve)
    before, marks = account(state), marks_of(state, (0, 0))
    pending = list(state.pending())
    new, entries = [], []
    for name, exposure_pusd, purpose in (("s", 50, ""), ("w", 0, "weighing"), ("v", 7, "")):
        changed = replace(reserve, reservation_id=name, exposure_pusd=exposure_pusd, purpose=purpose, tags=("t", "u"))
        reserved = do(state, changed)
        assert reserved.reservation is not None
        new.append(reserved.reservation)
    posted = do(state, Post("v", 12, CallFacts(tag="u"), is_miscount=True))
    assert posted.entry is not None
    entries.append(posted.entry)
    again = fold(marks, [before], pending, new, entries)
    assert again.pending_exposure("a") == state.pending_exposure("a") == Pending(2, 150)
    assert account(again).byte_counted == account(state).byte_counted == ("m/x u",)
    assert account(again).overrun_pusd == 2
    assert [reservation.purpose for reservation in again.pending()] == ["", "", "weighing"]
    projected_now = fold(marks_of(state, (0, 0)), [account(state)], state.pending(), [], [])
    assert account(projected_now).byte_counted == ("m/x u",)
    assert projected_now.pending_exposure("a") == Pending(2, 150)
