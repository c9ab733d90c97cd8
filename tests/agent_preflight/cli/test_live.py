"""`agent-preflight stop`, `top-up` and `quarantine`."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from agent_preflight.runs.status import read_run
from openrouter_sim.billing.account import SimKey
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.config import origin, user_counts_file
from preflight_proxy.core.ledger.rows import OPENROUTER, QuarantinedEndpoint
from preflight_proxy.core.pricing.token_factors import BY_BYTES
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from preflight_proxy.ledger.shared_counts import SharedCounts
from tests.support.cli_commands import CommandResult, invoke
from tests.support.live_field import WAITING, LiveField
from tests.support.run_on_disk import alive, plan
from tests.support.trial_field import Field


def stop(runs_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["stop", *arguments, "--runs-dir", str(runs_dir)])


@pytest.mark.wire
def test_one_trial_ends_in_order_and_the_others_go_on(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    goes_on = f"say('ready')\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.02)\ncall()"
    with LiveField(trials, {"a": WAITING, "b": goes_on}, ready=2) as live:
        told = stop(trials.runs_dir, "live", "a")
        assert told.exit_code == 0, told.output
        assert "a: stopped, $" in told.output
        assert "b" not in told.stdout
        flag.touch()
        a, b = live.results()
    assert (a.error, b.error) == ("stopped by a person", None)
    extra = trials.summary("a")["preflight"]
    assert extra["ended_by"] == "stopped"
    assert next(iter(extra["cleanup"])) == "freeze"
    assert set(extra["cleanup"].values()) == {"ok"}


@pytest.mark.wire
def test_a_whole_run_ends_and_what_has_not_begun_never_does(trials: Field) -> None:
    with LiveField(trials, {"a": WAITING, "later": WAITING}, max_workers=1) as live:
        told = stop(trials.runs_dir, "live")
        assert told.exit_code == 0, told.output
        assert "later: not started" in told.output
        assert [result.error for result in live.results()] == ["stopped by a person"]
    assert not (live.run_dir / "later").exists()
    assert not (live.run_dir / "control.json").exists()


@pytest.mark.wire
def test_the_only_live_run_need_not_be_named_for_one_trial_and_for_all(trials: Field) -> None:
    with LiveField(trials, {"a": WAITING, "b": WAITING}, ready=2) as live:
        told = stop(trials.runs_dir, "foo")
        assert (told.exit_code, "The run live has no trial 'foo': its trials are a, b." in told.output) == (1, True)
        told = stop(trials.runs_dir, "a")
        assert (told.exit_code, "a: stopped, $" in told.output, "b:" in told.output) == (0, True, False), told.output
        told = stop(trials.runs_dir)
        assert (told.exit_code, "b: stopped, $" in told.output) == (0, True), told.output
        assert [result.error for result in live.results()] == ["stopped by a person"] * 2
    assert "No run is live in" in stop(trials.runs_dir).output
    assert 'There is no run "a" in' in stop(trials.runs_dir, "a").output


@pytest.mark.wire
def test_a_word_that_names_a_run_is_no_trial_s(tmp_path: Path) -> None:
    with alive(plan(tmp_path / "live", "old")):
        plan(tmp_path / "old", "a")
        told = stop(tmp_path, "old")
    assert (told.exit_code, "The run old is not going on" in told.output) == (1, True)


@pytest.mark.wire
def test_a_trial_that_waits_for_its_turn_is_stopped_at_once_and_stays_so(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    first = f"say('ready')\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.02)"
    agents = {"a": first, "later": WAITING, "last": "say('ready')"}
    with LiveField(trials, agents, max_workers=1) as live:
        told = stop(trials.runs_dir, "live", "later")
        assert (told.exit_code, flag.exists()) == (0, False), told.output
        assert "later: stopped before it began; nothing was spent" in told.output
        standing = {trial.alias: trial.status for trial in read_run(live.run_dir).trials}
        assert standing == {"a": "running", "later": "stopped", "last": "pending"}
        flag.touch()
        results = live.results()
    assert [(result.alias, result.preflight["status"]) for result in results] == [
        ("a", "done"),
        ("later", "stopped"),
        ("last", "done"),
    ]
    assert not any("not complete" in line for line in trials.said)
    made = [key.name for key in trials.simulator.bill().keys.values() if "later" in key.name]
    assert made == []
    again = trials.run(agents, run_id="live", resume=True)
    assert [result.preflight["status"] for result in again] == ["done", "stopped", "done"]


@pytest.mark.wire
def test_a_trial_that_waits_to_begin_again_keeps_what_it_has_spent(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    first = f"say('ready')\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.02)\ncall()"
    agents = {"a": first, "later": "call(); say('ready'); time.sleep(60)"}
    with LiveField(trials, agents, ready=2) as live:
        assert stop(trials.runs_dir, "live").exit_code == 0
        live.results()
    for alias in agents:
        summary = trials.summary(alias)
        summary["preflight"] |= {"ended_by": "interrupted", "status": "interrupted"}
        (live.run_dir / alias / "summary.json").write_text(json.dumps(summary))
    spent = trials.summary("later")["preflight"]["posted_usd"]
    assert spent != "0"
    with LiveField(trials, agents, max_workers=1, resume=True) as live:
        told = stop(trials.runs_dir, "live", "later")
        assert f"later: stopped before it began again; ${spent} was spent before" in told.output
        flag.touch()
        live.results()
    assert trials.summary("later")["preflight"]["posted_usd"] == spent


@pytest.mark.wire
def test_who_is_not_there_is_not_stopped(trials: Field, tmp_path: Path) -> None:
    assert stop(tmp_path, "none").exit_code == 1
    trials.run({"a": "say('hello')"}, run_id="over")
    told = stop(trials.runs_dir, "over")
    assert told.exit_code == 1
    assert "not going on" in told.output
    assert "no trial 'b': its trials are a" in stop(trials.runs_dir, "over", "b").output


def top_up(runs_dir: Path, *arguments: str, admin_key: str = "") -> Result:
    environment = {"OR_ADMIN_KEY": admin_key, "OPENROUTER_ADMIN_KEY": ""}
    return CliRunner().invoke(app, ["top-up", *arguments, "--runs-dir", str(runs_dir)], env=environment)


def spender(flag: Path) -> str:
    """An agent that is refused, waits for a sign, and asks once more."""
    return f"""
        big = dict(max_tokens=4000)
        say('ready', status=call(**big)[0])
        while not os.path.exists({str(flag)!r}): time.sleep(0.02)
        say('asked', status=call(**big)[0])
    """


@pytest.mark.wire
def test_the_next_call_has_the_money_and_so_has_the_key(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    with LiveField(trials, {"a": spender(flag)}, budget_usd="0.0001") as live:
        told = top_up(trials.runs_dir, "live", "a=0.05", admin_key=trials.simulator.admin_key)
        assert told.exit_code == 0, told.output
        assert "a: budget $0.0001 -> $0.0501" in told.output
        (key,) = [
            key for key in trials.simulator.account.keys.values() if key.name.startswith("agent-preflight:live:a:")
        ]
        assert key.limit == Decimal("0.0601")
        flag.touch()
        (result,) = live.results()
    assert result.error is None
    assert result.budget_usd == 0.0501
    assert trials.summary("a")["preflight"]["limit_usd"] == "0.0501"
    events = [json.loads(line) for line in (live.run_dir / "a" / "events.jsonl").read_text().splitlines()]
    assert [event["status"] for event in events if event["type"] in ("ready", "asked")] == [402, 200]
    assert [event["limit"] for event in events if event["type"] == "preflight_limit"] == [0.0501]


@pytest.mark.wire
def test_the_only_live_run_need_not_be_named(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    with LiveField(trials, {"a": spender(flag), "b": spender(flag)}, ready=2, budget_usd="0.0001"):
        told = top_up(trials.runs_dir, "a=0.05", "b=0.07", admin_key=trials.simulator.admin_key)
        flag.touch()
    assert told.exit_code == 0, told.output
    assert trials.summary("a")["preflight"]["limit_usd"] == "0.0501"
    assert trials.summary("b")["preflight"]["limit_usd"] == "0.0701"
    told = top_up(trials.runs_dir, "a=0.05")
    assert (told.exit_code, "No run is live in" in told.output, "Latest: live." in told.output) == (1, True, True)


@pytest.mark.wire
def test_of_two_live_runs_one_must_be_named(tmp_path: Path) -> None:
    with alive(plan(tmp_path / "r1", "a")), alive(plan(tmp_path / "r2", "a")):
        told = top_up(tmp_path, "a=0.05")
    assert (told.exit_code, "so name one: r" in told.output) == (1, True)


@pytest.mark.wire
def test_a_run_without_a_trial_is_a_bad_option(tmp_path: Path) -> None:
    assert top_up(tmp_path, "live").exit_code == 2
    assert top_up(tmp_path).exit_code == 2


@pytest.mark.wire
def test_a_budget_beyond_the_largest_changes_nothing_here_or_at_openrouter(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    with LiveField(trials, {"a": spender(flag)}, budget_usd="0.0001"):
        told = top_up(trials.runs_dir, "live", "a=$1000000", admin_key=trials.simulator.admin_key)
        (key,) = [
            key for key in trials.simulator.account.keys.values() if key.name.startswith("agent-preflight:live:a:")
        ]
        assert key.limit == Decimal("0.0101")
        flag.touch()
    assert (told.exit_code, "nothing was changed" in told.output) == (1, True)


@pytest.mark.wire
def test_of_ten_top_ups_at_the_same_time_each_counts_here_and_at_openrouter(trials: Field) -> None:
    """In ten processes: the proxy adds, and the sub-key's limit stays a cent above the budget."""
    flag = trials.runs_dir.parent / "go"
    environment = {**os.environ, "OR_ADMIN_KEY": trials.simulator.admin_key}
    command = [sys.executable, "-m", "agent_preflight", "top-up", "live", "a=0.01", "--runs-dir", str(trials.runs_dir)]
    with LiveField(trials, {"a": spender(flag)}, budget_usd="0.0001"):
        ten = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(10)]
        said = [each.communicate()[0] for each in ten]
        (key,) = [
            key for key in trials.simulator.account.keys.values() if key.name.startswith("agent-preflight:live:a:")
        ]
        limit = key.limit
        flag.touch()
    assert [each.returncode for each in ten] == [0] * 10
    assert sorted(line.split()[2:5] for line in said) == [
        [f"${0.0001 + 0.01 * n:.4f}", "->", f"${0.0101 + 0.01 * n:.4f},"] for n in range(10)
    ]
    assert limit == Decimal("0.1101")
    assert trials.summary("a")["preflight"]["limit_usd"] == "0.1001"


def key_of(trials: Field) -> SimKey:
    (key,) = [key for key in trials.simulator.account.keys.values() if key.name.startswith("agent-preflight:live:a:")]
    return key


@pytest.mark.wire
@pytest.mark.parametrize("how", ["no key", "no management key", "no such key"])
def test_what_cannot_be_raised_at_openrouter_is_not_raised_here(trials: Field, how: str) -> None:
    flag, simulator = trials.runs_dir.parent / "go", trials.simulator
    given = {"no key": "", "no management key": simulator.inference_key}.get(how, simulator.admin_key)
    with LiveField(trials, {"a": spender(flag)}, budget_usd="0.0001"):
        key = key_of(trials)
        name, limit = key.name, key.limit
        if how == "no such key":
            key.name = "renamed"
        told = top_up(trials.runs_dir, "live", "a=0.05", admin_key=given)
        key.name, after = name, key.limit
        flag.touch()
    assert told.exit_code == 1
    assert "Nothing was changed." in told.output
    assert "budget $" not in told.output
    assert (limit, after) == (Decimal("0.0101"), Decimal("0.0101"))
    assert trials.summary("a")["preflight"]["limit_usd"] == "0.0001"
    assert ("set OR_ADMIN_KEY" in told.output) is (how == "no key")


@pytest.mark.wire
@pytest.mark.parametrize("given", ["a", "a=", "=1", "a=-1", "a=0", "a=much", "a=1e400", "a=1000001"])
def test_what_is_no_amount_is_a_bad_option(tmp_path: Path, given: str) -> None:
    assert top_up(tmp_path, "live", given).exit_code == 2


@pytest.mark.wire
def test_a_run_that_is_over_gets_nothing(trials: Field) -> None:
    trials.run({"a": "say('hello')"}, run_id="over")
    told = top_up(trials.runs_dir, "over", "a=1")
    assert (told.exit_code, "not going on" in told.output) == (1, True)
    assert "no trial 'b'" in top_up(trials.runs_dir, "over", "b=1").output


@pytest.fixture
def own_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's list lies in the test's folder, with one endpoint on it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    row = QuarantinedEndpoint("openai/gpt-4.1-nano", "azure", "billed $2 for a reservation of $1", 1_800_000_000.0)
    QuarantineFile(tmp_path / "agent-preflight" / "quarantine.jsonl").add(row)


def quarantine(tmp_path: Path, *arguments: str) -> CommandResult:
    return invoke("quarantine", *arguments, "--runs-dir", str(tmp_path / "runs"))


@pytest.mark.usefixtures("own_list")
def test_it_lists_what_when_and_why(tmp_path: Path) -> None:
    told = quarantine(tmp_path)
    assert "openai/gpt-4.1-nano  azure  since 2027-01-15T08:00:00+00:00  billed $2" in told.output
    assert json.loads(quarantine(tmp_path, "--json").stdout)["tag"] == "azure"


@pytest.mark.usefixtures("own_list")
def test_an_endpoint_is_cleared_once(tmp_path: Path) -> None:
    first, second = (quarantine(tmp_path, "--clear", "openai/gpt-4.1-nano", "azure") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 1)
    assert "cleared" in first.output
    assert "was not on the list" in second.output
    assert quarantine(tmp_path).output == "No endpoint is quarantined.\n"


@pytest.mark.usefixtures("own_list")
def test_it_lists_and_clears_endpoints_that_count_more_tokens_than_estimated(tmp_path: Path) -> None:
    for run in ("a", "b"):
        counts = SharedCounts(user_counts_file(), run=run, upstream=OPENROUTER, clock=SystemClock())
        counts.begin()
        counts.note_factor("m/x", "tag", 1300)
        counts.note_factor("m/y", "tag", BY_BYTES)
        counts.close()
    lines = quarantine(tmp_path).output.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["openai/gpt-4.1-nano", "m/x", "m/y"]
    assert lines[1].endswith("counts 1.3 times the estimated tokens")
    assert lines[2].endswith("is counted by bytes")
    rows = [json.loads(line) for line in quarantine(tmp_path, "--json").stdout.splitlines()]
    assert [row.get("tokens") for row in rows] == [None, 1.3, "bytes"]
    cleared = [quarantine(tmp_path, "--clear", "m/x", "tag", "--upstream", OPENROUTER).exit_code for _ in range(2)]
    assert cleared == [0, 1]
    assert "m/x" not in quarantine(tmp_path).output
    assert "m/y" in quarantine(tmp_path).output


@pytest.mark.usefixtures("own_list")
def test_another_upstreams_endpoint_is_shown_with_it_and_cleared_by_it(tmp_path: Path) -> None:
    upstream = "http://127.0.0.1:9"
    QuarantineFile(tmp_path / "agent-preflight" / "quarantine.jsonl").add(
        QuarantinedEndpoint("openai/gpt-4.1-nano", "azure", "billed more", 1_800_000_000.0, upstream)
    )
    assert f"azure  of {upstream}  since" in quarantine(tmp_path).output
    assert [json.loads(line)["upstream"] for line in quarantine(tmp_path, "--json").stdout.splitlines()] == [
        upstream,
        "https://openrouter.ai",
    ]
    clear = ("--clear", "openai/gpt-4.1-nano", "azure")
    assert quarantine(tmp_path, *clear, "--upstream", f"{upstream}/api/v1").exit_code == 0
    assert upstream not in quarantine(tmp_path).output
    assert "azure" in quarantine(tmp_path).output
    missed = quarantine(tmp_path, *clear, "--upstream", f"{upstream}/api/v1")
    assert (missed.exit_code, f"was not on the list for {upstream}" in missed.output) == (1, True)


@pytest.mark.usefixtures("own_list")
@pytest.mark.wire
def test_a_live_run_may_use_it_at_once(trials: Field, tmp_path: Path) -> None:
    upstream = trials.simulator.base_url
    QuarantineFile(tmp_path / "agent-preflight" / "quarantine.jsonl").add(
        QuarantinedEndpoint("openai/gpt-4.1-nano", "openai", "billed more", 1_800_000_000.0, origin(upstream))
    )
    QuarantineFile(tmp_path / "agent-preflight" / "quarantine.jsonl").add(
        QuarantinedEndpoint("openai/gpt-4.1-nano", "azure", "billed more", 1_800_000_000.0, origin(upstream))
    )
    flag = tmp_path / "go"
    source = f"""
        say('ready', status=call()[0])
        while not os.path.exists({str(flag)!r}): time.sleep(0.02)
        say('agent_end', status=call()[0])
    """
    with LiveField(trials, {"a": source}) as live:
        clear = ("--clear", "openai/gpt-4.1-nano", "openai", "--json")
        elsewhere = quarantine(tmp_path, *clear, "--upstream", "https://openrouter.ai/api/v1")
        told = quarantine(tmp_path, *clear)  # OPENROUTER_BASE_URL names the simulator
        flag.touch()
        assert json.loads(elsewhere.stdout) == {"cleared": False, "proxies": []}
        assert json.loads(told.stdout) == {"cleared": True, "proxies": [str(live.run_dir)]}
        live.results()
    events = [json.loads(line) for line in (live.run_dir / "a" / "events.jsonl").read_text().splitlines()]
    statuses = [event["status"] for event in events if "status" in event]
    assert statuses[1] == 200
    assert statuses[0] != 200
