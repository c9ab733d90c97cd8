"""A trial's verdict, result and summary, and the exit code of a run."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from agent_preflight.base.usd import cents_up, pusd
from agent_preflight.eject import EjectPolicy
from agent_preflight.models import CacheStats, RunResult
from agent_preflight.runs.folder import read_control
from agent_preflight.runs.plan import PriorAttempt, TrialPlan
from agent_preflight.runs.result import (
    KEY_STOPPED,
    NEVER_CALLED,
    NO_CALL,
    NOTICES_MAX,
    RefusalNotices,
    TrialFacts,
    exit_code,
    judge,
    result_of,
    summary_document,
    unexplained_usage_pusd,
)
from agent_preflight.runs.trial_state import INTERRUPTED, Ender, EndReason
from agent_preflight.sandboxes.interface import Exit
from agent_preflight.sidecar.control_client import ControlClient
from openrouter_sim import FaultRule, Scenario, make_fault
from preflight_proxy.base.control_messages import Balance, LedgerEvent
from preflight_proxy.core.refusals.outcomes import (
    LEFT,
    NONE_YET,
    Cause,
    Outcomes,
    answered_upstream,
    bad_request,
    refused,
)
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.secret import Secret
from tests.support.cases import each
from tests.support.live_field import LiveField
from tests.support.trial_field import DEAR_MODEL, MODEL, Field

PLAN = TrialPlan("a", "m/m", 250_000_000_000, "k", ())
AT = datetime(2027, 1, 1, tzinfo=UTC)
BALANCE = Balance(
    limit_pusd=PLAN.budget_pusd, posted_pusd=1_234_567_890, calls=2, prompt_tokens=100, cached_tokens=40, refused=1
)
FACTS = TrialFacts(
    EndReason(Ender.AGENT), Exit(0), AT, AT, 12.6, BALANCE, key_usage_usd=Decimal("0.0012345"), cleanup={"kill": "ok"}
)


def test_the_cost_is_the_ledger_s_exact_and_rounded() -> None:
    result = result_of(PLAN, "sealed", FACTS)
    assert result.preflight["posted_usd"] == "0.00123456789"
    assert result.to_dict()["cost_usd"] == 0.0012


def test_the_keys_of_the_old_format_come_first_in_a_summary() -> None:
    document = summary_document(result_of(PLAN, "sealed", FACTS))
    assert list(document)[:3] == ["alias", "model_id", "budget_usd"]
    assert list(document)[-1] == "preflight"
    assert document["preflight"]["cleanup"] == {"kill": "ok"}
    assert document["preflight"]["key_usage_usd"] == "0.0012345"
    assert document["duration_s"] == 12.6


def test_the_summary_has_the_room_of_the_key() -> None:
    assert result_of(PLAN, "sealed", FACTS).preflight["key_room_usd"] == "0.01"
    assert result_of(replace(PLAN, key_room_pusd=pusd("0.61")), "sealed", FACTS).preflight["key_room_usd"] == "0.61"


def test_cache_figures_are_the_ledgers_and_the_agents_own_are_claims() -> None:
    claims = CacheStats(total_prompt_tokens=7, request_count=1)
    result = result_of(PLAN, "sealed", structs.replace(FACTS, claims=claims))
    assert (result.cache.total_prompt_tokens, result.cache.hit_rate) == (100, 0.4)
    assert result.preflight["claims"]["total_prompt_tokens"] == 7


def test_without_calls_the_cache_figures_are_the_agent_s_claims() -> None:
    claims = CacheStats(total_prompt_tokens=7, request_count=1)
    assert result_of(PLAN, "sealed", structs.replace(FACTS, balance=Balance(), claims=claims)).cache == claims


def test_the_summary_has_the_outcomes_of_the_calls() -> None:
    outcomes = NONE_YET.with_unserved(bad_request("no such field"))
    result = result_of(
        PLAN, "sealed", structs.replace(FACTS, balance=structs.replace(BALANCE, outcomes=outcomes), warnings=("other",))
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
    result = result_of(PLAN, "sealed", structs.replace(FACTS, exit=Exit(1), balance=spent))
    assert (result.error, result.preflight["status"], len(result.preflight["notes"])) == (None, "spent", 1)


def test_a_trial_without_an_account_has_no_cost() -> None:
    result = result_of(
        PLAN, "sealed", structs.replace(FACTS, ending=EndReason(Ender.PROVISIONING, "no"), balance=None, exit=None)
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
def test_the_worst_result_decides_the_exit_code(results: list[RunResult], code: int) -> None:
    assert exit_code(results) == code


def test_trials_that_were_held_back_are_a_failure_of_the_run() -> None:
    assert exit_code([result()], ["b"]) == 1
    assert exit_code([result(overrun_usd="0.1")], ["b"]) == 4


def test_spend_of_earlier_attempts_does_not_hide_usage_that_the_ledger_lacks() -> None:
    plan = replace(PLAN, prior=PriorAttempt(posted_pusd=10**12, limit_pusd=2 * 10**12))
    balance = Balance(posted_pusd=10**12 + 7, pending_pusd=3)
    assert unexplained_usage_pusd(plan, balance, Decimal("0.000000000010")) == 0
    assert unexplained_usage_pusd(plan, balance, Decimal("0.5")) == 5 * 10**11 - 10


LIMIT_PUSD = 50_000_000_000
NO_BOUND = bad_request("plugins: its price has no bound")
DEAR = refused(Code.DOES_NOT_FIT, "m/dear")
NEEDS = refused(Code.DOES_NOT_FIT, "m/dear", 60_000_000_001)
LATE = refused(Code.FROZEN, "m/x")
GONE = answered_upstream(404, b'{"error":{"message":"no endpoint"}}', Secret(""), "m/x")
NO_CREDIT = refused(Code.ACCOUNT_CREDIT, "m/x")
CAPPED = refused(Code.TRIAL_KEY_LIMIT, "m/x")
SERVED = None
AT_404 = "OpenRouter answered with status 404: no endpoint"
WITHOUT_CREDIT = f"the first to m/x: {Code.ACCOUNT_CREDIT.sentence}"
SPENT_NOTE = "the budget of $0.05 is spent: it did not cover the last call"
NOT_SERVED = f"the first to m/x: {AT_404}"
NO_MODEL = "so the agent had no model at its end: " + AT_404
DONE, FAILED = EndReason(Ender.AGENT_END), EndReason(Ender.AGENT)
EJECTED = EndReason(Ender.EJECTED, "idle")


def after(*calls: Cause | None) -> Outcomes:
    outcomes = NONE_YET
    for cause in calls:
        outcomes = outcomes.with_served() if cause is None else outcomes.with_unserved(cause)
    return outcomes


@each(
    "ending, calls, status, error, notes",
    [
        (DONE, [SERVED], "done", None, []),
        (FAILED, [SERVED], "failed", "the agent ended with exit code 1", []),
        # Never called.
        (DONE, [], "done", None, [NEVER_CALLED]),
        (FAILED, [], "failed", "the agent ended with exit code 1", [NEVER_CALLED]),
        (EJECTED, [], "ejected", "ejected: idle", [NEVER_CALLED]),
        (INTERRUPTED, [], "interrupted", "interrupted", []),
        (DONE, [LATE], "done", None, []),
        # Never served.
        (DONE, [GONE, GONE, NO_BOUND], "failed", f"no call was served: 2 of 3 calls were not served, {NOT_SERVED}", []),
        (DONE, [GONE, LATE, LATE], "failed", f"no call was served: 1 call was not served, {NOT_SERVED}", []),
        (DONE, [NO_BOUND], "failed", "no call was served: 1 call was refused: plugins: its price has no bound", []),
        (DONE, [LEFT], "failed", f"no call was served: 1 call was not served: {LEFT.text}", []),
        (
            FAILED,
            [NO_CREDIT],
            "failed",
            f"no call was served: 1 call was not served, {WITHOUT_CREDIT.rstrip('.')}; the agent ended with exit code 1",
            [],
        ),
        (EJECTED, [GONE], "ejected", "ejected: idle", [f"no call was served: 1 call was not served, {NOT_SERVED}"]),
        # The budget covers no call at all.
        (DONE, [DEAR, DEAR], "failed", "the budget of $0.05 covers no call: 2 calls were refused, the first to m/dear", []),
        (DONE, [NEEDS, LATE, LATE], "failed",
         "the budget of $0.05 covers no call: 1 call was refused, the first to m/dear; it needs a budget of $0.07", []),
        # Lost its model.
        (DONE, [SERVED, GONE], "done", None, [f"the last call was not served, {NO_MODEL}"]),
        (FAILED, [SERVED, GONE, GONE, LATE, LEFT], "failed", "the agent ended with exit code 1",
         [f"the last 2 calls were not served, {NO_MODEL}"]),
        (EJECTED, [SERVED, GONE], "ejected", "ejected: idle", [f"the last call was not served, {NO_MODEL}"]),
        (DONE, [SERVED, NO_BOUND, GONE], "done", None, []),
        (DONE, [SERVED, GONE, SERVED], "done", None, []),
        # Stopped by the limit of its key.
        (DONE, [SERVED, CAPPED], "failed", KEY_STOPPED, []),
        (DONE, [SERVED, CAPPED, SERVED, LATE], "failed", KEY_STOPPED, []),
        (FAILED, [SERVED, CAPPED, LATE], "failed", f"{KEY_STOPPED}; the agent ended with exit code 1", []),
        (EJECTED, [SERVED, CAPPED], "ejected", "ejected: idle",
         [f"the last call was not served, so the agent had no model at its end: {Code.TRIAL_KEY_LIMIT.sentence}"]),
        (DONE, [CAPPED, LATE], "failed",
         f"no call was served: 1 call was not served, the first to m/x: {Code.TRIAL_KEY_LIMIT.sentence}", []),
        (DONE, [SERVED, refused(Code.KEY_LIMIT, "m/x"), SERVED], "done", None, []),  # of a workspace: the key goes on
        # Spent.
        (DONE, [SERVED, DEAR], "spent", None, [SPENT_NOTE]),
        (FAILED, [SERVED, DEAR], "spent", None, [f"{SPENT_NOTE} (the agent ended with exit code 1)"]),
        (FAILED, [SERVED, DEAR, LATE, LEFT], "spent", None, [f"{SPENT_NOTE} (the agent ended with exit code 1)"]),
        (FAILED, [SERVED, LATE], "failed", "the agent ended with exit code 1", []),
        (FAILED, [SERVED, DEAR, SERVED], "failed", "the agent ended with exit code 1", []),
        (FAILED, [SERVED, DEAR, GONE], "failed", "the agent ended with exit code 1", []),
        (EJECTED, [SERVED, DEAR], "ejected", "ejected: idle", []),
        (EndReason(Ender.STOPPED, "by hand"), [SERVED, DEAR], "stopped", "by hand", []),
        (EndReason(Ender.CALLBACK, "boom"), [SERVED, DEAR], "failed", "boom", []),
    ],
)  # fmt: skip
def test_the_reason_of_the_end_and_the_outcomes_of_calls_decide_the_verdict(
    ending: EndReason, calls: list[Cause | None], status: str, error: str | None, notes: list[str]
) -> None:
    verdict = judge(ending, Exit(1), after(*calls), LIMIT_PUSD)
    assert (verdict.status, verdict.error, list(verdict.notes)) == (status, error, notes)


@each(
    "ending, exit_, calls, error, notes",
    [
        (FAILED, Exit(1), [], "the agent ended with exit code 1: no config found", [NO_CALL]),
        (FAILED, Exit(1), [SERVED], "the agent ended with exit code 1: no config found", []),
        (FAILED, Exit(0), [], None, [NEVER_CALLED]),
        (FAILED, Exit(137, out_of_memory=True), [SERVED], "the agent was killed: out of memory", []),
        (DONE, Exit(1), [], None, [NEVER_CALLED]),
        (EJECTED, Exit(1), [], "ejected: idle", [NEVER_CALLED]),
    ],
)
def test_the_last_line_of_stderr_is_added_to_an_unexplained_error(
    ending: EndReason, exit_: Exit, calls: list[Cause | None], error: str | None, notes: list[str]
) -> None:
    verdict = judge(ending, exit_, after(*calls), LIMIT_PUSD, "no config found")
    assert (verdict.error, list(verdict.notes)) == (error, notes)


def test_an_error_that_calls_explain_has_no_line_of_stderr() -> None:
    for calls in ([GONE], [NO_CREDIT], [DEAR], [SERVED, DEAR]):
        verdict = judge(FAILED, Exit(1), after(*calls), LIMIT_PUSD, "Traceback")
        assert "Traceback" not in f"{verdict.error}{verdict.notes}"


def test_a_trial_without_an_account_is_reported_by_its_ending_alone() -> None:
    verdict = judge(EndReason(Ender.PROVISIONING, "no key"), None, None, LIMIT_PUSD)
    assert (verdict.status, verdict.error, verdict.warnings) == ("failed", "provisioning_failed: no key", ())


def test_each_unexpected_cause_is_a_warning() -> None:
    verdict = judge(DONE, None, after(SERVED, GONE, NO_BOUND, GONE, DEAR, LEFT, LATE, SERVED), LIMIT_PUSD)
    assert verdict.warnings == (
        f"2 calls were not served, the first to m/x: {AT_404}",
        "1 call was refused: plugins: its price has no bound",
    )


@each("ending", [DONE, FAILED, EJECTED])
def test_the_cause_for_which_no_call_was_served_is_named_by_its_code(ending: EndReason) -> None:
    assert judge(ending, Exit(1), after(NO_CREDIT, NO_CREDIT, GONE), LIMIT_PUSD).never_served == "account_credit"
    assert judge(ending, Exit(1), after(NO_CREDIT, SERVED), LIMIT_PUSD).never_served is None


def only(trials: Field, source: str, **options: Any) -> RunResult:
    (result,) = trials.run({"a": source}, **options)
    return result


def faults(*rules: FaultRule) -> Scenario:
    return Scenario(faults=rules)


def http_error(status: int, message: str = "Nobody serves this", **rule: Any) -> FaultRule:
    return FaultRule(make_fault("http_error", {"status": status, "message": message}), **rule)


@pytest.mark.wire
def test_an_agent_that_upstream_never_served_has_an_error_that_names_the_cause(trials: Field) -> None:
    trials.simulator.scenario = faults(http_error(404))
    result = only(trials, "[call() for _ in range(3)]; call('no/such'); say('agent_end', status='done')")
    assert result.error is not None
    assert result.error.startswith("no call was served: 3 of 4 calls were not served, the first to openai/gpt-4.1-nano")
    assert "OpenRouter answered with status 404: Nobody serves this" in result.error
    assert (result.preflight["status"], exit_code([result])) == ("failed", 1)
    told = [line for line in trials.said if "was not served: OpenRouter answered with status 404" in line]
    assert told == [f"[a] a call to {MODEL} was not served: OpenRouter answered with status 404: Nobody serves this"]


@pytest.mark.wire
def test_an_agent_that_never_called_is_warned_about(trials: Field) -> None:
    result = only(trials, "say('agent_end', status='done')")
    assert (result.error, result.preflight["status"], exit_code([result])) == (None, "done", 0)
    (warning,) = result.preflight["warnings"]
    assert warning.startswith(
        "the agent made no call: does it read OPENROUTER_BASE_URL? OpenAI clients read OPENAI_BASE_URL"
    )
    assert "ANTHROPIC_BASE_URL" in warning
    told = [line for line in trials.said if "does it read OPENROUTER_BASE_URL?" in line]
    assert len(told) == 1, "the table at the end says it, and nothing else says it again"


@pytest.mark.wire
def test_the_last_line_of_stderr_is_the_reason_of_a_failure(trials: Field) -> None:
    result = only(trials, "sys.stderr.write('reading\\n\\x1b[31mno config found\\x1b[0m\\n\\n'); sys.exit(1)")
    assert result.error == "the agent ended with exit code 1: no config found"
    assert result.preflight["notes"] == [NO_CALL]


@pytest.mark.wire
def test_an_agent_that_lost_its_model_is_warned_about(trials: Field) -> None:
    trials.simulator.scenario = faults(http_error(404, after=1))
    result = only(trials, "[call() for _ in range(3)]; say('agent_end', status='done')")
    assert (result.error, exit_code([result])) == (None, 0)
    (warning,) = [text for text in result.preflight["notes"] if "last" in text]
    assert warning.startswith("the last 2 calls were not served")
    assert "status 404" in warning


@pytest.mark.wire
@pytest.mark.parametrize("last_words", ["sys.exit(3)", "say('agent_end', status='error')", "os.kill(os.getpid(), 9)"])
def test_an_agent_whose_last_call_the_budget_refused_has_spent_it(trials: Field, last_words: str) -> None:
    result = only(trials, f"call(); call('{DEAR_MODEL}', 'x' * 400_000); {last_words}", eject_policy=EjectPolicy())
    assert (result.error, result.preflight["status"], exit_code([result])) == (None, "spent", 0)
    assert any("budget" in text for text in result.preflight["notes"])


@pytest.mark.wire
def test_an_agent_that_goes_on_after_a_refusal_is_judged_by_its_own_end(trials: Field) -> None:
    result = only(trials, f"call(); call('{DEAR_MODEL}', 'x' * 400_000); call(); sys.exit(3)")
    assert result.error == "the agent ended with exit code 3"


@pytest.mark.wire
def test_a_trial_that_the_limit_of_its_key_stopped_has_an_error(trials: Field) -> None:
    message = "Key limit exceeded (total limit)"
    fault = make_fault("http_error", {"status": 403, "message": message, "limit_source": "openrouter_key_limit"})
    trials.simulator.scenario = faults(FaultRule(fault, after=1))
    result = only(trials, "[call() for _ in range(3)]; say('agent_end', status='done')")
    assert (result.error, result.preflight["status"], exit_code([result])) == (KEY_STOPPED, "failed", 1)
    assert result.preflight["served"] == 1
    assert KEY_STOPPED.startswith("OpenRouter refused: the trial's key has reached its limit")


@pytest.mark.wire
def test_a_budget_that_covers_no_call_is_an_error(trials: Field) -> None:
    result = only(trials, f"call('{DEAR_MODEL}', 'x' * 400_000); say('agent_end')", eject_policy=EjectPolicy())
    assert result.error is not None
    assert result.error.startswith("the budget of $0.05 covers no call: 1 call was refused")
    assert "Do not repeat" not in result.error, "that is for the agent"
    (told,) = result.preflight["not_served"]
    needed = Decimal(told["limit_needed_usd"])
    assert needed > Decimal("0.05")
    assert f"it needs a budget of ${cents_up(pusd(needed))}" in result.error
    assert exit_code([result]) == 1


@pytest.mark.wire
def test_a_request_that_the_proxy_refuses_is_counted_and_shown(trials: Field) -> None:
    result = only(trials, "call(); call(plugins=[{'id': 'web'}]); say('agent_end')")
    assert result.preflight["refused"] == 1
    (told,) = result.preflight["not_served"]
    assert told["count"] == 1
    assert "plugins" in told["text"]
    assert any("plugins" in text for text in result.preflight["warnings"])


@pytest.mark.wire
def test_calls_after_the_end_change_nothing(trials: Field) -> None:
    """They are refused because the account is frozen by then, and counted."""
    source = """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        call()
        say("agent_end", status="done")
        while call()[0] == 200: time.sleep(0.1)
        [call() for _ in range(3)]
        time.sleep(60)
    """
    result = only(trials, source)
    assert (result.error, result.preflight["status"], result.preflight["notes"]) == (None, "done", [])
    assert {cause["code"] for cause in result.preflight["not_served"]} <= {"frozen", "left"}


@pytest.mark.wire
def test_an_agent_whom_an_operator_cut_off_has_not_spent_its_budget(trials: Field, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    source = f"""
        call()
        say("ready")
        while not os.path.exists({str(frozen)!r}): time.sleep(0.01)
        call()
        sys.exit(3)
    """

    async def freeze(run_dir: Path) -> None:
        control = read_control(run_dir)
        assert control is not None
        async with ControlClient(control.socket) as client:
            await client.freeze("a", "by hand")

    with LiveField(trials, {"a": source}) as live:
        asyncio.run(freeze(live.run_dir))
        frozen.touch()
        (result,) = live.results()
    assert (result.error, result.preflight["status"]) == ("the agent ended with exit code 3", "failed")
    assert [cause["code"] for cause in result.preflight["not_served"]] == ["frozen"]


@pytest.mark.wire
def test_an_agent_that_gives_up_while_other_calls_are_under_way_has_spent_its_budget(trials: Field) -> None:
    trials.simulator.scenario = Scenario(first_token_s=2.0)
    source = f"""
        import threading
        def reserved():
            headers = {{"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"]}}
            request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/budget", headers=headers)
            return float(json.load(urllib.request.urlopen(request))["reserved_usd"])
        other = threading.Thread(target=call)
        other.start()
        while not reserved(): time.sleep(0.01)
        call("{DEAR_MODEL}", "x" * 400_000)
        other.join()
        sys.exit(3)
    """
    result = only(trials, source)
    assert (result.error, result.preflight["status"], result.preflight["served"]) == (None, "spent", 1)


@pytest.mark.wire
def test_an_agent_that_the_budget_policy_ejects_stays_ejected(trials: Field) -> None:
    result = only(
        trials, f"status = 200\nwhile status == 200: status, _ = call('{DEAR_MODEL}', 'x' * 4000)\ntime.sleep(60)"
    )
    assert (result.error or "").startswith("ejected: budget exhausted")
    assert (result.preflight["status"], exit_code([result])) == ("ejected", 0)


UNPRICED = LedgerEvent(
    type="refused",
    code="unpriced",
    source="proxy",
    model="no/price",
    text="This model has no known price, so its cost has no bound.",
)


def test_a_cause_is_reported_at_its_first_call() -> None:
    refusals = RefusalNotices()
    told = [refusals.notice(UNPRICED), refusals.notice(structs.replace(UNPRICED, model="other/model"))]
    assert told == ["a call to no/price was refused: This model has no known price, so its cost has no bound.", None]


def test_a_report_has_the_answer_of_openrouter() -> None:
    event = LedgerEvent(
        type="unserved", code="upstream_404", source="upstream", text="Status 404", detail="no endpoint", model="m/x"
    )
    assert RefusalNotices().notice(event) == "a call to m/x was not served: Status 404: no endpoint"


@each("source", ["budget", "client", "end", "no such source", None])
def test_expected_and_unknown_causes_are_not_reported(source: str | None) -> None:
    assert RefusalNotices().notice(structs.replace(UNPRICED, source=source)) is None


def test_the_number_of_reports_is_limited() -> None:
    refusals = RefusalNotices()
    told = [refusals.notice(structs.replace(UNPRICED, text=f"field {number}")) for number in range(2 * NOTICES_MAX)]
    assert sum(each is not None for each in told) == NOTICES_MAX
