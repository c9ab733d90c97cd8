"""What an account's process remembers beside the ledger."""

from __future__ import annotations

from preflight_proxy.ledger.account_state import ACCOUNT_BUSY_S, AccountState


def test_the_cheapest_call_ever_admitted_is_remembered() -> None:
    state = AccountState()
    for cheapest_pusd in (50, 30, 40):
        state.admitted(cheapest_pusd)
    assert state.cheapest_pusd == 30


def test_it_is_spent_below_that_only_after_a_refusal() -> None:
    state = AccountState()
    state.admitted(30)
    assert not state.is_spent(29)
    state.is_refused = True
    assert state.is_spent(29)
    assert not state.is_spent(30)
    state.admitted(10)
    assert not state.is_spent(29)


def test_it_is_busy_for_a_minute() -> None:
    state = AccountState()
    assert not state.requested("a", 0)
    assert state.requested("a", ACCOUNT_BUSY_S - 1)
    assert not state.requested("b", 3 * ACCOUNT_BUSY_S)
    assert state.repeats == 0


def test_the_same_request_again_and_again_is_counted() -> None:
    state = AccountState()
    for now_s in (1.0, 2.0, 3.0):
        state.requested("same", now_s)
    assert state.repeats == 2
    state.requested("other", 4.0)
    assert state.repeats == 0
