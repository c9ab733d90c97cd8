"""The clean-up of a trial: its order, what is verified, and what is said if it cannot be."""

import threading

import pytest

import agent_preflight
from agent_preflight.events import EventLogger
from agent_preflight.runner import cleanup
from agent_preflight.runs.result import exit_code
from agent_preflight.runs.trial_state import TrialState
from agent_preflight.sandboxes.interface import Step
from agent_preflight.sandboxes.process import ProcessSandbox
from agent_preflight.sidecar.control_client import ControlClient, ControlError
from openrouter_sim import Scenario
from preflight_proxy.base.control_messages import AccountSpec, Balance
from preflight_proxy.core.errors import OperatingError
from tests.support.trial_field import Field

pytestmark = pytest.mark.wire

STATES = [state.text for state in TrialState if state is not TrialState.PLANNED]
ORDER = ["freeze", "kill", "output", "sandbox", "settle", "key_usage", "account", "sub_key"]


def test_the_steps_have_one_order_and_each_is_logged(trials: Field) -> None:
    (result,) = trials.run({"a": "call()"})
    events = EventLogger.read(trials.run_dirs[0] / "a" / "events.jsonl")
    assert [event["step"] for event in events if event["type"] == "preflight_cleanup"] == ORDER
    assert [event["state"] for event in events if event["type"] == "preflight_state"] == STATES
    assert set(result.preflight["cleanup"].values()) == {"ok"}
    assert result.preflight["key_usage_usd"] == result.preflight["posted_usd"]


def test_the_cost_of_a_call_that_runs_at_the_end_is_posted(trials: Field) -> None:
    trials.simulator.scenario = Scenario(tokens_per_s=50.0)
    source = """
        body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100, "stream": True}
        request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
            {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"})
        answer = urllib.request.urlopen(request)  # its head is there, its body is to come
        sys.exit()
    """
    (result,) = trials.run({"a": source})
    assert result.preflight["pending_usd"] == "0"
    assert result.cost_usd is not None
    assert result.preflight["calls"] == 1
    assert result.preflight["posted_usd"] != "0"


def test_the_sub_key_is_not_deleted_while_a_cost_is_pending(trials: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    trials.may_differ = True
    monkeypatch.setattr(cleanup, "TRIAL_SETTLE_S_MAX", -1.0)
    trials.simulator.scenario = Scenario(tokens_per_s=10.0)
    source = """
        body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100, "stream": True}
        request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
            {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"})
        answer = urllib.request.urlopen(request)
        sys.exit()
    """
    (result,) = trials.run({"a": source})
    steps = result.preflight["cleanup"]
    assert (steps["settle"], steps["account"], steps["sub_key"]) == ("unverified", "unverified", "unverified")
    assert result.preflight["pending_usd"] != "0"
    assert any("is still pending" in text for text in result.preflight["warnings"])
    (key,) = [key for key in trials.simulator.bill().keys.values() if ":a:" in key.name]
    assert not key.deleted


def test_a_trial_without_a_served_call_has_failed(trials: Field) -> None:
    (result,) = trials.run({"a": "call('no/such'); say('agent_end', status='done')"})
    why = "1 call was refused, the first to no/such: This model has no known price, so its cost has no bound."
    assert result.error == f"no call was served: {why}"
    assert (result.preflight["warnings"], exit_code([result])) == ([why], 1)


def test_a_sub_key_that_cannot_be_deleted_is_reported(trials: Field) -> None:
    trials.may_differ = True
    admin = trials.simulator.account.find(trials.simulator.admin_key)
    assert admin is not None

    def take_away(_event: object) -> None:
        admin.management = False

    (result,) = trials.run({"a": "call(); say('x'); time.sleep(0.2)"}, on_event=take_away)
    assert result.preflight["cleanup"]["sub_key"] == "unverified"
    assert any("7 days" in warning for warning in result.preflight["warnings"])
    assert exit_code([result]) == 5


def test_a_key_usage_above_the_ledger_is_drift(trials: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_preflight, "get_usage", lambda key: 9.5, raising=False)
    (result,) = trials.run({"a": "call()"})
    assert result.preflight["key_usage_usd"] == "9.5"
    assert exit_code([result]) == 3


def test_an_account_that_the_proxy_does_not_know_needs_no_freeze(
    trials: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy refused to open it, so no call was let through."""
    refuse_to_open(monkeypatch)
    (result,) = trials.run({"a": "call()"})
    assert (result.error, result.cost_usd) == ("the key's usage cannot be read", None)
    assert set(result.preflight["cleanup"].values()) == {"ok"}


def test_a_freeze_with_another_error_does_not_prove_that_there_is_no_account(
    trials: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials.may_differ = True  # the key stays, because it is not known what was spent with it
    refuse_to_open(monkeypatch)

    async def freeze(client: ControlClient, account_id: str, reason: str) -> Balance:
        raise ControlError("internal", "something else is wrong")

    monkeypatch.setattr(ControlClient, "freeze", freeze)
    (result,) = trials.run({"a": "call()"})
    steps = result.preflight["cleanup"]
    assert (steps["freeze"], steps["settle"], steps["sub_key"]) == ("failed", "failed", "unverified")
    assert "freeze: something else is wrong" in result.preflight["warnings"]
    assert exit_code([result]) == 5


def test_the_thread_of_user_code_ends_also_after_a_failed_step(trials: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    async def close(sandbox: ProcessSandbox) -> dict[str, Step]:
        raise OperatingError("the engine does not answer")

    monkeypatch.setattr(ProcessSandbox, "close", close)
    (result,) = trials.run({"alone": "call()"})
    assert result.preflight["cleanup"]["sandbox"] == "failed"
    for thread in threading.enumerate():
        if thread.name == "trial alone":
            thread.join(10)
            assert not thread.is_alive()


def refuse_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the proxy answer the opening of an account with an error."""

    async def refuse(client: ControlClient, account_id: str, spec: AccountSpec) -> Balance:
        raise ControlError("upstream", "the key's usage cannot be read")

    monkeypatch.setattr(ControlClient, "open", refuse)
