"""How a run stands, told from its folder alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_preflight.models import CacheStats
from agent_preflight.status import container_running, main, print_status_table, status_main, summarise_model
from tests.support.run_on_disk import EVENTS, alive, begin, finish, keep_ledger, plan
from tests.support.scripted_engine import Fail, ScriptedEngine


@pytest.fixture
def run(tmp_path: Path, no_engine: str) -> Path:
    """An empty run, on a machine without an engine."""
    folder = tmp_path / "runs" / "run-1"
    folder.mkdir(parents=True)
    return folder


def test_a_finished_trial(run: Path) -> None:
    folder = finish(
        run, "a1", started_at="2026-01-01T00:00:00+00:00", duration_s=75, cost_usd=0.12345, tool_calls=3,
        cache=CacheStats(1000, 800, 10, 2, 1),
    )  # fmt: skip
    assert summarise_model(folder) == {
        "alias": "a1", "status": "DONE", "events": 0, "tool_calls": 3, "cost": 0.1235, "duration_s": 75,
        "started_at": "2026-01-01T00:00:00+00:00", "error": None, "cache_hit_rate": 0.8, "budget": None,
        "snapshots": 0, "running": False,
    }  # fmt: skip


@pytest.mark.parametrize("ended", [True, False])
def test_a_row_has_its_keys_in_their_order(run: Path, ended: bool) -> None:
    row = summarise_model(finish(run, "a") if ended else begin(run, "a", *EVENTS))
    keys = "alias status events tool_calls cost duration_s started_at error budget snapshots cache_hit_rate running"
    assert list(row) == keys.split()


def test_a_trial_with_an_error(run: Path) -> None:
    assert summarise_model(finish(run, "a", error="ejected: idle"))["status"] == "ERR"


def test_a_trial_that_has_not_begun(run: Path) -> None:
    (run / "a").mkdir()
    row = summarise_model(run / "a")
    assert (row["status"], row["running"], row["started_at"], row["duration_s"]) == ("pending", False, None, None)


def test_without_a_summary_events_tell(run: Path) -> None:
    row = summarise_model(str(begin(run, "a", *EVENTS)))
    assert (row["events"], row["tool_calls"], row["duration_s"]) == (2, 1, 3.5)
    assert row["started_at"] == "2026-01-01T00:00:00+00:00"
    assert row["status"] == "pending"


def test_without_elapsed_times_the_timestamps_tell(run: Path) -> None:
    events = [{k: v for k, v in e.items() if k != "elapsed_s"} for e in EVENTS]
    assert summarise_model(begin(run, "a", *events))["duration_s"] == 3


def test_a_corrupt_summary_is_as_if_absent(run: Path) -> None:
    folder = begin(run, "a", *EVENTS)
    (folder / "summary.json").write_text("{corrupt")
    assert summarise_model(folder)["status"] == "pending"


def test_a_trial_of_a_live_run_is_running_without_asking_docker(run: Path) -> None:
    folder = begin(run, "a", *EVENTS)
    with alive(run):
        assert summarise_model(folder)["status"] == "running"
        (run / "b").mkdir()
        assert summarise_model(run / "b")["status"] == "pending"
    assert summarise_model(folder)["status"] == "pending"


def test_without_docker_nothing_runs_and_nothing_raises(run: Path) -> None:
    assert not container_running("a")


def launched(engine: ScriptedEngine, name: str, run: Path, alias: str, role: str = "agent") -> None:
    """A container that runs, labelled as a trial's."""
    labels = {"agent-preflight.dir": str(run), "agent-preflight.trial": alias, "agent-preflight.role": role}
    engine.state.create(name, {"Image": "me/agent", "Labels": labels})
    engine.state.launch(name)


@pytest.mark.wire
def test_a_container_is_found_by_its_whole_alias_and_its_run(run: Path, docker_host: ScriptedEngine) -> None:
    folder = begin(run, "llama", *EVENTS)
    launched(docker_host, "longer", run, "llama-2")
    launched(docker_host, "elsewhere", run.with_name("run-2"), "llama")
    launched(docker_host, "a-gate", run, "llama", "gate")
    assert summarise_model(folder)["status"] == "pending"
    assert container_running("llama"), "that of another run, where no run is named"
    launched(docker_host, "this-one", run, "llama")
    assert summarise_model(folder)["status"] == "running"
    docker_host.exit("this-one", 0)
    assert summarise_model(folder)["status"] == "pending"


@pytest.mark.wire
def test_no_container_or_a_failing_docker_means_not_running(docker_host: ScriptedEngine) -> None:
    assert not container_running("a")
    docker_host.script("GET /containers/json", Fail(500, "boom"))
    assert not container_running("a")


def test_the_budget_line_comes_from_our_own_file_first(run: Path) -> None:
    folder = begin(run, "a")
    for name, text in (("workspace", "theirs\n"), ("budget", "ours\nmore\n")):
        (folder / name).mkdir()
        (folder / name / "budget.txt").write_text(text)
    assert summarise_model(folder)["budget"] == "ours"


def test_in_an_old_run_it_comes_from_the_workspace(run: Path) -> None:
    folder = begin(run, "a")
    (folder / "workspace").mkdir()
    (folder / "workspace" / "budget.txt").write_text("\x1b[2JBudget: $0.4\nmore\n")
    (folder / "workspace" / "snapshot_1.py").write_text("")
    row = summarise_model(folder)
    assert row["budget"] == "Budget: $0.4"
    assert row["snapshots"] == 1


def test_a_link_laid_by_an_agent_is_not_followed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = begin(run, "a")
    (folder / "workspace").mkdir()
    (folder / "workspace" / "budget.txt").symlink_to(tmp_path / "secret")
    assert summarise_model(folder)["budget"] is None
    other = begin(run, "b")
    (other / "workspace").symlink_to(folder / "workspace")
    assert summarise_model(other)["snapshots"] == 0


def test_a_pipe_laid_by_an_agent_does_not_block(run: Path) -> None:
    folder = begin(run, "a")
    (folder / "workspace").mkdir()
    os.mkfifo(folder / "workspace" / "budget.txt")
    assert summarise_model(folder)["budget"] is None


def test_the_table_of_a_live_run_at_80_columns(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(run, "claude-sonnet-4", "nano", "gpt", "later")
    finish(run, "claude-sonnet-4", {"status": "done"}, duration_s=75.2, tool_calls=3)
    begin(run, "nano", {"type": "agent_start"})
    finish(
        run,
        "gpt",
        {"status": "ejected"},
        error="ejected: a long reason that goes on and on and on and on and on",
        duration_s=3,
    )
    keep_ledger(run, "claude-sonnet-4", "nano", "gpt", pending=True)
    with alive(run):
        status_main("run-1", run.parent)
    assert capsys.readouterr().out.splitlines() == [
        "Run: run-1 (running)",
        "",
        "trial            status      cost  reserved    limit  calls  cached   time",
        "claude-sonnet-4  done     $0.0100   $0.0200  $0.2500      1     25%  1m15s",
        "nano             running  $0.0100   $0.0200  $0.2500      1     25%",
        "gpt              ejected  $0.0100   $0.0200  $0.2500      1     25%   3.0s",
        "later            pending  $0.0000            $0.2500      -       -",
        "TOTAL                     $0.0300   $0.0600  $1.0000      3     25%",
        "gpt: a long reason that goes on and on and on and on and on",
        "",
        "2/4 complete",
    ]


def test_the_table_of_a_run_without_a_ledger(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, "a1", duration_s=75, cost_usd=0.1235, tool_calls=3, cache=CacheStats(1000, 800, 0, 2, 1))
    finish(run, "a2", error="boom\x1b[31m")
    print_status_table(run)
    assert capsys.readouterr().out.splitlines() == [
        "trial  model  status     cost    limit  calls  tools  tokens  cached   time",
        "a1     m/x    done    $0.1235  $0.5000      -      3   1,000     80%  1m15s",
        "a2     m/x    failed        -  $0.5000      -      0       0       -",
        "TOTAL                 $0.1235  $1.0000      -          1,000     80%",
        "a2: boom",
        "",
        "2/2 complete",
        (
            "The run has no plan.json that can be read, so what it was to do is not known. "
            "The run has no ledger (an earlier version made it), so costs are those of the summaries."
        ),
    ]


@pytest.mark.parametrize("columns", [60, 80, 100, 132, 200])
def test_no_line_is_longer_than_the_terminal_and_no_cost_is_cut(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    aliases = ["a", "claude-sonnet-4-5-thinking", "\x1b]0;owned\x07x"]
    plan(run, *aliases)
    for alias in aliases:
        finish(
            run, alias, {"status": "interrupted", "notes": ["the agent made no call: does it read it?"]}, error="e" * 99
        )
    keep_ledger(run, *aliases, pending=True)
    print_status_table(run)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert (out.count("$0.0100"), out.count("$0.0200"), out.count("$0.0300")) == (3, 3 if columns > 60 else 0, 1)
    assert "\x1b" not in out


def test_a_failure_is_told_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, "a", {"status": "failed", "notes": ["see its log"]}, error="the agent ended with exit code 3")
    print_status_table(run)
    out = capsys.readouterr().out
    assert (out.count("exit code 3"), out.count("see its log")) == (1, 1)


def test_a_clean_up_that_is_not_verified_is_said_until_a_sweep(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for how in ("unverified", "ok"):
        finish(run, "a", {"status": "done", "cleanup": {"sub_key": how}})
        print_status_table(run)
    assert capsys.readouterr().out.count("1 key was not seen to be deleted") == 1


def test_nothing_in_the_table_needs_an_explanation(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(run, "a", *EVENTS)
    with alive(run):
        print_status_table(run)
    assert "*" not in capsys.readouterr().out


@pytest.mark.parametrize(("live", "words"), [(True, "its checks are still going on"), (False, "none was begun")])
def test_a_run_without_trials_says_so(run: Path, capsys: pytest.CaptureFixture[str], live: bool, words: str) -> None:
    if live:
        with alive(run):
            print_status_table(run)
    else:
        (run / "lock").touch()
        print_status_table(run)
    assert words in capsys.readouterr().out


def test_a_ledger_that_cannot_be_read_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, "a", cost_usd=0.5)
    (run / "ledger.sqlite3").write_text("no database, and long enough to be taken for a page of one" * 99)
    print_status_table(run)
    out = capsys.readouterr().out
    assert "$0.5000" in out
    assert "So costs are those of the summaries" in out


def test_the_status_of_the_latest_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, "a")
    status_main(runs_dir=run.parent)
    out = capsys.readouterr().out
    assert out.startswith("Run: run-1\n\ntrial")
    assert "\n1/1 complete\n" in out
    assert main is status_main


@pytest.mark.parametrize("run_id", ["absent", "../outside", ".."])
def test_a_run_that_is_not_there_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], run_id: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "runs").mkdir()
    status_main(run_id, tmp_path / "runs")
    assert f'There is no run "{run_id}" in {tmp_path}/runs/.' in capsys.readouterr().out


def test_without_any_run_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status_main(runs_dir=tmp_path)
    assert f"No runs found in {tmp_path}/" in capsys.readouterr().out


@pytest.mark.wire
def test_it_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "agent_preflight.status", "absent"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.startswith('There is no run "absent" in runs/.')) == (1, True)
