"""The state in memory: what applying a change does."""

from msgspec.structs import replace

from preflight_proxy.core.ledger.commands import Assume, ClearQuarantine, MarkUnknown, NoteKeyBase, Post, Reserve
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint, Reservation
from preflight_proxy.core.ledger.state import Change, KeyPosted, LedgerState, Pending
from tests.support.ledger_cases import do, hold, opened


def test_ended_reservations_are_not_kept_in_memory() -> None:
    """A run of a hundred thousand calls stays small."""
    state = opened()
    for name in ("r", "s"):
        do(state, hold(name))
    do(state, Post("r", 1))
    do(state, Assume("s", 1))
    assert (state.reservations, state.pending("a"), state.pending()) == ({}, [], [])


def test_pending_reservations_by_account() -> None:
    """Of one, or of all, oldest first."""
    state = LedgerState()
    first = Reservation("r", "a", 1, "chat", "m/x", ("t",), 16, False, 1.0, seq=1)
    second = Reservation("s", "b", 1, "chat", "m/x", ("t",), 16, False, 1.0, seq=2)
    for reservation in (first, second):
        state.apply(Change(reservation=reservation))
    assert (state.pending(), state.pending("a"), state.pending("c")) == ([first, second], [first], [])
    assert state.next_seq == 3


def test_unknown_calls_are_counted_until_they_end() -> None:
    state = opened()
    for name in ("r", "s"):
        do(state, hold(name))
        do(state, MarkUnknown(name))
        do(state, MarkUnknown(name))
    assert state.unknown_count("a") == 2
    do(state, Post("r", 1))
    do(state, hold("t"))
    do(state, Post("t", 1))
    assert (state.unknown_count("a"), state.unknown_count("b")) == (1, 0)
    state.put(Reservation("u", "b", 1, "chat", "m/x", ("t",), 16, False, 1.0, seq=9, unknown_since_s=2.0))
    assert state.unknown_count("b") == 1  # as a start reads it


def test_what_the_calls_of_a_key_base_cost_is_summed_and_its_assumed_part_apart() -> None:
    state = opened()
    do(state, NoteKeyBase("upstream", "key", 5, 0))
    for name, key_base in (("r", 1), ("s", 1), ("t", None)):
        do(state, Reserve(name, "a", 100, "chat", "m/x", ("t",), 16, key_base=key_base))
    do(state, Post("r", 30))
    do(state, Assume("s", 12))
    do(state, Post("t", 1))
    assert state.key_posted == {1: KeyPosted(42, 12)}


def test_an_endpoint_is_disabled_and_enabled_again() -> None:
    """The newest reason stands; clearing one that is in use is no error."""
    state = opened()
    for reason in ("first", "second"):
        state.apply(Change(quarantined=(QuarantinedEndpoint("m/x", "t", reason, 1.0),)))
    assert state.quarantined["m/x", "t"].reason == "second"
    do(state, ClearQuarantine("m/x", "t"))
    do(state, ClearQuarantine("m/x", "t"))
    assert state.quarantined == {}


def test_beside_others_an_exposure_has_what_they_leave_of_a_quarter_of_the_limit() -> None:
    assert Pending().exposure_max_pusd(1000) == 1000
    assert [Pending(1, others_pusd).exposure_max_pusd(1000) for others_pusd in (0, 100, 250, 900)] == [250, 150, 0, 0]
    assert Pending(2).exposure_max_pusd(1003) == 250


def test_a_reservation_that_is_put_twice_is_exposed_once() -> None:
    """As when its generation is named, or its outcome is unknown."""
    state = opened(1000)
    reservation = Reservation("r", "a", 1, "chat", "m/x", ("t",), 16, False, 1.0, seq=1, exposure_pusd=60)
    state.put(reservation)
    state.put(replace(reservation, unknown_since_s=2.0))
    assert state.pending_exposure("a") == Pending(1, 60)
    assert state.pending_exposure("b") == Pending()
