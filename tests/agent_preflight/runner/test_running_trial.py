"""A running trial."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.runner.running_trial import GATE_BACK_S_MAX, MissingGate, TrialLogs
from tests.support.trial_field import MODEL, Field, agent


def test_a_gate_that_does_not_come_back_to_a_restarted_proxy_is_lost() -> None:
    absence = MissingGate()
    late_s = GATE_BACK_S_MAX + 1.0
    assert not absence.is_too_long("ready", 0.0)
    assert not absence.is_too_long("waiting", 100.0)
    assert not absence.is_too_long("ready", 100.0 + late_s)
    assert not absence.is_too_long("waiting", 200.0)
    assert not absence.is_too_long("waiting", 200.0 + GATE_BACK_S_MAX)
    assert absence.is_too_long("waiting", 200.0 + late_s)


def test_a_trial_without_a_gate_has_no_missing_gate() -> None:
    absence = MissingGate()
    assert not absence.is_too_long(None, 0.0)
    assert not absence.is_too_long(None, 1000.0)


RUNNER = """
import json, resource, sys
from agent_preflight.runner import run_multi
options = json.load(sys.stdin)
def fill(event):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if event["type"] == "full":
        open(event["marker"], "w").close()  # a file without a byte can be made
(result,) = run_multi(log_fn=lambda line: None, on_event=fill, **options)
print(json.dumps({"error": result.error, **result.preflight}))
"""
"""A runner whose files take not another byte from its agent's first event on: what a full disk does."""

FULL = """
call(); say("full", marker=os.path.abspath("full"))
while not os.path.exists("full"): time.sleep(0.01)
for _ in range(50): say("more")
call(); sys.exit(3)
"""
"""An agent that goes on once the disk is full."""


def test_the_logs_of_a_trial_are_private(tmp_path: Path) -> None:
    with TrialLogs(tmp_path) as records:
        records.log("x")
        records.line("said")
    assert records.lost == 0
    assert [record["type"] for record in TrialLogs.read(records.path)] == ["x"]
    assert (tmp_path / "run.log").read_text() == "said\n"
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_every_record_has_its_source(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with TrialLogs(tmp_path) as records:
        records.log("preflight_state", state="running")
        records.record({"type": "x", "source": "agent", "deep": deep})
    while deep:
        deep = deep[0]
    ours, theirs = TrialLogs.read(records.path)
    assert (ours["source"], ours["state"], theirs["source"], theirs["unreadable"]) == (
        *("preflight", "running"),
        *("agent", "RecursionError"),
    )


@pytest.mark.wire
def test_on_a_full_disk_log_lines_are_lost_but_the_clean_up_is_complete(trials: Field) -> None:
    given = {
        "models": [(MODEL, "a")],
        "admin_key": trials.simulator.admin_key,
        "or_key": "",
        "budget_usd": 0.05,
        "runs_dir": str(trials.runs_dir),
        "sandbox": "process",
        "command": agent(FULL),
        "skip_preflight": True,
        "openrouter_base_url": trials.simulator.base_url,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert (found["error"], found["calls"]) == ("the agent ended with exit code 3", 2)
    assert set(found["cleanup"].values()) == {"ok"}
    assert found["caps_hit"]["log_lines"] > 50
    assert not (trials.run_dirs[-1] / "a" / "summary.json").exists()
