"""`agent-preflight runs`, `status`, `costs` and `cache-report`."""

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openrouter_sim import FaultRule, Scenario, make_fault
from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.support.cli_commands import CommandResult, invoke
from tests.support.ledger_on_disk import call, open_account, open_store, reserve
from tests.support.live_field import LiveField
from tests.support.run_on_disk import alive, finish, keep_ledger, plan
from tests.support.trial_field import Field

FIELDS = {
    *("time", "account", "model", "provider", "generation_id", "prompt_tokens", "cached_tokens", "cache_write_tokens"),
    *("completion_tokens", "reasoning_tokens", "cost_usd", "reserved_usd", "status", "ttft_ms", "duration_ms"),
    *("api", "streamed", "outcome"),
}


def costs(*arguments: str) -> CommandResult:
    return invoke("costs", *arguments)


def write_ledger(data: Path, model: str = "m/x") -> None:
    """Two accounts with a call each, of ten pico-dollars."""
    data.mkdir(parents=True, exist_ok=True)
    store = open_store(data)
    for account in ("a", "b"):
        open_account(store, account)
        store.commit(reserve(f"of {account}", account=account))
        store.commit(Post(f"of {account}", 10, CallFacts(model, prompt_tokens=2000)))
    store.close()


def test_no_run_and_no_ledger_are_a_sentence_and_exit_code_1(tmp_path: Path) -> None:
    for arguments in (("--runs-dir", str(tmp_path)), ("../x", "--runs-dir", str(tmp_path)), ("--data", str(tmp_path))):
        told = costs(*arguments)
        assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)


def test_every_call_is_a_line_and_the_sums_are_exact(tmp_path: Path) -> None:
    write_ledger(tmp_path / "run-1")
    lines = costs("--runs-dir", str(tmp_path)).stdout.splitlines()
    assert lines[0].startswith("Costs of run-1, 20")
    assert [line.split()[1:] for line in lines[2:5]] == [
        ["trial", "model", "in", "out", "cost"],
        ["a", "m/x", "2,000", "0", "$0.00000000001"],
        ["b", "m/x", "2,000", "0", "$0.00000000001"],
    ]
    assert [line.split() for line in lines[-3:]] == [
        ["a", "1", "$0.00000000001"],
        ["b", "1", "$0.00000000001"],
        ["TOTAL", "2", "$0.00000000002"],
    ]
    assert costs("run-1", "--runs-dir", str(tmp_path)).stdout.splitlines() == lines


def test_the_only_live_run_is_meant_where_none_is_named(tmp_path: Path) -> None:
    for name in ("live", "later"):
        write_ledger(plan(tmp_path / name, "a"))
    with alive(tmp_path / "live"):
        assert costs("--runs-dir", str(tmp_path)).stdout.startswith("Costs of live, ")


def test_what_a_provider_said_does_not_reach_the_terminal_as_an_escape(tmp_path: Path) -> None:
    write_ledger(tmp_path, "m/\x1b[31mx")
    assert "\x1b" not in costs("--data", str(tmp_path)).stdout


@pytest.mark.wire
def test_calls_are_json_lines_and_the_sums_come_last(trials: Field) -> None:
    trials.run({"a": "call(); call(stream=True)", "b": "call()"})
    told = costs("--json", "--runs-dir", str(trials.runs_dir))
    *calls, last = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(calls) == 3
    assert all(call.keys() >= FIELDS for call in calls)
    assert sorted((call["account"], call["api"], call["streamed"], call["outcome"]) for call in calls) == [
        ("a", "chat", False, "posted"),
        ("a", "chat", True, "posted"),
        ("b", "chat", False, "posted"),
    ]
    assert Decimal(last["sums"]["total"]["cost_usd"]) == sum(Decimal(call["cost_usd"]) for call in calls)
    assert last["sums"]["total"]["prompt_tokens"] == sum(call["prompt_tokens"] for call in calls)
    assert last["sums"]["accounts"]["a"]["calls"] == 2
    (run_dir,) = trials.run_dirs
    assert costs("--json", "--data", str(run_dir)).stdout == told.stdout
    assert [json.loads(line) for line in (run_dir / "costs.jsonl").read_text().splitlines()] == calls


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one account that spent a cent of a shared key, and no management key in sight."""
    for name in ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    store = open_store(tmp_path)
    open_account(store, "a", 10**12)
    call(store, "r", 10**10)
    store.close()
    return tmp_path


def test_books_without_drift_exit_with_0(data: Path) -> None:
    ended = invoke("costs", "--data", str(data), "--reconcile")
    assert ended.exit_code == 0, ended.output
    assert "TOTAL" in ended.output
    assert "$0.01" in ended.output


def test_an_overrun_exits_with_4_and_names_the_endpoint(data: Path) -> None:
    store = open_store(data)
    store.commit(reserve("s", 100))
    store.commit(Post("s", 101))
    store.close()
    ended = invoke("costs", "--data", str(data), "--reconcile", "--json")
    assert ended.exit_code == 4, ended.output
    found = json.loads(ended.output)
    assert found["total"]["overrun_usd"] == "0.000000000001"
    assert {each["model"] for each in found["quarantined"]} == {"m/x"}


@pytest.mark.wire
def test_an_openrouter_that_cannot_be_reached_is_told_with_its_address_and_what_to_do(data: Path) -> None:
    url = "http://127.0.0.1:1/v1"
    ended = invoke("costs", "--data", str(data), "--reconcile", env={"OR_ADMIN_KEY": "key", "OPENROUTER_BASE_URL": url})
    assert ended.exit_code == 1
    said = f"the list of keys could not be read: Cannot reach OpenRouter at {url}: connection refused. "
    assert said + "Check OPENROUTER_BASE_URL and your network" in ended.stderr
    assert "Nothing was spent" not in ended.output


def status(runs_dir: Path, *arguments: str) -> CommandResult:
    return invoke(
        "status", *arguments, "--runs-dir", str(runs_dir), env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    )


def ended(runs_dir: Path, run_id: str, *aliases: str) -> None:
    for alias in aliases:
        folder = runs_dir / run_id / alias
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"alias": alias, "cost_usd": 0.5, "tool_calls": 3}))


def test_the_latest_run_is_shown_unless_one_is_named(tmp_path: Path) -> None:
    ended(tmp_path, "run-1", "first")
    for arguments in ((), ("run-1",)):
        told = status(tmp_path, *arguments)
        assert told.exit_code == 0
        assert "first" in told.stdout
        assert "1/1 complete" in told.stdout


def test_for_machines_each_trial_is_an_object(tmp_path: Path) -> None:
    ended(tmp_path, "run-1", "a", "b")
    (tmp_path / "run-1" / "c").mkdir()
    rows = [json.loads(line) for line in status(tmp_path, "--json").stdout.splitlines()]
    assert [(row["alias"], row["status"]) for row in rows[:2]] == [("a", "done"), ("b", "done")]
    assert rows[2]["alias"] == "c"


def test_nothing_to_show_is_no_failure(tmp_path: Path) -> None:
    told = status(tmp_path)
    assert (told.exit_code, told.stdout) == (0, f"No runs found in {tmp_path}/\n")
    told = status(tmp_path / "none", "--json")
    assert (told.exit_code, told.output) == (0, "")


@pytest.mark.parametrize("command", ["status", "costs", "cache-report", "stop", "top-up"])
@pytest.mark.parametrize("run_id", ["run-nope", "../../etc"])
def test_a_run_that_is_not_there_is_a_failure_and_the_latest_are_named(
    tmp_path: Path, command: str, run_id: str
) -> None:
    ended(tmp_path, "run-1", "a")
    more = ("a=1",) if command == "top-up" else ()
    told = invoke(command, run_id, *more, "--runs-dir", str(tmp_path))
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == f'There is no run "{run_id}" in {tmp_path}/. Latest: run-1.\n'


@pytest.mark.wire
def test_a_trial_that_runs_has_its_cost_its_calls_and_its_reserve_from_the_ledger(trials: Field) -> None:
    """A call is under way: its worst case is reserved, and the one before it has its cost."""
    trials.simulator.scenario = Scenario(
        faults=(FaultRule(make_fault("stall", {"after": 2, "stall_s": 6.0}), after=1),)
    )
    source = "call(); say('ready'); call(stream=True, max_tokens=1000)"
    with LiveField(trials, {"a": source}) as live:
        row = until_reserved(trials.runs_dir)
        assert (row["status"], row["calls"], row["limit_usd"]) == ("running", 1, "0.05")
        assert 0 < Decimal(row["posted_usd"]) < Decimal(row["pending_usd"])
        told = status(trials.runs_dir).stdout
        assert told.startswith("Run: live (running)\n")
        assert max(map(len, told.splitlines())) <= 80
        shown = told.splitlines()[3].split()
        assert (shown[:2], "1" in shown) == (["a", "running"], True)
        assert f"${Decimal(row['pending_usd']):.4f}" in shown
        live.results()


def until_reserved(runs_dir: Path) -> dict[str, Any]:
    """How the trial stands once something is reserved for it."""
    until_s = time.monotonic() + 30
    while True:
        row: dict[str, Any] = json.loads(status(runs_dir, "--json").stdout)
        if Decimal(row["pending_usd"] or 0):
            return row
        assert time.monotonic() < until_s, row
        time.sleep(0.05)


def write_missed_call(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    store = open_store(data)
    open_account(store)
    store.commit(reserve("r"))
    store.commit(Post("r", 10, CallFacts("m/x", prompt_tokens=2000, cache_miss="tools", conversation="c0ffee")))
    store.close()


def test_it_tells_of_the_latest_run(tmp_path: Path) -> None:
    write_missed_call(tmp_path / "run-1")
    told = invoke("cache-report", "--runs-dir", str(tmp_path))
    assert told.exit_code == 0
    assert "Cache Analytics Report: run-1" in told.output


def test_it_tells_of_a_stand_alone_proxy_too(tmp_path: Path) -> None:
    write_missed_call(tmp_path)
    told = invoke("cache-report", "--data", str(tmp_path))
    assert told.exit_code == 0
    assert "the tools changed" in told.output


def test_for_machines_it_is_one_object(tmp_path: Path) -> None:
    write_missed_call(tmp_path)
    told = invoke("cache-report", "--data", str(tmp_path), "--json")
    assert json.loads(told.output)["ledger"]["misses"][0]["reason"] == "tools"


def test_without_any_run_it_says_so_and_exits_with_0(tmp_path: Path) -> None:
    for more, words in (([], "No runs found"), (["--json"], "")):
        told = invoke("cache-report", "--runs-dir", str(tmp_path / "none"), *more)
        assert told.exit_code == 0
        assert words in told.output


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    told = invoke("cache-report", "--data", str(tmp_path / "nope"))
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith(f"There is no folder {tmp_path / 'nope'}.")


@pytest.mark.parametrize("command", ["runs", "list"])
def test_runs_are_listed_with_status_trials_cost_and_age(tmp_path: Path, command: str, no_engine: str) -> None:
    plan(tmp_path / "over", "a")
    finish(tmp_path / "over", "a", {"status": "done"})
    keep_ledger(tmp_path / "over", "a")
    plan(tmp_path / "live", "a", "b")
    with alive(tmp_path / "live"):
        told = invoke(command, "--runs-dir", str(tmp_path))
    assert told.exit_code == 0, told.output
    rows = {line.split()[0]: line.split()[1:] for line in told.stdout.splitlines()}
    assert rows["run"] == ["status", "trials", "cost", "age"]
    assert rows["live"][:3] == ["running", "0/2", "-"]
    assert rows["over"][:3] == ["done", "1/1", "$0.0100"]


def test_for_machines_each_run_is_an_object(tmp_path: Path, no_engine: str) -> None:
    plan(tmp_path / "r", "a")
    (row,) = [json.loads(line) for line in invoke("runs", "--json", "--runs-dir", str(tmp_path)).stdout.splitlines()]
    assert (row["run_id"], row["status"], row["trials"], row["posted_usd"]) == ("r", "incomplete", 1, None)
    assert row["age_s"] >= 0


def test_where_nothing_is_it_says_so_and_where_it_looked(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        told = invoke("runs", "--runs-dir", str(place))
        assert (told.exit_code, told.stdout.startswith(f"No runs found in {place}/.")) == (0, True), told.output
        assert "--runs-dir" in told.stdout
    assert invoke("runs", "--json", "--runs-dir", str(tmp_path)).output == ""


def test_list_is_another_name_that_help_does_not_show() -> None:
    told = invoke("--help").stdout
    assert ("\n  runs " in told, "\n  list " in told) == (True, False)
