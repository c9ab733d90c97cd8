"""`agent-preflight top-up`."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from openrouter_sim.billing.account import SimKey
from tests.support.live_field import LiveField
from tests.support.run_on_disk import alive, plan
from tests.support.trial_field import Field

pytestmark = pytest.mark.wire


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


def test_of_two_live_runs_one_must_be_named(tmp_path: Path) -> None:
    with alive(plan(tmp_path / "r1", "a")), alive(plan(tmp_path / "r2", "a")):
        told = top_up(tmp_path, "a=0.05")
    assert (told.exit_code, "so name one: r" in told.output) == (1, True)


def test_a_run_without_a_trial_is_a_bad_option(tmp_path: Path) -> None:
    assert top_up(tmp_path, "live").exit_code == 2
    assert top_up(tmp_path).exit_code == 2


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


@pytest.mark.parametrize("given", ["a", "a=", "=1", "a=-1", "a=0", "a=much", "a=1e400", "a=1000001"])
def test_what_is_no_amount_is_a_bad_option(tmp_path: Path, given: str) -> None:
    assert top_up(tmp_path, "live", given).exit_code == 2


def test_a_run_that_is_over_gets_nothing(trials: Field) -> None:
    trials.run({"a": "say('hello')"}, run_id="over")
    told = top_up(trials.runs_dir, "over", "a=1")
    assert (told.exit_code, "not going on" in told.output) == (1, True)
    assert "no trial 'b'" in top_up(trials.runs_dir, "over", "b=1").output
