"""A summary that was left open gets the figures that came late, and no other is touched."""

from decimal import Decimal
from typing import Any

from agent_preflight.base.usd import pusd
from agent_preflight.sweeping.completed import SETTLED_LATE, Known, completed
from preflight_proxy.base.control_messages import Balance

OPEN: dict[str, Any] = {
    "alias": "a",
    "cost_usd": 0.1,
    "preflight": {
        "ended_by": "agent_end",
        "posted_usd": "0.1",
        "pending_usd": "0.05",
        "drift_usd": "0.02",
        "warnings": ["it was slow"],
        "cleanup": {"freeze": "ok", "settle": "unverified", "account": "unverified", "sub_key": "unverified"},
    },
}
KNOWN = Known(Balance(posted_pusd=pusd("0.12"), assumed_pusd=pusd("0.02"), calls=3), spent_before_pusd=pusd("0.1"))


def test_the_late_figures_stand_in_it_and_every_step_is_ok() -> None:
    summary = completed(OPEN, KNOWN, Decimal("0.020"))
    assert summary is not None
    extra = summary["preflight"]
    assert (summary["alias"], summary["cost_usd"], extra["ended_by"], extra["calls"]) == ("a", 0.12, "agent_end", 3)
    amounts = [extra[f"{name}_usd"] for name in ("posted", "pending", "assumed", "key_usage", "drift")]
    assert amounts == ["0.12", "0", "0.02", "0.02", "0"]
    assert extra["cleanup"] == {"freeze": "ok", "settle": "ok", "account": "ok", "sub_key": "ok"}
    assert extra["warnings"] == ["it was slow", SETTLED_LATE]


def test_a_figure_that_was_not_told_leaves_the_earlier_one() -> None:
    summary = completed(OPEN, KNOWN, None)
    assert summary is not None
    assert summary["preflight"]["drift_usd"] == "0.02"


def test_a_summary_that_is_whole_stays_as_it_is() -> None:
    whole = {**OPEN, "preflight": {**OPEN["preflight"], "cleanup": {"settle": "ok", "sub_key": "ok"}}}
    assert completed(whole, KNOWN, None) is None
    assert completed({"preflight": []}, KNOWN, None) is None


def test_while_something_is_pending_or_no_account_is_known_nothing_is_completed() -> None:
    assert completed(OPEN, Known(Balance(pending_pusd=1)), None) is None
    assert completed(OPEN, Known(), None) is None
