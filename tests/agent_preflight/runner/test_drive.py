"""A trial from its start to its end: what the agent gets, and what ends it."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from agent_preflight.runner.drive import not_handed_over
from agent_preflight.sandboxes.interface import Pipes
from agent_preflight.sandboxes.process import ProcessSandbox
from agent_preflight.sidecar.keeper import Sidecar
from agent_preflight.status import status_main
from preflight_proxy.base.control_messages import AccountSpec, Balance, LedgerEvent
from tests.support.trial_field import DEAR_MODEL, Field

pytestmark = pytest.mark.wire

SLEEP = "time.sleep(60)"


def only(trials: Field, source: str, **options: Any) -> Any:
    (result,) = trials.run({"a": source}, **options)
    return result


def of_agent(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the agent printed, without the notices."""
    return [event for event in events if event["source"] == "agent"]


def test_an_agent_gets_the_prompt_a_token_and_the_budget_but_no_real_key(trials: Field) -> None:
    source = """
        prompt = json.loads(sys.stdin.readline())
        say("seen", prompt=prompt, env=dict(os.environ), budget=open(os.environ["PREFLIGHT_BUDGET_FILE"]).read())
    """
    events: list[dict[str, Any]] = []
    only(trials, source, initial_prompt="do\nit", env={"MINE": "1"}, on_event=events.append)
    (event,) = of_agent(events)
    assert event["prompt"] == {"id": "init", "type": "prompt", "message": "do\nit"}
    assert event["env"]["OPENROUTER_API_KEY"].startswith("pf-")
    assert event["env"]["MINE"] == "1"
    assert "sk-or-" not in json.dumps(event)
    assert event["budget"] == "Budget: $0.050 remaining of $0.05 (100% left)\n"


READS_TO_THE_END = "say('read', text=sys.stdin.read())"
READS_A_LINE = """
    import select
    line = sys.stdin.readline() if sys.argv[1:] else ""
    say("read", text=line, ended=bool(select.select([sys.stdin], [], [], 1.0)[0]))
"""
"""It sees the end of its input, if that comes within a second."""
PROMPT_LINE = '{"id": "init", "type": "prompt", "message": "do it"}\n'


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, ""),
        ({"stdin": "auto"}, ""),
        ({"stdin": "close"}, ""),
        ({"stdin": "close", "initial_prompt": "do it"}, PROMPT_LINE),
    ],
)
def test_a_closed_input_has_an_end(trials: Field, options: dict[str, Any], text: str) -> None:
    events: list[dict[str, Any]] = []
    result = only(trials, READS_TO_THE_END, on_event=events.append, timeout_s=60, **options)
    assert (result.error, [event["text"] for event in of_agent(events)]) == (None, [text])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"initial_prompt": "do it"}, PROMPT_LINE),
        ({"initial_prompt": "do it", "stdin": "auto"}, PROMPT_LINE),
        ({"initial_prompt": "do it", "stdin": "open"}, PROMPT_LINE),
        ({"stdin": "open"}, ""),
    ],
)
def test_the_input_stays_open_after_a_prompt_or_if_the_user_says_so(
    trials: Field, options: dict[str, Any], text: str
) -> None:
    events: list[dict[str, Any]] = []
    only(trials, READS_A_LINE, on_event=events.append, container_args=["x"] if text else [], **options)
    assert [(event["text"], event["ended"]) for event in of_agent(events)] == [(text, False)]


def test_an_exit_code_other_than_zero_is_a_failure(trials: Field) -> None:
    result = only(trials, "call(); sys.exit(3)")
    assert result.error == "the agent ended with exit code 3"
    assert result.preflight["exit_code"] == 3
    assert result.preflight["calls"] == 1


def test_an_agent_that_is_done_but_does_not_exit_is_ended_without_an_error(trials: Field) -> None:
    result = only(trials, "say('agent_end', status='done'); " + SLEEP)
    assert result.error is None
    assert result.preflight["ended_by"] == "agent_end"
    assert result.duration_s >= 2


GOES_ON = """
    say('agent_end')
    {goes_on}
    time.sleep(3)
    call()
    say('agent_end', status='done')
    time.sleep(60)
"""


@pytest.mark.parametrize(
    "goes_on",
    [
        "say('auto_retry_start', attempt=1)",
        "say('agent_start')",
        "say('agent_end', willRetry=True)",
        "say('compaction_start', reason='overflow')",
        "time.sleep(0.5); say('auto_retry_start', attempt=1)",
    ],
)
def test_an_agent_that_continues_after_agent_end_is_not_ended(trials: Field, goes_on: str) -> None:
    result = only(trials, GOES_ON.format(goes_on=goes_on))
    assert (result.error, result.preflight["ended_by"], result.preflight["calls"]) == (None, "agent_end", 1)


@pytest.mark.parametrize("says", ["pass", "say('turn_start')", "say('compaction_start', reason='threshold')"])
def test_other_events_after_agent_end_do_not_prevent_the_end(trials: Field, says: str) -> None:
    result = only(trials, f"say('agent_end'); {says}; time.sleep(30); call(); " + SLEEP)
    assert (result.error, result.preflight["ended_by"], result.preflight["calls"]) == (None, "agent_end", 0)


FAILS = "say('agent_end', messages=[dict(role='assistant', stopReason='error', errorMessage='\\x1b[31m402 spent.')])"


@pytest.mark.parametrize(
    ("source", "ended_by"),
    [
        (f"{FAILS}; {SLEEP}", "agent_end"),
        (FAILS, "agent_end"),
        (f"{FAILS}; say('auto_retry_start')", "agent"),
        (f"{FAILS}; say('auto_retry_start'); time.sleep(3); {FAILS}", "agent_end"),
    ],
)
def test_a_last_message_that_is_an_error_is_the_trials_error(
    trials: Field, source: str, ended_by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its exit code: pi's is 0 where it prints JSON."""
    result = only(trials, "call(); " + source)
    assert result.error == "the agent's last message is an error: \x1b[31m402 spent."
    assert result.preflight["ended_by"] == ended_by
    status_main(trials.run_dirs[-1].name, trials.runs_dir)
    shown = capsys.readouterr().out + "".join(trials.said)
    assert ("402 spent." in shown, "\x1b" in shown) == (True, False)


def test_an_agent_that_recovers_from_an_error_has_not_failed(trials: Field) -> None:
    fine = "say('agent_end', messages=[dict(role='assistant', stopReason='stop')])"
    result = only(trials, f"{FAILS}; say('auto_retry_start'); time.sleep(3); call(); {fine}")
    assert (result.error, result.preflight["calls"]) == (None, 1)


def test_a_trial_has_a_time_limit(trials: Field) -> None:
    assert only(trials, SLEEP, timeout_s=0.3).error == "ejected: time limit"


def test_an_idle_agent_is_ejected(trials: Field) -> None:
    result = only(trials, "call(); " + SLEEP, idle_timeout_s=1.0)
    assert result.error is not None
    assert result.error.startswith("ejected: no events for ")


def test_an_agent_that_spends_its_budget_is_ejected_and_does_not_exceed_it(trials: Field) -> None:
    source = f"""
        status = 200
        while status == 200: status, _ = call("{DEAR_MODEL}", "x" * 4000)
        {SLEEP}
    """
    result = only(trials, source)
    assert result.error is not None
    assert result.error.startswith("ejected: budget exhausted")
    assert result.cost_usd is not None
    assert 0 < result.cost_usd <= 0.05


def test_an_exception_in_on_event_ends_only_its_trial(trials: Field) -> None:
    def on_event(event: dict[str, Any]) -> None:
        if event["type"] == "bad":
            raise ValueError("cannot take this")

    bad, good = trials.run({"bad": f"say('bad'); {SLEEP}", "good": "say('good'); call()"}, on_event=on_event)
    assert (bad.error, good.error) == ("cannot take this", None)


def test_an_agent_that_cannot_be_started_is_a_failure_without_leftovers(trials: Field, tmp_path: Path) -> None:
    """The program is there and may be executed, so nothing is wrong before the run; its interpreter is missing."""
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    result = only(trials, "", command=[str(program)])
    assert result.error is not None
    assert str(program) not in result.error or "starting" in result.error
    assert set(result.preflight["cleanup"].values()) == {"ok"}


def test_an_agent_that_floods_its_streams_does_not_block_others(trials: Field) -> None:
    source = "sys.stderr.write('e' * 300_000); [say('x', n=n) for n in range(2000)]; sys.stdout.write('no newline')"
    result = only(trials, source)
    assert result.error is None
    assert result.events_count == 2001


def test_the_error_for_a_missing_gate_depends_on_the_gate_mode() -> None:
    assert "share a unix socket" in not_handed_over(None, None)
    portable = not_handed_over("172.17.0.1", "172.17.0.1%docker0:4711")
    assert "at 172.17.0.1, TCP port 4711: a firewall" in portable


def test_a_gate_that_is_lost_while_the_agent_is_started_ends_the_trial(
    trials: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecars: list[Sidecar] = []
    own_open, own_start = Sidecar.open, ProcessSandbox.start

    async def open_account(sidecar: Sidecar, account_id: str, spec: AccountSpec) -> Balance:
        sidecars.append(sidecar)
        return await own_open(sidecar, account_id, spec)

    async def start(sandbox: ProcessSandbox) -> Pipes:
        balance = await sidecars[0].balance("a")
        lost = structs.replace(balance, gate="lost", as_of=balance.as_of + 10**6)
        sidecars[0]._on_event(LedgerEvent(type="gate", account="a", state="lost", balance=lost))
        return await own_start(sandbox)

    monkeypatch.setattr(Sidecar, "open", open_account)
    monkeypatch.setattr(ProcessSandbox, "start", start)
    result = only(trials, SLEEP, timeout_s=20)
    assert result.preflight["ended_by"] == "gate_lost"
    assert set(result.preflight["cleanup"].values()) == {"ok"}
