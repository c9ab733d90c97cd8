"""What an account's process remembers beside the ledger."""

from __future__ import annotations

from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.ledger.account_state import ACCOUNT_BUSY_S, AccountState, Totals, line_tokens


def test_calls_and_lines_of_earlier_calls_add_up() -> None:
    totals = Totals()
    totals.add(line_tokens('{"prompt_tokens": 5, "cached_tokens": 2, "completion_tokens": 1}'))
    totals.add(line_tokens('{"prompt_tokens": 5, "completion_tokens": null}'))
    totals.add(CallFacts(prompt_tokens=7, cached_tokens=3, cache_write_tokens=4, completion_tokens=6))
    assert (totals.prompt_tokens, totals.cached_tokens, totals.cache_write_tokens) == (17, 5, 4)
    assert (totals.completion_tokens, totals.cache_hit_requests) == (7, 2)


def test_what_is_no_call_does_not_count() -> None:
    totals = Totals()
    for call in (line_tokens('{"prompt_tokens": 0, "completion_tokens": 9}'), line_tokens("torn"), CallFacts()):
        totals.add(call)
    assert totals == Totals()


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
