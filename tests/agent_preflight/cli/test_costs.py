"""`agent-preflight costs`."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.support.cli_commands import CommandResult, invoke
from tests.support.ledger_on_disk import open_account, open_store, reserve
from tests.support.run_on_disk import alive, plan
from tests.support.trial_field import Field

FIELDS = {
    *("time", "account", "model", "provider", "generation_id", "prompt_tokens", "cached_tokens", "cache_write_tokens"),
    *("completion_tokens", "reasoning_tokens", "cost_usd", "reserved_usd", "status", "ttft_ms", "duration_ms"),
    *("api", "streamed", "outcome"),
}


def costs(*arguments: str) -> CommandResult:
    return invoke("costs", *arguments)


def keep_books(data: Path, model: str = "m/x") -> None:
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
    keep_books(tmp_path / "run-1")
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
        keep_books(plan(tmp_path / name, "a"))
    with alive(tmp_path / "live"):
        assert costs("--runs-dir", str(tmp_path)).stdout.startswith("Costs of live, ")


def test_what_a_provider_said_does_not_reach_the_terminal_as_an_escape(tmp_path: Path) -> None:
    keep_books(tmp_path, "m/\x1b[31mx")
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
