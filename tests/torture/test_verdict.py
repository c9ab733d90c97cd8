"""The judge of a torture run is itself judged: each thing that must not be, it sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.cases import each
from tests.torture.verdict import Account, Charge, Entry, Ledger, Reservation, UpstreamCall, billed_pusd, judge

ACCOUNT = Account("a", limit_pusd=1000, posted_pusd=100, pending_pusd=0, assumed_pusd=0, overrun_pusd=0)
HELD = Reservation("r", "a", "posted", 200, "m", ("t",), "t", "gen-1", created_at_s=10.0, unknown_since_s=None)
POSTED = Entry(1, "r", "a", "posted", 100)
ASSUMED = Entry(1, "r", "a", "assumed", 100)
UNKNOWN = replace(HELD, generation_id="", unknown_since_s=20.0)
BILL = [Charge("gen-1", "a", 100)]
HIDDEN = UpstreamCall("gen-1", "a", 15.0, hides=True, lies=False)


def ledger(
    account: Account = ACCOUNT, held: Reservation = HELD, *entries: Entry, quarantined: tuple[tuple[str, str], ...] = ()
) -> Ledger:
    return Ledger({"a": account}, {held.id: held}, entries or (POSTED,), quarantined=frozenset(quarantined))


def assumed(held: Reservation = UNKNOWN) -> Ledger:
    return ledger(replace(ACCOUNT, assumed_pusd=100), held, ASSUMED)


def test_books_that_balance_are_lawful() -> None:
    verdict = judge(ledger(), BILL, [], [])
    assert verdict.is_lawful
    assert (verdict.spend_pusd, verdict.posted_pusd) == (100, 100)


@pytest.mark.parametrize("cost_pusd", [99, 101])
def test_a_cost_posted_otherwise_than_it_was_billed_is_drift(cost_pusd: int) -> None:
    assert judge(ledger(), [Charge("gen-1", "a", cost_pusd)], [], []).drift_pusd == 1


def test_a_charge_that_is_posted_nowhere_is_drift() -> None:
    verdict = judge(ledger(), [*BILL, Charge("gen-2", "a", 7)], [], [])
    assert verdict.drift_pusd == 7
    assert not verdict.is_lawful


def test_a_cost_that_nobody_billed_is_drift() -> None:
    assert judge(ledger(), [], [], []).drift_pusd == 100


def test_a_cost_told_without_an_id_is_matched_by_its_amount() -> None:
    assert judge(ledger(ACCOUNT, replace(HELD, generation_id="")), BILL, [], []).is_lawful


def test_what_was_assumed_covers_charges_without_an_id_and_no_more() -> None:
    assert judge(assumed(), BILL, [HIDDEN], []).is_lawful
    assert judge(assumed(), [Charge("gen-1", "a", 103)], [HIDDEN], []).drift_pusd == 3


def test_an_assumption_needs_a_fault_that_hid_the_cost_or_a_kill() -> None:
    assert judge(assumed(), BILL, [], []).untied == ["r"]
    assert judge(assumed(), BILL, [replace(HIDDEN, hides=False)], []).untied == ["r"]
    assert judge(assumed(), BILL, [replace(HIDDEN, account="b")], []).untied == ["r"]
    assert judge(assumed(), BILL, [replace(HIDDEN, at_s=25.0)], []).untied == ["r"]
    assert judge(assumed(), BILL, [], [15.0]).untied == []
    assert judge(assumed(), BILL, [], [5.0, 25.0]).untied == ["r"]


def test_a_bill_above_the_limit_is_overshoot_whatever_the_ledger_says() -> None:
    verdict = judge(ledger(replace(ACCOUNT, limit_pusd=90)), BILL, [], [])
    assert verdict.overshoot_pusd == 10
    assert not verdict.is_lawful
    assert not verdict.is_bounded


def overrun(limit_pusd: int = 1000, **others: Any) -> Ledger:
    """A call that cost 100, with 85 reserved; posted at 20 s."""
    account = replace(ACCOUNT, limit_pusd=limit_pusd, overrun_pusd=15)
    made = ledger(account, replace(HELD, reserved_pusd=85), replace(POSTED, at_s=20.0), quarantined=(("m", "t"),))
    return replace(made, **others)


def test_overshoot_is_bounded_by_the_overrun_that_the_ledger_prints() -> None:
    assert judge(overrun(limit_pusd=85), BILL, [], []).is_bounded
    assert judge(overrun(limit_pusd=84), BILL, [], []).problems
    assert judge(overrun(), BILL, [], []).bound_pusd == 0


def test_overshoot_is_bounded_by_what_upstream_broke_its_word_about_and_never_told() -> None:
    over, lie = ledger(replace(ACCOUNT, limit_pusd=90)), UpstreamCall("gen-1", "a", 15.0, hides=False, lies=True)
    assert judge(over, BILL, [lie], []).problems
    assert judge(over, BILL, [replace(lie, faults=("key_usage_lag",))], []).is_bounded
    assert judge(over, [Charge("gen-1", "a", 150)], [lie], []).is_bounded


def test_a_call_without_an_id_that_is_told_otherwise_than_it_was_billed_counts_once_on_either_side() -> None:
    made = ledger(ACCOUNT, replace(HELD, generation_id=""))
    lie = UpstreamCall("gen-1", "a", 15.0, hides=True, lies=True)
    verdict = judge(made, [Charge("gen-1", "a", 150)], [lie], [])
    assert verdict.drift_pusd == 250
    assert verdict.problems == []
    assert judge(made, [Charge("gen-1", "a", 99)], [lie], []).problems


def test_a_lie_may_show_once_as_a_surplus_and_once_as_what_is_missing_for_it_and_no_more() -> None:
    other = replace(UNKNOWN, id="s", generation_id="gen-2")
    lie = UpstreamCall("gen-1", "a", 15.0, hides=False, lies=True)

    def problems(lied_pusd: int, assumed_pusd: int) -> list[str]:
        account = replace(ACCOUNT, posted_pusd=lied_pusd + assumed_pusd, assumed_pusd=assumed_pusd)
        entries = [replace(POSTED, cost_pusd=lied_pusd), Entry(2, "s", "a", "assumed", assumed_pusd)]
        made = replace(ledger(account), reservations={"r": HELD, "s": other}, entries=entries)
        verdict = judge(
            made, [Charge("gen-1", "a", 50), Charge("gen-2", "a", 80)], [lie, replace(HIDDEN, id="gen-2")], []
        )
        assert verdict.drift_pusd == lied_pusd - 50 + 80 - assumed_pusd
        return verdict.problems

    assert problems(lied_pusd=100, assumed_pusd=30) == []
    assert problems(lied_pusd=101, assumed_pusd=30)
    assert problems(lied_pusd=100, assumed_pusd=29)


def test_each_account_keeps_to_its_own_bound() -> None:
    lie = UpstreamCall("gen-2", "b", 15.0, hides=False, lies=True)
    both = ledger(replace(ACCOUNT, limit_pusd=90))
    both = replace(both, accounts={**both.accounts, "b": replace(ACCOUNT, id="b", posted_pusd=0, limit_pusd=50)})
    assert judge(both, [*BILL, Charge("gen-2", "b", 100)], [lie], []).problems


def test_what_the_ledger_prints_as_overrun_is_what_its_calls_cost_above_their_reservations() -> None:
    assert not judge(overrun(), BILL, [], []).problems
    assert judge(overrun(accounts={"a": ACCOUNT}), BILL, [], []).problems


def test_an_endpoint_that_billed_above_a_reservation_must_be_quarantined() -> None:
    nameless = {"r": replace(HELD, reserved_pusd=85, tag="", tags=("t", "u"))}
    assert judge(overrun(quarantined=frozenset()), BILL, [], []).problems
    assert judge(overrun(reservations=nameless), BILL, [], []).problems


def test_what_is_assumed_within_the_exposure_of_a_call_is_no_broken_word() -> None:
    """An assumption proves no bill, so nothing is quarantined for it."""

    def assumed_over(exposure_pusd: int) -> Ledger:
        held = replace(UNKNOWN, reserved_pusd=85, exposure_pusd=exposure_pusd)
        return ledger(replace(ACCOUNT, assumed_pusd=100, overrun_pusd=15), held, ASSUMED)

    within, beyond = (judge(assumed_over(exposure), BILL, [HIDDEN], []) for exposure in (15, 14))
    assert within.is_lawful
    assert (within.overrun_pusd, within.exposed_pusd) == (15, 15)
    assert not beyond.is_lawful
    posted = overrun(reservations={"r": replace(HELD, reserved_pusd=85, exposure_pusd=15)}, quarantined=frozenset())
    assert judge(posted, BILL, [], []).problems


def test_an_endpoint_that_billed_above_a_reservation_is_not_called_again_until_a_person_clears_it() -> None:
    def later(at_s: float, cleared_s: float | None = None) -> list[str]:
        made = overrun()
        again = replace(HELD, id="s", state="voided", generation_id="", created_at_s=at_s)
        voided = Entry(2, "s", "a", "voided", 0, at_s)
        entries, cleared = [*made.entries, voided], {} if cleared_s is None else {("m", "t"): [cleared_s]}
        made = replace(made, reservations={**made.reservations, "s": again}, entries=entries, cleared_s=cleared)
        return judge(made, BILL, [], []).problems

    assert not later(15.0)
    assert later(25.0)
    assert not later(25.0, cleared_s=22.0)
    assert later(25.0, cleared_s=30.0)


def test_a_reservation_ends_once() -> None:
    twice = ledger(replace(ACCOUNT, posted_pusd=200), HELD, POSTED, replace(POSTED, entry_id=2))
    assert any("ended as" in problem for problem in judge(twice, BILL, [], []).problems)


def problems_of(changed: Ledger) -> list[str]:
    return judge(changed, BILL, [], []).problems


@each(
    "changed",
    [
        ledger(replace(ACCOUNT, posted_pusd=99)),
        ledger(ACCOUNT, HELD, replace(POSTED, entry_id=2)),
        replace(ledger(), cost_lines_agree=False),
        replace(ledger(), accounts={}),
        ledger(replace(ACCOUNT, budget="Budget: $0.500 remaining of $1.00 (50% left)\n")),
    ],
)
def test_whatever_else_does_not_agree_is_a_problem(changed: Ledger) -> None:
    assert problems_of(changed)


def test_something_pending_is_not_the_end() -> None:
    verdict = judge(ledger(replace(ACCOUNT, pending_pusd=1)), BILL, [], [])
    assert not verdict.is_lawful
    assert not verdict.is_bounded


def test_charges_are_taken_to_whole_pico_dollars_half_to_even() -> None:
    assert [billed_pusd(text) for text in ("0.0000000000015", "0.0000000000025", "1e-12", "2")] == [2, 2, 1, 2 * 10**12]
