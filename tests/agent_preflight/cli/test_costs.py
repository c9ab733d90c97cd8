"""`agent-preflight costs`."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_preflight.cli import app
from tests.agent_preflight.runner.conftest import Field

FIELDS = {
    *("time", "account", "model", "provider", "generation_id", "prompt_tokens", "cached_tokens", "cache_write_tokens"),
    *("completion_tokens", "reasoning_tokens", "cost_usd", "reserved_usd", "status", "ttft_ms", "duration_ms"),
    *("api", "streamed", "outcome"),
}


def test_no_run_is_a_sentence_and_exit_code_1(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["costs", "--runs-dir", str(tmp_path)])
    assert (told.exit_code, told.stdout) == (1, "")
    assert "--data" in told.stderr


@pytest.mark.wire
def test_calls_are_json_lines_and_the_sums_come_last(trials: Field) -> None:
    trials.run({"a": "call(); call()", "b": "call()"})
    told = CliRunner().invoke(app, ["costs", "--json", "--runs-dir", str(trials.runs_dir)])
    *calls, last = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(calls) == 3
    assert all(call.keys() >= FIELDS for call in calls)
    assert Decimal(last["sums"]["total"]["cost_usd"]) == sum(Decimal(call["cost_usd"]) for call in calls)
    assert last["sums"]["accounts"]["a"]["calls"] == 2
    by_folder = CliRunner().invoke(app, ["costs", "--json", "--data", str(trials.run_dirs[0])])
    assert by_folder.stdout == told.stdout
    assert "TOTAL" in CliRunner().invoke(app, ["costs", "--runs-dir", str(trials.runs_dir)]).stdout
