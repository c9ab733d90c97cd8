"""Seven clients as agents of a run, as their users run them: no prompt but their own, and what the product tells them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from agent_preflight import RunResult, run_multi
from openrouter_sim import FaultRule, Scenario, make_fault
from tests.clients.agents import CLIENTS, ENV, OPENROUTER_STREAM, SAYS, Client, claude_code, codex, pi, python
from tests.support.trial_field import Field

pytestmark = [pytest.mark.wire, pytest.mark.timeout(600)]  # the first test of each installs it

TRIAL_S_MAX = 180.0
"""A guard against a client that never ends."""
RICH_USD = "1.00"

each_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
CLAUDE_CODE, CODEX, PI = CLIENTS["claude-code"], CLIENTS["codex"], CLIENTS["pi"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a trial ended.

    Attributes:
        result: What the run returned.
        events: What the client printed, one for each line.
        said: The same as text, and what it wrote to standard error.
        lines: What the ledger has of its calls.
    """

    result: RunResult
    events: list[dict[str, Any]]
    said: str
    lines: list[dict[str, Any]]

    @property
    def outcome(self) -> tuple[str, str | None]:
        """Status and error."""
        return self.result.preflight["status"], self.result.error


def run(trials: Field, client: Client, command: list[str] | None = None, **options: Any) -> Ended:
    """Run one client, with a budget of a dollar unless another is given."""
    events: list[dict[str, Any]] = []
    given = trials.options(
        {},
        command=command or client.command(),
        env=ENV,
        timeout_s=TRIAL_S_MAX,
        idle_timeout_s=TRIAL_S_MAX,
        on_event=events.append,
        **{"budget_usd": RICH_USD, **options},
    )
    (result,) = run_multi([(client.model, "a")], **given)
    folder = trials.run_dirs[-1]
    printed = "\n".join(str(event.get("data", "")) for event in events)
    lines = [json.loads(line) for line in (folder / "costs.jsonl").read_text().splitlines()]
    events = [event for event in events if event["type"] != "preflight_notice"]  # what the client printed
    return Ended(result, events, printed + (folder / "a" / "stderr.log").read_text(), lines)


@each_client
def test_it_works_until_its_task_is_done(trials: Field, client: Client) -> None:
    trials.simulator.scenario = Scenario(replies=client.two_turns)
    ended = run(trials, client)
    assert ended.outcome == ("done", None), ended.said
    assert ended.events[-1]["data"] == SAYS
    assert (ended.result.preflight["served"], ended.result.preflight["not_served"]) == (2, [])


@each_client
def test_it_ends_by_itself_when_its_budget_is_spent(trials: Field, client: Client) -> None:
    """Each exits with 1; a budget that is used up is no failure."""
    trials.simulator.scenario = Scenario(replies=(client.goes_on,))
    ended = run(trials, client, budget_usd=client.budget_usd)
    assert ended.outcome == ("spent", None), ended.said
    assert (ended.result.preflight["ended_by"], ended.result.preflight["exit_code"]) == ("agent", 1)
    assert ended.result.preflight["served"] >= 2
    assert 0 < trials.simulator.bill().total_usd <= Decimal(client.budget_usd)


@pytest.mark.parametrize("fault", ["silent_close", "reset"])
@pytest.mark.parametrize(
    ("client", "api"), [(PI, "chat"), (CODEX, "responses"), (CLAUDE_CODE, "messages")], ids=["pi", "codex", "claude"]
)
def test_it_asks_again_when_a_stream_breaks_in_the_middle_of_its_task(
    trials: Field, client: Client, api: str, fault: str
) -> None:
    """The retry is a call like any other, with a reservation of its own; each is posted as it was billed."""
    broken = FaultRule(make_fault(fault, {}), api=api, stream=True, after=1, times=1)
    trials.simulator.scenario = Scenario(replies=client.two_turns, faults=(broken,), tokens_per_chunk=1)
    ended = run(trials, client)
    assert ended.outcome == ("done", None), ended.said
    assert trials.simulator.strikes[fault] == 1
    assert SAYS in ended.said
    assert len({line["reservation_id"] for line in ended.lines}) == len(trials.simulator.requests) == 3
    assert (ended.result.preflight["calls"], ended.result.preflight["pending_usd"]) == (3, "0")
    assert Decimal(ended.result.preflight["posted_usd"]) == trials.simulator.bill().total_usd > 0


def test_openrouters_sdk_reads_that_a_response_broke_off(trials: Field) -> None:
    """By its own schema: what it cannot read is an unknown event to it."""
    client = CLIENTS["openrouter"]
    broken = FaultRule(make_fault("reset", {}), api="responses", times=1)
    trials.simulator.scenario = Scenario(replies=(client.ends,), faults=(broken,))
    ended = run(trials, client, python(OPENROUTER_STREAM)())
    assert ended.outcome == ("done", None), ended.said
    assert [event["data"] for event in ended.events] == [
        "StreamEventsResponseFailed server_error",
        "StreamEventsResponseCompleted None",
    ]


def refused(message: str, times: int | None = None) -> Scenario:
    """A refusal that passes down as it is, so often; pi asks again where it says "overloaded"."""
    refusal = make_fault("http_error", {"status": 400, "message": message})
    return Scenario(replies=(PI.ends,), faults=(FaultRule(refusal, api="chat", times=times),))


def test_pi_goes_on_after_its_automatic_retry(trials: Field) -> None:
    """It says that it has ended, waits two seconds, and asks again."""
    trials.simulator.scenario = refused("The model is overloaded.", times=1)
    ended = run(trials, PI, pi("--mode", "json"))
    types = [event["type"] for event in ended.events]
    assert types.index("agent_end") < types.index("auto_retry_start") < len(types) - 1
    assert (ended.result.error, ended.result.preflight["ended_by"]) == (None, "agent_end")
    assert ended.events[-1]["messages"][-1]["content"][0]["text"] == SAYS


def test_pi_that_ends_with_an_error_has_failed_though_it_exits_with_0(trials: Field) -> None:
    trials.simulator.scenario = refused("The plan is not for models.")
    status, error = run(trials, PI, pi("--mode", "json")).outcome
    assert status == "failed"
    assert error is not None
    assert "the agent's last message is an error: 400 The plan is not for models." in error


def test_codex_with_full_access_works_without_the_search_that_it_declares(trials: Field) -> None:
    trials.simulator.scenario = Scenario(replies=CODEX.two_turns)
    ended = run(trials, CODEX, codex("--dangerously-bypass-approvals-and-sandbox"))
    assert ended.outcome == ("done", None), ended.said
    assert (ended.result.preflight["served"], ended.result.preflight["not_served"]) == (2, [])
    assert b'"web_search"' not in b"".join(request.body for request in trials.simulator.requests)


def test_claude_code_finds_its_input_at_its_end(trials: Field) -> None:
    """It waits three seconds for an input that is open, and says so."""
    trials.simulator.scenario = Scenario(replies=(CLAUDE_CODE.ends,))
    assert "no stdin data received" not in run(trials, CLAUDE_CODE).said
    assert "no stdin data received" in run(trials, CLAUDE_CODE, stdin="open").said


def at_base(base_url: str) -> list[str]:
    return claude_code(f'export ANTHROPIC_BASE_URL="{base_url}";')


@pytest.mark.parametrize("base_url", ["$ANTHROPIC_BASE_URL/v1", "$ANTHROPIC_BASE_URL/", "$ANTHROPIC_BASE_URL/v1/"])
def test_claude_code_works_where_its_base_url_is_one_step_off(trials: Field, base_url: str) -> None:
    trials.simulator.scenario = Scenario(replies=(CLAUDE_CODE.ends,))
    ended = run(trials, CLAUDE_CODE, at_base(base_url))
    assert ended.outcome == ("done", None), ended.said
    assert ended.result.preflight["served"] == 1


def test_claude_code_is_told_the_right_base_url_where_its_own_is_wrong(trials: Field) -> None:
    """It does not say that something is wrong with the model."""
    ended = run(trials, CLAUDE_CODE, at_base("$ANTHROPIC_BASE_URL/proxy"))
    assert ended.result.preflight["status"] == "failed"
    assert "The base URL of Anthropic's clients (ANTHROPIC_BASE_URL) is http://127.0.0.1:" in ended.said
    assert "selected model" not in ended.said
    assert trials.simulator.requests == []
