"""A run whose runner is killed while its agents run, for tests of the sweep."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.trial_field import MODEL, Field, agent

BUSY = "call(); say('ready')\nwhile True: say('tick'); time.sleep(0.05)"
"""An agent that spends something, and ends when nobody reads its output."""

RUNNER = """
import json, sys
from agent_preflight.runner import run_multi
options = json.loads(sys.stdin.readline())
def ended(folder, result):
    if result.error:
        sys.stdout.write(f"failed: {result.alias} {result.error}\\n")
        sys.stdout.flush()
def heard(event):
    sys.stdout.write(event["type"] + "\\n")  # whole: each agent has a thread, and print writes the end of a line by itself
    sys.stdout.flush()
run_multi(options.pop("models"), log_fn=lambda line: None, on_event=heard, on_complete=ended, **options)
"""


def crash(trials: Field, agents: Mapping[str, str], run_id: str = "crashed", **options: Any) -> Path:
    """Run agents in a process until each is ready, kill the process, and return the run's folder."""
    given = {
        "models": [(MODEL, alias) for alias in agents],
        "admin_key": trials.simulator.admin_key,
        "or_key": "",
        "budget_usd": 0.05,
        "runs_dir": str(trials.runs_dir),
        "run_id": run_id,
        "sandbox": "process",
        "command": {alias: agent(source) for alias, source in agents.items()},
        "skip_preflight": True,
        "openrouter_base_url": trials.simulator.base_url,
        **options,
    }
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert runner.stdin is not None
    assert runner.stdout is not None
    with runner, runner.stdin, runner.stdout:
        runner.stdin.write(json.dumps(given) + "\n")
        runner.stdin.flush()
        waiting = len(given["models"])
        while waiting:
            line = runner.stdout.readline()
            assert line, "the runner ended by itself"
            assert not line.startswith("failed:"), line
            waiting -= line == "ready\n"
        runner.kill()
    return trials.runs_dir / run_id
