"""An account compared with OpenRouter's figure: what explains a difference, and what is drift."""

import pytest
from msgspec.structs import replace

from agent_preflight.runs.reconciliation import TOLERANCE_PUSD, ReconciledAccount, Reconciliation
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from tests.support.cases import each

CENT = 10**10


def row(upstream_pusd: int | None = CENT, *, account: str = "a", **more: int) -> ReconciledAccount:
    """An account with one cent posted."""
    amounts = {"posted_pusd": CENT, "entries_pusd": CENT, **more}
    return ReconciledAccount(account, upstream_pusd=upstream_pusd, source="live", **amounts)


@each("off_pusd", [-TOLERANCE_PUSD, 0, TOLERANCE_PUSD])
def test_ledgers_balance_within_the_precision_of_the_figure(off_pusd: int) -> None:
    found = row(CENT + off_pusd)
    assert (found.drift_pusd, found.balances, found.verdict) == (off_pusd, True, "balances")


@pytest.mark.parametrize("off_pusd", [-TOLERANCE_PUSD - 1, TOLERANCE_PUSD + 1])
def test_more_than_that_is_drift_to_either_side(off_pusd: int) -> None:
    found = row(CENT + off_pusd)
    assert (found.unexplained_pusd, found.verdict) == (off_pusd, "drift")
    assert Reconciliation((row(account="b"), found)).exit_code == 3


@each(
    "found",
    [
        row(2 * CENT, pending_pusd=CENT),
        row(0, assumed_pusd=CENT),
        row(0, recent_pusd=CENT),
        row(0, assumed_pusd=CENT // 2, recent_pusd=CENT // 2),
    ],
)
def test_pending_assumed_and_recent_amounts_explain_a_difference_up_to_their_sum(found: ReconciledAccount) -> None:
    assert found.upstream_pusd is not None
    assert found.balances
    assert found.drift_pusd == found.upstream_pusd - CENT
    assert "pending, assumed" in found.verdict
    beyond_pusd = TOLERANCE_PUSD + 1 if found.upstream_pusd else -TOLERANCE_PUSD - 1
    assert not replace(found, upstream_pusd=found.upstream_pusd + beyond_pusd).balances


def test_a_pending_amount_does_not_explain_a_bill_below_the_ledger() -> None:
    assert not row(0, pending_pusd=CENT).balances
    assert not row(2 * CENT, assumed_pusd=CENT, recent_pusd=CENT).balances


def test_an_account_without_a_figure_balances() -> None:
    found = row(None)
    assert (found.drift_pusd, found.unexplained_pusd, found.balances) == (None, 0, True)
    assert found.verdict.startswith("no figure")
    assert Reconciliation((found,)).exit_code == 0


def test_entries_that_do_not_add_up_are_drift_to_the_pico_dollar() -> None:
    found = row(entries_pusd=CENT - 1)
    assert not found.balances
    assert "entries" in found.verdict
    assert Reconciliation((found,)).exit_code == 3


def test_an_overrun_is_worse_than_drift() -> None:
    assert Reconciliation((row(0), row(account="b", overrun_pusd=1))).exit_code == 4


def test_the_total_has_a_figure_only_if_every_account_has() -> None:
    whole = Reconciliation((row(), row(CENT + 5, account="b", assumed_pusd=7))).total
    assert (whole.posted_pusd, whole.upstream_pusd, whole.drift_pusd, whole.assumed_pusd) == (
        2 * CENT,
        2 * CENT + 5,
        5,
        7,
    )
    assert Reconciliation((row(), row(None, account="b"))).total.upstream_pusd is None
    assert Reconciliation(()).total.upstream_pusd is None


def test_the_json_has_exact_amounts() -> None:
    found = Reconciliation((row(CENT + 1),), (QuarantinedEndpoint("m/x", "tag", "overrun", 0.0),)).to_json()
    (account,) = found["accounts"]
    assert (account["posted_usd"], account["upstream_usd"]) == ("0.01", "0.010000000001")
    assert account["drift_usd"] == found["total"]["drift_usd"] == "0.000000000001"
    assert account["unexplained_usd"] == "0.000000000001"
    assert found["quarantined"] == [{"model": "m/x", "tag": "tag", "reason": "overrun"}]
    assert found["exit_code"] == 0
    assert Reconciliation((row(None),)).to_json()["accounts"][0]["drift_usd"] is None
