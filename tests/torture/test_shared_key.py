"""The judge of accounts that share a key is itself judged: each thing that must not be, it sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.cases import each
from tests.torture.shared_key import ROUNDING_PUSD, judge_shared
from tests.torture.verdict import Account, Charge, Entry, Ledger, Reservation, UpstreamCall

COST_PUSD = 50 * ROUNDING_PUSD
TOLD = Reservation(
    "r", "a", "posted", 2 * COST_PUSD, "m", ("t",), "t", "gen-1", created_at_s=10.0, unknown_since_s=None
)
UNKNOWN = replace(TOLD, id="s", account="b", generation_id="", unknown_since_s=20.0)
BILL = [Charge("gen-1", "default", COST_PUSD), Charge("gen-2", "default", COST_PUSD)]
OTHERS = UpstreamCall("gen-3", "default", 15.0, hides=False, lies=False, is_other=True)


def account(name: str, posted_pusd: int, **amounts: Any) -> Account:
    made = Account(name, 10 * COST_PUSD, posted_pusd, pending_pusd=0, assumed_pusd=0, overrun_pusd=0)
    return replace(made, **amounts)


def ledger(assumed_pusd: int = COST_PUSD, **others: Any) -> Ledger:
    """One call of `a` that was told, one of `b` that was not."""
    accounts = {"a": account("a", COST_PUSD), "b": account("b", assumed_pusd, assumed_pusd=assumed_pusd)}
    entries = [Entry(1, "r", "a", "posted", COST_PUSD), Entry(2, "s", "b", "assumed", assumed_pusd)]
    made = Ledger(accounts, {"r": TOLD, "s": UNKNOWN}, entries)
    return replace(made, **others)


def test_accounts_that_hold_together_what_the_key_was_billed_are_lawful() -> None:
    verdict = judge_shared(ledger(), BILL, [])
    assert verdict.is_lawful
    assert (verdict.spend_pusd, verdict.posted_pusd, verdict.assumed_pusd) == (2 * COST_PUSD, 2 * COST_PUSD, COST_PUSD)
    assert (verdict.unknown_count, verdict.assumed_count) == (1, 1)


def test_a_bill_above_the_ledger_is_a_problem_by_a_single_pico_dollar() -> None:
    assert judge_shared(ledger(COST_PUSD - 1), BILL, []).problems


def test_the_ledger_may_exceed_the_bill_by_the_rounding_of_each_unknown_call() -> None:
    assert judge_shared(ledger(COST_PUSD + ROUNDING_PUSD), BILL, []).is_lawful
    assert judge_shared(ledger(COST_PUSD + ROUNDING_PUSD + 1), BILL, []).problems


def test_a_call_whose_id_is_known_is_no_unknown_one() -> None:
    named = replace(UNKNOWN, generation_id="gen-4")
    assert judge_shared(ledger(COST_PUSD + 1, reservations={"r": TOLD, "s": named}), BILL, []).problems


def test_where_others_used_the_key_only_what_was_assumed_bounds_the_ledger() -> None:
    bill = [*BILL, Charge("gen-3", "default", 7 * COST_PUSD)]
    assert judge_shared(ledger(2 * COST_PUSD), bill, [OTHERS]).is_lawful
    assert judge_shared(ledger(COST_PUSD - 1), bill, [OTHERS]).problems
    told_twice = Entry(1, "r", "a", "posted", 2 * COST_PUSD)
    twice = ledger(entries=[told_twice, ledger().entries[1]], accounts={"a": account("a", 3 * COST_PUSD)})
    assert judge_shared(twice, bill, [OTHERS]).problems


def test_a_cost_that_is_not_what_its_generation_was_billed_is_drift() -> None:
    swapped = [Charge("gen-1", "default", COST_PUSD + 1), Charge("gen-2", "default", COST_PUSD - 1)]
    assert judge_shared(ledger(), swapped, []).drift_pusd == 1
    assert not judge_shared(ledger(), swapped, []).is_lawful


@each(
    "changed",
    [
        ledger(
            accounts={
                "a": account("a", COST_PUSD),
                "b": account("b", COST_PUSD, assumed_pusd=COST_PUSD, pending_pusd=1),
            }
        ),
        ledger(accounts={"a": account("a", COST_PUSD, limit_pusd=COST_PUSD - 1), "b": ledger().accounts["b"]}),
        ledger(accounts={"a": account("a", COST_PUSD, overrun_pusd=1), "b": ledger().accounts["b"]}),
        ledger(accounts={"a": account("a", COST_PUSD + 1), "b": ledger().accounts["b"]}),
        ledger(entries=[*ledger().entries, Entry(3, "s", "b", "voided", 0)]),
        ledger(cost_lines_agree=False),
    ],
)
def test_whatever_else_does_not_agree_is_not_lawful(changed: Ledger) -> None:
    assert not judge_shared(changed, BILL, []).is_lawful
