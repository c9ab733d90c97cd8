"""A trial's result, its summary and the exit code."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec import structs

from agent_preflight.models import CacheStats, RunResult
from agent_preflight.runs.plan import PriorAttempt, TrialPlan
from agent_preflight.runs.result import TrialFacts, exit_code, result_of, summary_document, unexplained_usage_pusd
from agent_preflight.runs.trial_state import Ender, EndReason
from agent_preflight.sandboxes.interface import Exit
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.refusals.outcomes import NONE_YET, bad_request, refused
from preflight_proxy.core.refusals.refusals import Code
from tests.support.cases import each

PLAN = TrialPlan("a", "m/m", 250_000_000_000, "k", ())
AT = datetime(2027, 1, 1, tzinfo=UTC)
BALANCE = Balance(
    limit_pusd=PLAN.budget_pusd, posted_pusd=1_234_567_890, calls=2, prompt_tokens=100, cached_tokens=40, refused=1
)
FACTS = TrialFacts(
    EndReason(Ender.AGENT), Exit(0), AT, AT, 12.6, BALANCE, key_usage_usd=Decimal("0.0012345"), cleanup={"kill": "ok"}
)


def test_the_cost_is_the_ledgers_and_exact_beside_the_rounded_one() -> None:
    result = result_of(PLAN, "sealed", FACTS)
    assert result.preflight["posted_usd"] == "0.00123456789"
    assert result.to_dict()["cost_usd"] == 0.0012


def test_the_known_keys_come_first_and_ours_stand_under_one() -> None:
    document = summary_document(result_of(PLAN, "sealed", FACTS))
    assert list(document)[:3] == ["alias", "model_id", "budget_usd"]
    assert list(document)[-1] == "preflight"
    assert document["preflight"]["cleanup"] == {"kill": "ok"}
    assert document["preflight"]["key_usage_usd"] == "0.0012345"
    assert document["duration_s"] == 12.6


def test_cache_figures_are_the_ledgers_and_the_agents_own_are_claims() -> None:
    claims = CacheStats(total_prompt_tokens=7, request_count=1)
    result = result_of(PLAN, "sealed", replace(FACTS, claims=claims))
    assert (result.cache.total_prompt_tokens, result.cache.hit_rate) == (100, 0.4)
    assert result.preflight["claims"]["total_prompt_tokens"] == 7


def test_an_agent_that_never_called_is_believed_what_it_claims() -> None:
    claims = CacheStats(total_prompt_tokens=7, request_count=1)
    assert result_of(PLAN, "sealed", replace(FACTS, balance=Balance(), claims=claims)).cache == claims


def test_what_became_of_the_calls_stands_in_the_summary() -> None:
    outcomes = NONE_YET.with_unserved(bad_request("no such field"))
    result = result_of(
        PLAN, "sealed", replace(FACTS, balance=structs.replace(BALANCE, outcomes=outcomes), warnings=("other",))
    )
    extra = json.loads(json.dumps(summary_document(result)))["preflight"]
    assert (extra["status"], extra["served"], extra["never_served"]) == ("failed", 0, "bad_request")
    (cause,) = extra["not_served"]
    assert (cause["code"], cause["source"], cause["text"], cause["count"]) == (
        *("bad_request", "request", "no such field", 1),
    )
    assert extra["warnings"] == ["other", "1 call was refused: no such field"]


def test_a_spent_budget_is_no_error_and_has_a_note() -> None:
    spent = structs.replace(BALANCE, outcomes=NONE_YET.with_served().with_unserved(refused(Code.SPENT, "m/m")))
    result = result_of(PLAN, "sealed", replace(FACTS, exit=Exit(1), balance=spent))
    assert (result.error, result.preflight["status"], len(result.preflight["notes"])) == (None, "spent", 1)


def test_a_trial_without_an_account_has_no_cost() -> None:
    result = result_of(
        PLAN, "sealed", replace(FACTS, ending=EndReason(Ender.PROVISIONING, "no"), balance=None, exit=None)
    )
    assert result.cost_usd is None
    assert result.error == "provisioning_failed: no"
    assert result.preflight["exit_code"] is None


def result(error: str | None = None, **extra: Any) -> RunResult:
    return RunResult("a", "m", 1.0, error=error, preflight=extra)


@each(
    "results, code",
    [
        ([], 0),
        ([result()], 0),
        ([result("ejected: idle")], 0),
        ([result("stopped by a person", status="stopped")], 0),
        ([result("stopped by a person", status="stopped"), result("x", status="failed")], 1),
        ([result("stopped by a person", status="stopped", cleanup={"kill": "unverified"})], 5),
        ([result("interrupted", status="interrupted")], 1),
        ([result("the agent ended with exit code 3")], 1),
        ([result(warnings=["drift: OpenRouter counts $1"])], 3),
        ([result(overrun_usd="0.1"), result("failed")], 4),
        ([result(overrun_usd="0.1"), result(cleanup={"kill": "unverified"})], 5),
        ([result(overrun_usd="0", cleanup={"kill": "ok"})], 0),
    ],
)
def test_the_gravest_result_decides(results: list[RunResult], code: int) -> None:
    assert exit_code(results) == code


def test_trials_that_were_held_back_are_a_failure_of_the_run() -> None:
    assert exit_code([result()], ["b"]) == 1
    assert exit_code([result(overrun_usd="0.1")], ["b"]) == 4


def test_what_earlier_attempts_spent_does_not_hide_usage_that_the_ledger_lacks() -> None:
    plan = replace(PLAN, prior=PriorAttempt(posted_pusd=10**12, limit_pusd=2 * 10**12))
    balance = Balance(posted_pusd=10**12 + 7, pending_pusd=3)
    assert unexplained_usage_pusd(plan, balance, Decimal("0.000000000010")) == 0
    assert unexplained_usage_pusd(plan, balance, Decimal("0.5")) == 5 * 10**11 - 10
