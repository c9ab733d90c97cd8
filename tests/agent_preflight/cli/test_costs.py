"""`agent-preflight costs`."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from preflight_proxy.core.accounts import CallFacts
from preflight_proxy.core.commands import Post
from tests.preflight_proxy.ledger_on_disk import open_account, open_store, reserve


def costs(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["costs", *arguments])


def keep_books(data: Path) -> Path:
    data.mkdir(parents=True, exist_ok=True)
    store = open_store(data)
    for account in ("a", "b"):
        open_account(store, account)
        store.commit(reserve(f"of {account}", account=account))
        store.commit(Post(f"of {account}", 10, CallFacts("m/x", prompt_tokens=2000)))
    store.close()
    return data


def test_every_call_is_a_line_and_the_sums_are_exact(tmp_path: Path) -> None:
    told = costs("--data", str(keep_books(tmp_path)))
    assert told.exit_code == 0
    lines = told.output.splitlines()
    assert sum("posted" in line for line in lines) == 2
    assert lines[-1].split() == ["TOTAL", "2", "calls", "$0.00000000002"]


def test_for_machines_the_sums_are_the_last_line(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in costs("--data", str(keep_books(tmp_path)), "--json").stdout.splitlines()]
    assert [row["account"] for row in rows[:-1]] == ["a", "b"]
    assert rows[-1]["sums"]["total"]["cost_usd"] == "0.00000000002"
    assert sorted(rows[-1]["sums"]["accounts"]) == ["a", "b"]


def test_the_latest_run_is_meant_unless_one_is_named(tmp_path: Path) -> None:
    keep_books(tmp_path / "run-1")
    assert "TOTAL" in costs("--runs-dir", str(tmp_path)).output
    assert "TOTAL" in costs("run-1", "--runs-dir", str(tmp_path)).output


def test_without_a_run_there_are_no_costs(tmp_path: Path) -> None:
    told = costs("--runs-dir", str(tmp_path))
    assert told.exit_code == 1
    assert "--data" in told.output
