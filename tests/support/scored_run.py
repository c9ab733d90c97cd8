"""One real run with everything that figures are made of: faults, aborted streams, a cache, repeats, scores, a spent budget.

It is made once a session, against the simulator, with agents as processes, in a few seconds: the fixture `scored_run`.
"""

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.models import RunResult
from agent_preflight.runner import run_multi
from openrouter_sim import Simulator
from openrouter_sim.calls.scenario import FaultRule, Scenario
from openrouter_sim.faults import make_fault
from tests.support.trial_field import agent

MODELS = {
    "nano": "openai/gpt-4.1-nano",
    "haiku": "anthropic/claude-haiku-4.5",
    "deepseek": "deepseek/deepseek-chat-v3.1",
    "sonnet": "anthropic/claude-sonnet-4.5",
}
REPEATS = 2
BUDGETS_USD = {"nano": "0.05", "haiku": "0.20", "deepseek": "0.05", "sonnet": "0.07"}
"""Sonnet's does not pay for all of its calls."""

SCORES = {
    "nano": ("0.5", "1"),
    "haiku": ("true", "1.0"),
    "deepseek": ("0.25", "no number"),
    "sonnet": ("0.75", ""),
}
"""What the trials of a model write as their scores; scoring the last of two models fails."""

AGENT = f"""
alias = sys.argv[1]; base, number = alias.split("-")
model = os.environ["PREFLIGHT_MODEL"]
told = "A rule of the house is read before anything else is done, and then it is followed. " * 330
mark = {{"cache_control": {{"type": "ephemeral"}}}}
talk = [{{"role": "system", "content": [{{"type": "text", "text": told, **mark}}]}}]
say("agent_start")
for turn in range(14 if base == "sonnet" else 5):
    talk.append({{"role": "user", "content": f"turn {{turn}} of {{alias}}"}})
    status, answer = call(model, messages=talk)
    say("tool_execution_start", toolName=("read_file", "run_tests")[turn % 2])
    say("tool_execution_end", toolName=("read_file", "run_tests")[turn % 2], success=True)
    if status == 402: break
    talk.append({{"role": "assistant", "content": "done"}})
if base in ("nano", "haiku"):
    # A stream of which the client leaves after its first bytes.
    body = {{"model": model, "messages": talk, "max_tokens": 400, "stream": True}}
    headers = {{"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}}
    request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response: response.read(40)
scores = {dict(SCORES)!r}
open("score.txt", "w").write(scores[base][int(number) - 1])
if alias == "deepseek-2": sys.exit(3)
say("agent_end", status="done")
"""
SCENARIO = Scenario(
    tokens_per_s=400.0,
    faults=(
        # Charged, and found in the generation's record; not charged, which the form of the error proves.
        FaultRule(
            make_fault("http_error", {"status": 502, "charge": True}), model=MODELS["deepseek"], after=2, times=2
        ),
        FaultRule(
            make_fault("http_error", {"status": 503, "message": "No instances available", "shows_id": False}),
            model=MODELS["nano"],
            after=3,
            times=3,
        ),
    ),
)


@dataclass(frozen=True)
class ScoredRun:
    """A run that is over, and what must be true of it.

    Attributes:
        run_dir: Its folder; the folder above holds this run alone.
        results: What `run_multi` returned.
        billed_usd: What OpenRouter billed each trial's key, by alias.
        said: What the run printed.
    """

    run_dir: Path
    results: tuple[RunResult, ...]
    billed_usd: Mapping[str, Decimal]
    said: tuple[str, ...]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run_dir.name

    @property
    def runs_dir(self) -> Path:
        """The folder of runs."""
        return self.run_dir.parent

    def asked(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query of the ledger, past all of our own code that reads it."""
        with contextlib.closing(sqlite3.connect(f"file:{self.run_dir / 'ledger.sqlite3'}?mode=ro", uri=True)) as ledger:
            return list(ledger.execute(sql))


def make_scored_run(runs_dir: Path) -> ScoredRun:
    """Run the field; its ledger equals the bill."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    simulator = Simulator(SCENARIO)
    asyncio.run_coroutine_threadsafe(simulator.start(), loop).result(60)
    said: list[str] = []
    try:
        results = run_multi(
            [(model, alias) for alias, model in MODELS.items()],
            admin_key=simulator.admin_key,
            or_key=simulator.inference_key,
            openrouter_base_url=simulator.base_url,
            budget_usd=BUDGETS_USD,
            runs_dir=runs_dir,
            run_id="run-scored",
            sandbox="process",
            command=[*agent(AGENT), "{alias}"],
            skip_preflight=True,
            repeats=REPEATS,
            tags={"task": "letters", "note": "<b>5 & 6</b>"},
            score='tail -n 1 "$PREFLIGHT_OUTPUT/score.txt"',
            score_pass=0.9,
            log_fn=said.append,
        )
    finally:
        asyncio.run_coroutine_threadsafe(simulator.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
    run_dir = runs_dir / "run-scored"
    totals = {key.name: key.total_usd for key in simulator.bill().keys.values()}
    plan = json.loads((run_dir / "plan.json").read_text())
    billed = {trial["alias"]: totals[trial["key_name"]] for trial in plan["trials"]}
    return ScoredRun(run_dir, tuple(results), billed, tuple(said))


@pytest.fixture(scope="session")
def scored_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScoredRun]:
    """The run, made when the first test of this session asks for it. Tests read it and change nothing in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENROUTER_BASE_URL", raising=False)
        yield make_scored_run(tmp_path_factory.mktemp("scored") / "runs")
