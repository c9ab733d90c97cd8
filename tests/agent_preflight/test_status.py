"""How a run stands, told from its folder alone."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.models import CacheStats, RunResult
from agent_preflight.status import container_running, main, print_status_table, status_main, summarise_model
from tests.support.scripted_engine import Fail, ScriptedEngine


@pytest.fixture
def run(tmp_path: Path, no_engine: str) -> Path:
    """An empty run, on a machine without an engine."""
    folder = tmp_path / "runs" / "run-1"
    folder.mkdir(parents=True)
    return folder


def finish(run: Path, alias: str, **fields: Any) -> Path:
    folder = run / alias
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(RunResult(alias, "m/x", 0.5, **fields).to_dict()))
    return folder


def begin(run: Path, alias: str, *events: dict[str, Any]) -> Path:
    folder = run / alias
    folder.mkdir()
    (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


EVENTS = (
    {"timestamp": "2026-01-01T00:00:00+00:00", "type": "agent_start", "elapsed_s": 0.5},
    {"timestamp": "2026-01-01T00:00:03+00:00", "type": "tool_execution_start", "elapsed_s": 3.5},
)


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


def test_the_table_ends_with_errors_and_with_what_is_to_be_known_of_the_others(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(run, "a", error="ejected: idle")
    silent = finish(run, "b")
    document = json.loads((silent / "summary.json").read_text())
    (silent / "summary.json").write_text(json.dumps({**document, "preflight": {"notes": ["no call\x1b[31m"]}}))
    print_status_table(run)
    assert capsys.readouterr().out.splitlines()[-2:] == ["  a: ejected: idle", "  b: no call"]


def test_a_trial_that_has_not_begun(run: Path) -> None:
    (run / "a").mkdir()
    row = summarise_model(run / "a")
    assert (row["status"], row["running"], row["started_at"], row["duration_s"]) == ("pending", False, None, None)


def test_without_a_summary_events_tell(run: Path) -> None:
    row = summarise_model(str(begin(run, "a", *EVENTS)))
    assert (row["events"], row["tool_calls"], row["duration_s"]) == (2, 1, 3)
    assert row["started_at"] == "2026-01-01T00:00:00+00:00"
    assert row["status"] == "pending"


def test_without_elapsed_times_the_timestamps_tell(run: Path) -> None:
    events = [{k: v for k, v in e.items() if k != "elapsed_s"} for e in EVENTS]
    assert summarise_model(begin(run, "a", *events))["duration_s"] == 3


def test_a_torn_or_corrupt_event_is_not_counted(run: Path) -> None:
    folder = begin(run, "a", *EVENTS)
    with (folder / "events.jsonl").open("a") as file:
        file.write('garbage\n{"type": "torn')
    assert summarise_model(folder)["events"] == 2


def test_a_corrupt_summary_is_as_if_absent(run: Path) -> None:
    folder = begin(run, "a", *EVENTS)
    (folder / "summary.json").write_text("{corrupt")
    assert summarise_model(folder)["status"] == "pending"


def test_a_trial_of_a_live_run_is_running_without_asking_docker(run: Path) -> None:
    folder = begin(run, "a", *EVENTS)
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert summarise_model(folder)["status"] == "running"
        (run / "b").mkdir()
        assert summarise_model(run / "b")["status"] == "pending"
    assert summarise_model(folder)["status"] == "pending"


def test_asking_how_a_run_stands_does_not_keep_it_locked(run: Path) -> None:
    (run / "lock").write_text("")
    summarise_model(begin(run, "a", *EVENTS))
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


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


def test_the_table_in_its_known_form(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, "a1", duration_s=75, cost_usd=0.1235, tool_calls=3, cache=CacheStats(1000, 800, 0, 2, 1))
    finish(run, "a2", error="ejected: a very long reason that goes on and on and on and more", cost_usd=0.0)
    begin(run, "a3")
    print_status_table(run)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "  alias  status   events  tools  snaps  cost    cache  time   note" + " " * 36
    assert out[1] == "  " + "─" * 100
    assert out[2].rstrip() == "  a1     DONE     0       3      0      $0.123  80%    1m15s"
    assert out[3] == (
        "  a2     ERR      0       0      0      -       -      -      err: ejected: a very long reason that go"
    )
    assert out[4].rstrip() == "  a3     pending  0       0      0      -       -      -"
    assert out[5:7] == ["", "  2/3 complete"]
    assert out[7:] == ["  a2: ejected: a very long reason that goes on and on and on and more"]


def test_a_running_trial_s_time_bears_a_star(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(run, "a", *EVENTS)
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print_status_table(run)
    assert "s*" in capsys.readouterr().out


def test_text_from_files_reaches_the_terminal_without_escapes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, "a\x1b[31m", error="\x1b]0;owned\x07bad\nnews")
    print_status_table(run)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "err: bad news" in out


def test_a_run_without_trials_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_status_table(run)
    assert capsys.readouterr().out == "  No model directories found.\n"


def test_the_status_of_the_latest_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, "a")
    status_main(runs_dir=run.parent)
    out = capsys.readouterr().out
    assert out.startswith("\n  Run: run-1\n  " + "=" * 60 + "\n  alias")
    assert out.endswith("  1/1 complete\n\n")
    assert main is status_main


@pytest.mark.parametrize("run_id", [None, "absent", "../outside", ".."])
def test_without_such_a_run_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], run_id: str | None) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "runs").mkdir()
    status_main(run_id, tmp_path / "runs")
    assert f"No runs found in {tmp_path}/runs/" in capsys.readouterr().out


def test_a_summary_full_of_nonsense_still_makes_a_row(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finish(run, "a")
    nonsense = {"cost_usd": "x", "tool_calls": [], "cache": 5, "duration_s": None, "error": {"a": 1}, "started_at": 3}
    (folder / "summary.json").write_text(json.dumps(nonsense))
    print_status_table(run)
    assert "err: {'a': 1}" in capsys.readouterr().out


@pytest.mark.wire
def test_it_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "agent_preflight.status", "absent"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "  No runs found in runs/ (no run is named absent)\n")
