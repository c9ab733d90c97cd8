"""Judges a run in which several accounts have one key, so the bill is not split by account (M13, unknown cost).

Pure. It shares no code with the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.torture.verdict import (
    Charge,
    Ledger,
    UpstreamCall,
    Verdict,
    check_budget_file,
    check_entries,
    count_unknown,
    drift,
)

ROUNDING_PUSD = 10**6
"""How much the ledger may exceed the bill for each unknown call, if no other program uses the key."""


def judge_shared(ledger: Ledger, bill: Iterable[Charge], seen: Sequence[UpstreamCall]) -> Verdict:
    """Compare the bill of the key for the ledger's calls with the sum of all accounts.

    Args:
        ledger: A ledger whose accounts all have the key.
        bill: The charges of the key, those beside the proxy included.
        seen: The calls that reached upstream; they say which were made beside the proxy.
    """
    verdict = Verdict(unknown_count=count_unknown(ledger))
    sums = check_entries(ledger, verdict)
    others = {call.id for call in seen if call.is_other}
    ours = [charge for charge in bill if charge.id not in others]
    verdict.drift_pusd = sum(drift(list(ledger.reservations.values()), ours, sums))
    verdict.spend_pusd = sum(charge.cost_pusd for charge in ours)
    verdict.assumed_count = sum(ended.is_assumed for ended in sums.values())
    for account in ledger.accounts.values():
        verdict.posted_pusd += account.posted_pusd
        verdict.pending_pusd += account.pending_pusd
        verdict.assumed_pusd += account.assumed_pusd
        verdict.overrun_pusd += account.overrun_pusd
        verdict.overshoot_pusd += max(0, account.posted_pusd - account.limit_pusd)
        check_budget_file(account, verdict)
    verdict.problems += _problems(verdict, alone=not others)
    return verdict


def _problems(verdict: Verdict, *, alone: bool) -> list[str]:
    surplus_pusd = verdict.posted_pusd - verdict.spend_pusd
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
