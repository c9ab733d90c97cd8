"""What an account's process remembers beside the ledger."""

from __future__ import annotations

from preflight_proxy.ledger.account_state import BUSY_S, Live, Totals


def test_lines_add_up_and_what_is_no_call_is_left_out() -> None:
    totals = Totals()
    totals.add('{"prompt_tokens": 5, "cached_tokens": 2, "completion_tokens": 1}')
    totals.add('{"prompt_tokens": 5, "completion_tokens": null}')
    totals.add('{"prompt_tokens": 0}')
    totals.add("torn")
    assert (totals.prompt_tokens, totals.cached_tokens) == (10, 2)
    assert (totals.completion_tokens, totals.cache_hit_requests) == (1, 1)


def test_the_cheapest_call_ever_admitted_is_remembered() -> None:
    live = Live()
    for cheapest_pusd in (50, 30, 40):
        live.admitted(cheapest_pusd)
    assert live.cheapest_pusd == 30


def test_it_is_spent_below_that_only_after_a_refusal() -> None:
    live = Live()
    live.admitted(30)
    assert not live.is_spent(29)
    live.is_refused = True
    assert live.is_spent(29)
    assert not live.is_spent(30)
    live.admitted(10)
    assert not live.is_spent(29)


def test_it_is_busy_for_a_minute() -> None:
    live = Live()
    assert not live.requested("a", 0)
    assert live.requested("a", BUSY_S - 1)
    assert not live.requested("b", 3 * BUSY_S)
    assert live.repeats == 0
