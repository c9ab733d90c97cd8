"""What the end of a reservation leaves in the ledger, and what is learned later (M13-M15, M21)."""

import pytest
from msgspec.structs import replace

from preflight_proxy.core.budget_text import RECENT_ACTIONS, Action
from preflight_proxy.core.ledger.commands import (
    Assume,
    OpenAccount,
    Post,
    Recover,
    Reserve,
    SetGeneration,
    Void,
)
from preflight_proxy.core.ledger.rows import CallFacts, EntryKind
from preflight_proxy.core.ledger.transition import transition
from tests.support.cases import each
from tests.support.ledger_cases import NOW_S, account, do, hold, opened


@each(
    "command, kind, calls",
    [
        (Post("r", 40), EntryKind.POSTED, 1),
        (Assume("r", 40), EntryKind.ASSUMED, 1),
        (Void("r", "upstream refused"), EntryKind.VOIDED, 0),
    ],
)
def test_each_end_leaves_one_entry(command: Post | Assume | Void, kind: EntryKind, calls: int) -> None:
    """With its kind, and numbered."""
    state = opened()
    do(state, hold("r", 100))
    change = do(state, command)
    assert change.reservation is not None
    assert change.entry is not None
    assert (change.entry.kind, change.entry.entry_id, change.entry.reservation_id) == (kind, 1, "r")
    assert change.entry.cost_pusd == (0 if kind is EntryKind.VOIDED else 40)
    assert account(state).calls == calls
    assert state.next_entry_id == 2


def test_a_bill_above_the_reservation_is_posted_and_the_endpoint_goes_out_of_use() -> None:
    """M14: the truth is posted, the excess printed, in one change."""
    state = opened(100)
    do(state, hold("r", 100))
    do(state, SetGeneration("r", "gen-1", "t"))
    change = do(state, Post("r", 130))
    assert change.overrun_pusd == 30
    assert (account(state).posted_pusd, account(state).overrun_pusd, account(state).available_pusd) == (130, 30, -30)
    assert list(state.quarantined) == [("m/x", "t")]
    assert "gen-1" in state.quarantined["m/x", "t"].reason


def test_where_nobody_told_who_served_each_quoted_endpoint_goes_out_of_use() -> None:
    """Any of them may have been the one."""
    state = opened(100)
    command = hold("r", 100)
    do(state, type(command)("r", "a", 100, "chat", "m/x", ("t", "u"), 16))
    do(state, Post("r", 101))
    assert set(state.quarantined) == {("m/x", "t"), ("m/x", "u")}


def test_only_the_endpoint_that_served_is_quarantined_if_it_is_known() -> None:
    state = opened(100)
    do(state, Reserve("r", "a", 100, "chat", "m/x", ("t", "u"), 16))
    do(state, Post("r", 101, CallFacts(tag="u")))
    assert set(state.quarantined) == {("m/x", "u")}


@each(
    "billed, read, counted",
    [(900, 900, ()), (901, 900, ("m/x t",)), (900, 0, ("m/x t",)), (0, 900, ("m/x t",))],
)
def test_where_a_cache_lost_a_prefix_and_the_tokens_were_as_quoted_bytes_are_not_counted(
    billed: int, read: int, counted: tuple[str, ...]
) -> None:
    """M14: an excess of a call without a cache read, of more tokens than quoted, or of an unknown number, makes bytes count."""
    state = opened(200)
    do(state, replace(hold("r", 100), exposure_pusd=40, cache_read_tokens=read))
    do(state, Post("r", 130, CallFacts(tag="t", prompt_tokens=billed), is_miscount=True))
    assert account(state).byte_counted == counted
    assert account(state).overrun_pusd == 30
    assert not state.quarantined


def test_overruns_add_up() -> None:
    state = opened(1000)
    for name, overrun_pusd in (("r", 30), ("s", 12)):
        do(state, hold(name, 100, model=name))
        do(state, Post(name, 100 + overrun_pusd))
    assert account(state).overrun_pusd == 42


def test_a_recovered_amount_of_any_size_lifts_the_freeze_of_a_restart() -> None:
    """M21: the key's usage has been compared with the ledger."""
    for cost_pusd in (0, 7):
        state = opened()
        state.accounts["a"] = replace(account(state), usage_unread=True)
        do(state, Recover("a", cost_pusd))
        assert account(state).frozen is None
        assert account(state).recovered_pusd == account(state).posted_pusd == cost_pusd


def test_an_assumed_cost_is_posted_and_counted_as_assumed() -> None:
    state = opened()
    do(state, hold("r", 100))
    do(state, Assume("r", 60))
    assert (account(state).posted_pusd, account(state).assumed_pusd, account(state).pending_pusd) == (60, 60, 0)


def test_no_more_than_the_reservation_is_assumed() -> None:
    """Silence cannot cost more than was promised."""
    state = opened()
    do(state, hold("r", 100))
    with pytest.raises(ValueError, match="never assumed"):
        transition(state, Assume("r", 101), NOW_S)


def test_up_to_its_exposure_more_is_assumed_and_no_endpoint_goes_out_of_use() -> None:
    state = opened()
    do(state, replace(hold("r", 100), exposure_pusd=30))
    with pytest.raises(ValueError, match="never assumed"):
        transition(state, Assume("r", 131), NOW_S)
    assert do(state, Assume("r", 130)).quarantined == ()
    assert account(state).overrun_pusd == 30


def test_what_the_key_shows_beyond_the_books_is_posted() -> None:
    """M21: an entry without a reservation; nothing to recover leaves none."""
    state = opened()
    change = do(state, Recover("a", 70))
    assert change.entry is not None
    assert (change.entry.kind, change.entry.reservation_id, change.entry.cost_pusd) == (EntryKind.RECOVERED, None, 70)
    assert do(state, Recover("a", 0)).entry is None
    assert (account(state).posted_pusd, account(state).recovered_pusd) == (70, 70)


def test_hostile_text_from_upstream_is_made_harmless() -> None:
    """Lone surrogates break databases; a megabyte of id would swell the ledger."""
    state = opened()
    do(state, hold("r"))
    change = do(state, SetGeneration("r", "gen-\ud800" + "x" * 10_000, "t\udfff"))
    assert change.reservation is not None
    assert change.reservation.generation_id is not None
    assert change.reservation.generation_id.startswith("gen-?x")
    assert len(change.reservation.generation_id) == 200
    assert change.reservation.tag == "t?"


def test_the_last_entry_of_an_account_is_the_latest_though_the_clock_goes_back() -> None:
    state = opened()
    for name, at_s in (("r", NOW_S), ("s", NOW_S - 60)):
        do(state, hold(name))
        do(state, Post(name, 1), at_s)
    assert account(state).last_entry_s == NOW_S


def test_an_end_in_one_account_leaves_the_other_alone() -> None:
    """Balances are an account's own."""
    state = opened()
    do(state, OpenAccount("b", "run", 500, token_hash="token of b"))
    do(state, hold("r", 100, account="b"))
    do(state, Post("r", 50))
    assert (account(state).posted_pusd, state.accounts["b"].posted_pusd) == (0, 50)


def test_the_tokens_of_settled_calls_add_up_and_a_call_without_prompt_tokens_is_in_no_total() -> None:
    state = opened()
    for name, facts in (
        ("r", CallFacts(prompt_tokens=5, cached_tokens=2, completion_tokens=1)),
        ("s", CallFacts(prompt_tokens=7, cache_write_tokens=4, completion_tokens=6)),
        ("t", CallFacts(completion_tokens=9)),
    ):
        do(state, hold(name, 10))
        do(state, Post(name, 1, facts))
    now = account(state)
    assert (now.prompt_tokens, now.cached_tokens, now.cache_write_tokens, now.completion_tokens) == (12, 2, 4, 7)
    assert now.cache_hit_requests == 1


def test_what_the_last_posted_calls_were_for_is_kept() -> None:
    """Five are shown; all are counted."""
    state = opened()
    for number in range(RECENT_ACTIONS + 2):
        do(state, hold(f"r{number}", 10))
        do(state, Post(f"r{number}", number, label=f"tool {number}"))
    do(state, hold("v", 10))
    do(state, Void("v", "refused"))
    assert account(state).actions == tuple(Action(f"tool {number}", number) for number in range(2, RECENT_ACTIONS + 2))
    assert account(state).actions_count == RECENT_ACTIONS + 2


PLACE = "m/x t"
"""How `hold`'s model and endpoint stand in `Account.byte_counted`."""


def test_a_miscount_disables_no_endpoint_and_its_account_counts_bytes_there() -> None:
    """M14: the truth is posted and shown as overrun all the same."""
    state = opened(1000)
    do(state, replace(hold("r", 100), exposure_pusd=400))
    change = do(state, Post("r", 130, is_miscount=True))
    assert (change.quarantined, change.overrun_pusd, state.quarantined) == ((), 30, {})
    assert (account(state).posted_pusd, account(state).overrun_pusd) == (130, 30)
    assert account(state).byte_counted == (PLACE,)


def test_any_other_excess_disables_the_endpoint_and_bytes_are_counted_besides() -> None:
    """A person may enable it again."""
    state = opened(1000)
    do(state, replace(hold("r", 100), exposure_pusd=400))
    do(state, Post("r", 130))
    assert list(state.quarantined) == [("m/x", "t")]
    assert account(state).byte_counted == (PLACE,)


@each("cost_pusd", [0, 99, 100])
def test_a_bill_within_the_reservation_counts_no_bytes(cost_pusd: int) -> None:
    state = opened(1000)
    do(state, hold("r", 100))
    do(state, Post("r", cost_pusd, is_miscount=True))
    assert (account(state).byte_counted, account(state).overrun_pusd, state.quarantined) == ((), 0, {})


def test_bytes_are_counted_where_the_call_was_served_and_else_wherever_it_may_have_been() -> None:
    state = opened(1000)
    two = Reserve("r", "a", 100, "chat", "m/x", ("t", "u"), 16, exposure_pusd=50)
    do(state, two)
    do(state, Post("r", 101, CallFacts(tag="u"), is_miscount=True))
    assert account(state).byte_counted == ("m/x u",)
    do(state, replace(two, reservation_id="s"))
    do(state, Post("s", 101, is_miscount=True))
    do(state, replace(two, reservation_id="v", model="m/y"))
    do(state, SetGeneration("v", "g", "u"))
    do(state, Post("v", 101, is_miscount=True))
    assert account(state).byte_counted == ("m/x t", "m/x u", "m/y u")


def test_what_is_assumed_above_a_reservation_is_within_its_exposure_and_disables_nothing() -> None:
    """The key's usage showed it."""
    state = opened(1000)
    do(state, replace(hold("r", 100), exposure_pusd=50))
    with pytest.raises(ValueError, match="never assumed"):
        transition(state, Assume("r", 151), NOW_S)
    do(state, Assume("r", 150))
    assert (account(state).assumed_pusd, account(state).overrun_pusd, state.quarantined) == (150, 50, {})
    assert account(state).byte_counted == (PLACE,)


def test_a_weighing_is_paid_and_is_no_action_of_the_agent() -> None:
    state = opened(1000)
    do(state, replace(hold("r", 100), purpose="weighing"))
    change = do(state, Post("r", 40, CallFacts(prompt_tokens=9), "grep"))
    now = account(state)
    assert (now.posted_pusd, now.calls, now.prompt_tokens) == (40, 0, 9)
    assert (now.actions, now.actions_count) == ((), 0)
    assert change.entry is not None
    assert '"purpose":"weighing"' in change.entry.line
