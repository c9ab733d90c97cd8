"""`agent-preflight export` and `metrics`."""

import csv
import io
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent_preflight.operate import metrics as served
from agent_preflight.run_data import COLUMNS
from tests.support.cli_commands import CommandResult, invoke
from tests.support.run_on_disk import EVENTS, alive, begin, finish, keep_ledger, plan


def metrics(folder: Path, *arguments: str) -> CommandResult:
    return invoke("metrics", str(folder), *arguments)


@pytest.mark.parametrize("listen", ["", "9188", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:-1", ":9188"])
def test_an_address_that_is_none_is_a_sentence(tmp_path: Path, listen: str) -> None:
    told = metrics(tmp_path, f"--listen={listen}")
    assert (told.exit_code, told.stdout) == (2, "")
    assert "is not HOST:PORT, such as 127.0.0.1:8788." in told.stderr


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    told = metrics(tmp_path / "none", "--listen=127.0.0.1:0")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == (
        f"There is no folder {tmp_path}/none. Name the folder of a run, of a stand-alone proxy, or of runs.\n"
    )


def test_an_address_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    told = metrics(tmp_path, "--listen=203.0.113.7:9188")
    assert (told.exit_code, told.stdout) == (1, "")
    warning, sentence = told.stderr.splitlines()
    assert warning.startswith("Warning: whoever reaches 203.0.113.7:9188 can read ")
    assert sentence == "Cannot listen on 203.0.113.7:9188: Cannot assign requested address. Name another --listen."


@pytest.mark.parametrize("listen", ["127.0.0.1:9188", "[::1]:9188", "localhost:9188"])
def test_loopback_has_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setattr(served, "serve_metrics", lambda *_: None)
    told = metrics(tmp_path, f"--listen={listen}")
    assert (told.exit_code, told.output) == (0, "")


def test_the_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "agent_preflight.operate.metrics")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    told = metrics(tmp_path)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == "`metrics` needs another package: pip install prometheus-client\n"


def export(runs_dir: Path, *arguments: str) -> CommandResult:
    return invoke("export", *arguments, "--runs-dir", str(runs_dir))


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_calls_of_the_latest_run_are_a_csv(tmp_path: Path) -> None:
    keep_ledger(plan(tmp_path / "run-1", "nano"), "nano")
    told = export(tmp_path)
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout.count("\r\n") == told.stdout.count("\n") == 2
    (call,) = table(told.stdout)
    assert (call["trial"], call["cost_usd"]) == ("nano", "0.01")
    assert export(tmp_path, "run-1").stdout == told.stdout
    assert export(tmp_path, "run-1", "-o", str(tmp_path / "calls.csv")).output == ""
    assert (tmp_path / "calls.csv").read_bytes().decode() == told.stdout


def test_trials_are_json_lines_and_a_proxys_calls_are_those_of_its_ledger(tmp_path: Path) -> None:
    keep_ledger(plan(tmp_path / "runs" / "run-1", "nano", "mini"), "nano")
    told = export(tmp_path / "runs", "--what", "trials", "--format", "jsonl")
    assert [json.loads(line)["alias"] for line in told.stdout.splitlines()] == ["nano", "mini"]
    keep_ledger(tmp_path / "data", "alice")
    assert [row["trial"] for row in table(export(tmp_path, "--data", str(tmp_path / "data")).stdout)] == ["alice"]
    told = export(tmp_path, "--data", str(tmp_path / "data"), "--what", "trials")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "is the data folder of a stand-alone proxy, not a run" in told.stderr


def test_a_live_run_can_be_exported(tmp_path: Path) -> None:
    keep_ledger(plan(tmp_path / "run-1", "nano"), "nano", pending=True)
    with alive(tmp_path / "run-1"):
        assert len(table(export(tmp_path).stdout)) == 1
        (trial,) = table(export(tmp_path, "--what", "trials").stdout)
    assert (trial["posted_usd"], trial["pending_usd"]) == ("0.01", "0.02")


@pytest.mark.parametrize("command", ["export", "costs", "cache-report"])
def test_a_run_and_the_folder_of_a_proxy_are_not_given_together(tmp_path: Path, command: str) -> None:
    keep_ledger(plan(tmp_path / "run-1", "nano"), "nano")
    told = invoke(command, "run-1", "--data", str(tmp_path / "run-1"), "--runs-dir", str(tmp_path))
    assert (told.exit_code, told.stdout) == (2, "")
    assert "a run and --data exclude each other" in told.stderr


@pytest.mark.parametrize("what", ["calls", "trials"])
def test_an_unknown_run_no_run_and_a_foreign_folder_are_a_sentence_each(tmp_path: Path, what: str) -> None:
    for run_id in ("run-9", "../x", ""):
        told = export(tmp_path, run_id, "--what", what)
        assert (told.exit_code, told.stdout) == (1, "")
        assert told.stderr.startswith(f'There is no run "{run_id}" in {tmp_path}/.')
    told = export(tmp_path, "--what", what)
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    (tmp_path / "foreign" / "folder").mkdir(parents=True)
    told = export(tmp_path, "foreign", "--what", what)
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    assert f"{tmp_path}/foreign" in told.stderr


def test_a_run_without_calls_has_a_header_and_a_remark(tmp_path: Path) -> None:
    keep_ledger(plan(tmp_path / "run-1", "nano"))
    told = export(tmp_path)
    assert (told.exit_code, told.stdout) == (0, ",".join(COLUMNS["calls"]) + "\r\n")
    assert told.stderr == "run-1 has no calls yet.\n"


def test_a_half_written_run_and_a_crashed_one_have_the_trials_that_are_known(tmp_path: Path) -> None:
    begin(tmp_path / "run-1", "nano", *EVENTS)
    (tmp_path / "run-1" / "plan.json").write_text('{"trials": [{"ali')
    (trial,) = table(export(tmp_path, "--what", "trials").stdout)
    assert (trial["alias"], trial["limit_usd"]) == ("nano", "")
    told = export(tmp_path)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == f"{tmp_path}/run-1 holds no ledger.\n"
    begin(plan(tmp_path / "run-2", "nano"), "nano", *EVENTS)
    keep_ledger(tmp_path / "run-2", "nano")
    (trial,) = table(export(tmp_path, "run-2", "--what", "trials").stdout)
    assert (trial["status"], trial["posted_usd"]) == ("lost", "0.01")


def test_a_run_of_an_older_version_has_trials(tmp_path: Path) -> None:
    finish(tmp_path / "run-1", "nano", cost_usd=0.25)
    (trial,) = table(export(tmp_path, "--what", "trials").stdout)
    assert (trial["alias"], trial["posted_usd"]) == ("nano", "0.25")
    assert export(tmp_path).stderr == f"{tmp_path}/run-1 holds no ledger.\n"


@pytest.mark.parametrize("what", ["calls", "trials"])
def test_a_newer_ledger_and_a_damaged_one_are_a_sentence_and_leave_the_old_file(tmp_path: Path, what: str) -> None:
    run = plan(tmp_path / "run-1", "nano")
    keep_ledger(run, "nano")
    output = tmp_path / "out.csv"
    output.write_text("old")
    with closing(sqlite3.connect(run / "ledger.sqlite3")) as connection, connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    told = export(tmp_path, "--what", what, "-o", str(output))
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.endswith("was written by a newer version of this program\n")
    (run / "ledger.sqlite3").write_text("none")
    told = export(tmp_path, "--what", what, "-o", str(output))
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)
    assert output.read_text() == "old"


def test_a_wrong_option_is_a_sentence(tmp_path: Path) -> None:
    keep_ledger(plan(tmp_path / "run-1", "nano"), "nano")
    for wrong in (("--format", "xml"), ("--what", "events"), ("--data", str(tmp_path / "none"))):
        told = export(tmp_path, *wrong)
        assert told.exit_code in (1, 2)
        assert told.stdout == ""
        assert "Traceback" not in told.stderr
    for output in (tmp_path, tmp_path / "none" / "calls.csv"):
        told = export(tmp_path, "-o", str(output))
        assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)
        assert told.stderr.startswith(f"{output}: ")
