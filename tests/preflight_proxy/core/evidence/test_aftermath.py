"""After its proxy's death the usage of a key tells, to the pico-dollar, what was still open (M13, M21)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from preflight_proxy.core.evidence.aftermath import EvidenceTimes, UnsettledAccount, settle, unsettled_account
from preflight_proxy.core.evidence.evidence import NOTHING_PUSD
from preflight_proxy.core.ledger.commands import Assume, MarkUnknown, OpenAccount, Post, Recover, Void
from preflight_proxy.core.ledger.rows import Account
from tests.preflight_proxy.core.evidence.test_evidence import pending
from tests.support.ledger_cases import NOW_S, account, do, hold, opened

NO_CHARGE = "the key's usage shows no charge"
CLOCKS = EvidenceTimes(call_s_max=1800.0, lag_s=60.0)
OWN = Account("a", "run", 10**9, posted_pusd=500_000, key_is_own=True, key_usage_base_pusd=7_000_000)
TWO = (pending("x", 300_000), pending("y", 200_000))


def loose(of: Account = OWN) -> UnsettledAccount:
    return UnsettledAccount(of, TWO, 0.0)


def test_an_account_of_which_nothing_is_open_has_no_loose_end() -> None:
    assert unsettled_account(replace(OWN, last_entry_s=NOW_S), [], CLOCKS) is None


def test_a_call_that_nobody_saw_end_may_be_billed_until_the_longest_call_is_over_and_the_figure_lags_no_more() -> None:
    found = unsettled_account(OWN, [pending("x", 1, NOW_S)], CLOCKS)
    assert found is not None
    assert found.known_at_s == NOW_S + 1800 + 60


def test_a_call_whose_end_was_seen_is_in_the_figure_after_the_lag() -> None:
    found = unsettled_account(OWN, [replace(pending("x", 1, NOW_S), unknown_since_s=NOW_S + 5)], CLOCKS)
    assert found is not None
    assert found.known_at_s == NOW_S + 5 + 60


def test_what_was_posted_last_must_be_in_the_figure_too() -> None:
    found = unsettled_account(replace(OWN, last_entry_s=NOW_S), [replace(pending("x", 1), unknown_since_s=1.0)], CLOCKS)
    assert found is not None
    assert found.known_at_s == NOW_S + 60


def test_after_a_loss_of_power_calls_may_run_that_stand_nowhere() -> None:
    found = unsettled_account(replace(OWN, usage_unread=True, last_entry_s=NOW_S), [], CLOCKS)
    assert found is not None
    assert found.known_at_s == NOW_S + 1800 + 60


def test_what_the_usage_shows_beyond_the_books_is_what_was_open() -> None:
    assert list(settle(loose(), 7_000_000 + 500_000 + 350_000)) == [Assume("x", 300_000), Assume("y", 50_000)]


def test_a_usage_that_shows_nothing_is_the_proof_that_nothing_was_charged() -> None:
    assert list(settle(loose(), 7_500_000 + NOTHING_PUSD)) == [Void("x", NO_CHARGE), Void("y", NO_CHARGE)]


def test_where_the_key_is_gone_each_call_is_taken_to_have_cost_all_it_could() -> None:
    assert list(settle(loose(), None)) == [Assume("x", 300_000), Assume("y", 200_000)]


def test_the_usage_of_a_key_that_others_use_too_is_no_evidence() -> None:
    for no_evidence in (replace(OWN, key_is_own=False), replace(OWN, key_usage_base_pusd=None)):
        assert list(settle(loose(no_evidence), 7_500_000)) == [Assume("x", 300_000), Assume("y", 200_000)]


def test_what_a_loss_of_power_took_from_the_books_is_recovered_after_what_was_open() -> None:
    unread = replace(OWN, usage_unread=True)
    assert list(settle(loose(unread), 7_500_000 + 500_000 + 40_000))[-1] == Recover("a", 40_000)
    assert list(settle(loose(unread), 7_500_000))[-1] == Recover("a", 0)
    assert list(settle(loose(unread), None))[-1] == Recover("a", 0)


@given(
    costs=st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=5),
    posted_pusd=st.integers(0, 10**8),
    lost_pusd=st.integers(0, 10**7),
)
def test_the_books_are_the_bill_afterwards_and_nothing_is_open(
    costs: list[tuple[int, int]], posted_pusd: int, lost_pusd: int
) -> None:
    """Whatever was open, whatever it cost up to its reservation, and whatever a loss of power had taken."""
    state = opened(10**12)
    do(state, OpenAccount("a", "run", 10**12, "t", key_hash="k", key_is_own=True, key_usage_pusd=0))
    do(state, hold("first", posted_pusd))
    do(state, Post("first", posted_pusd))
    for index, (reserved_pusd, _cost_pusd) in enumerate(costs):
        do(state, hold(f"r{index}", reserved_pusd))
        do(state, MarkUnknown(f"r{index}"))
    state.accounts["a"] = replace(account(state), usage_unread=lost_pusd > 0)
    billed_pusd = posted_pusd + lost_pusd + sum(min(cost) for cost in costs)
    found = unsettled_account(account(state), state.pending("a"), CLOCKS)
    assert found is not None
    for command in settle(found, billed_pusd):
        do(state, command)
    assert state.pending("a") == []
    assert not account(state).usage_unread
    assert 0 <= billed_pusd - account(state).posted_pusd <= NOTHING_PUSD
