"""The state in memory: what applying a change does, and which rows make no state."""

import pytest

from preflight_proxy.core.ledger.commands import Assume, ClearQuarantine, Post
from preflight_proxy.core.ledger.rows import Account, QuarantinedEndpoint, Reservation, ReservationState
from preflight_proxy.core.ledger.state import Change, LedgerState, state_of
from tests.support.ledger_cases import do, hold, opened


def held(reserved_pusd: int) -> Reservation:
    """A pending reservation of account `a`."""
    return Reservation("r", "a", ReservationState.PENDING, reserved_pusd, 0, "chat", "m/x", ("t",), 16, False, 1.0)


def test_a_book_made_of_its_rows_is_the_same_book() -> None:
    """As at every start."""
    state = opened()
    for name in ("r", "s", "t"):
        do(state, hold(name, 100))
    do(state, Assume("s", 50))
    do(state, Post("t", 120))
    rows = [*state.reservations.values(), *state.assumed.values()]
    assert state_of(state.accounts.values(), rows, state.quarantined.values(), state.next_entry_id) == state


def test_ended_reservations_are_not_kept_in_memory() -> None:
    """A run of a hundred thousand calls stays small."""
    state = opened()
    do(state, hold("r"))
    do(state, Post("r", 1))
    assert (state.reservations, state.assumed) == ({}, {})


def test_rows_that_contradict_each_other_make_no_book() -> None:
    """Fail closed: with wrong sums nothing could be promised."""
    with pytest.raises(ValueError, match="pending is not the sum"):
        state_of([Account("a", "run", 100, pending_pusd=7)], [held(8)], [], 1)
    with pytest.raises(ValueError, match="assumed is not the sum"):
        state_of([Account("a", "run", 100, posted_pusd=7, assumed_pusd=7)], [], [], 1)


def test_pending_reservations_by_account() -> None:
    """Of one, or of all."""
    state = LedgerState(reservations={"r": held(1)})
    assert state.pending() == state.pending("a") == [held(1)]
    assert state.pending("b") == []


def test_an_endpoint_goes_out_of_use_and_comes_back() -> None:
    """The newest reason stands; clearing one that is in use is no error."""
    state = opened()
    for reason in ("first", "second"):
        state.apply(Change(quarantined=(QuarantinedEndpoint("m/x", "t", reason, 1.0),)))
    assert state.quarantined["m/x", "t"].reason == "second"
    do(state, ClearQuarantine("m/x", "t"))
    do(state, ClearQuarantine("m/x", "t"))
    assert state.quarantined == {}
