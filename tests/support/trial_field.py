"""Runs agents that are a few lines of Python each, for tests of whole runs; the ledger must equal the bill."""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.models import RunResult
from agent_preflight.runner import run_multi
from agent_preflight.runs.costs import LEDGER, cost_lines, sums_of
from openrouter_sim import Simulator
from preflight_proxy.ledger.reader import read_snapshot

MODEL = "openai/gpt-4.1-nano"
DEAR_MODEL = "anthropic/claude-sonnet-4.5"

HELPERS = """
import json, os, sys, time, urllib.error, urllib.request
def say(type, **fields): print(json.dumps({"type": type, **fields}), flush=True)
def call(model="openai/gpt-4.1-nano", text="hello", stream=False, **more):
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 100, "stream": stream, **more}
    request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
        {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response: return response.status, response.read()
    except urllib.error.HTTPError as error: return error.code, error.read()
"""


def agent(source: str) -> list[str]:
    """Return the command line of an agent that can use `say` and `call`."""
    return [sys.executable, "-c", HELPERS + textwrap.dedent(source)]


@dataclass
class Field:
    """Runs agents as processes, with a simulated OpenRouter.

    Attributes:
        may_differ: Set by a test in which ledger and bill differ on purpose, or keys stay.
        said: What the runs printed.
    """

    simulator: Simulator
    runs_dir: Path
    may_differ: bool = False
    said: list[str] = field(default_factory=list)

    def run(self, agents: Mapping[str, str], **options: Any) -> list[RunResult]:
        """Run an agent of this source for each alias."""
        return run_multi([(MODEL, alias) for alias in agents], **self.options(agents, **options))

    def options(self, agents: Mapping[str, str], **options: Any) -> dict[str, Any]:
        """Return the keyword arguments of such a run."""
        return {
            "admin_key": self.simulator.admin_key,
            "or_key": self.simulator.inference_key,
            "budget_usd": 0.05,
            "runs_dir": self.runs_dir,
            "sandbox": "process",
            "command": {alias: agent(source) for alias, source in agents.items()},
            "skip_preflight": True,
            "log_fn": self.said.append,
            **options,
        }

    @property
    def run_dirs(self) -> list[Path]:
        """All runs' folders, oldest first."""
        return (
            sorted(self.runs_dir.iterdir(), key=lambda path: path.stat().st_mtime_ns) if self.runs_dir.exists() else []
        )

    def summary(self, alias: str) -> dict[str, Any]:
        """Return a trial's summary.json in the newest run."""
        document: dict[str, Any] = json.loads((self.run_dirs[-1] / alias / "summary.json").read_text())
        return document

    def check(self) -> None:
        """Fail unless every sub-key is deleted, nothing is pending, and ledger and bill are equal to the pico-dollar."""
        trial_keys = [key for key in self.simulator.bill().keys.values() if key.name.startswith("agent-preflight:")]
        assert all(key.deleted for key in trial_keys)
        ledgers = [run for run in self.run_dirs if (run / LEDGER).exists()]
        assert all(not read_snapshot(run / LEDGER).pending for run in ledgers)
        posted = sum((sums_of(list(cost_lines(run))).cost_usd for run in ledgers), Decimal(0))
        assert posted == sum((key.total_usd for key in trial_keys), Decimal(0))


@pytest.fixture
def trials(simulator: Simulator, tmp_path: Path) -> Iterator[Field]:
    """A field of agents. After the test its ledger must equal the bill."""
    made = Field(simulator, tmp_path / "runs")
    yield made
    if not made.may_differ:
        made.check()
