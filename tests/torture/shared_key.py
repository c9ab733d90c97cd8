"""The verdict where several accounts have one key, so that upstream's bill tells of none of them alone (M13).

Pure; it shares no code with the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.torture.books import Billed, Ledger, Seen, Verdict, check_budget_file, check_entries, count_unknown, drift

ROUNDING_PUSD = 10**6
"""The ledger may exceed the bill by so much for each unknown call where nobody else used the key."""


def judge_shared(ledger: Ledger, bill: Iterable[Billed], seen: Sequence[Seen]) -> Verdict:
    """Compare what the key was billed for the ledger's calls with what all accounts hold together.

    Args:
        ledger: All its accounts have the key.
        bill: What the key was billed, for the ledger's calls and for others.
        seen: Tells which are others'.
    """
    verdict = Verdict(unknown_count=count_unknown(ledger))
    sums = check_entries(ledger, verdict)
    others = {call.id for call in seen if call.is_other}
    ours = [charge for charge in bill if charge.id not in others]
    verdict.drift_pusd = sum(drift(list(ledger.reservations.values()), ours, sums))
    verdict.spend_pusd = sum(charge.cost_pusd for charge in ours)
    verdict.assumed_count = sum(ended.is_assumed for ended in sums.values())
    for account in ledger.accounts.values():
        verdict.booked_pusd += account.posted_pusd
        verdict.pending_pusd += account.pending_pusd
        verdict.assumed_pusd += account.assumed_pusd
        verdict.overrun_pusd += account.overrun_pusd
        verdict.overshoot_pusd += max(0, account.posted_pusd - account.limit_pusd)
        check_budget_file(account, verdict)
    verdict.problems += _problems(verdict, alone=not others)
    return verdict


def _problems(verdict: Verdict, *, alone: bool) -> list[str]:
    surplus_pusd = verdict.booked_pusd - verdict.spend_pusd
    problems = []
    if surplus_pusd < 0:
        problems.append(f"{-surplus_pusd} more were billed than are in the ledger")
    if surplus_pusd > verdict.assumed_pusd:
        problems.append(f"the ledger has {surplus_pusd} more than the bill, and {verdict.assumed_pusd} were assumed")
    if alone and surplus_pusd > ROUNDING_PUSD * verdict.unknown_count:
        problems.append(
            f"the ledger has {surplus_pusd} more than the bill for {verdict.unknown_count} unknown calls, and nobody else "
            "used the key"
        )
    return problems
