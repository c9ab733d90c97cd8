"""`agent-preflight demo`: a field of four agents against the offline OpenRouter, each under its own budget.

At its end it compares two books that know nothing of each other: what our ledger posted, and what the simulator billed.
"""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from agent_preflight.base.config import variable
from agent_preflight.base.console import say
from agent_preflight.base.usd import pusd, usd
from agent_preflight.launch.demo_place import DemoPlace, DemoSandboxChoice, choose_place
from agent_preflight.launch.run_view import RunView, print_table, run_view
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.settings import RunSettings
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking
from agent_preflight.runs.costs import cost_lines, sums_of
from agent_preflight.runs.final_table import place_lines
from agent_preflight.runs.request import Finished, RunRequest
from agent_preflight.runs.result import exit_code
from agent_preflight.sidecar import own_process, until_ready
from preflight_proxy.core.secret import Secret

BUDGET_USD = Decimal("0.25")
AGENTS = (
    ("thrifty", "openai/gpt-4.1-nano"),
    ("greedy", "anthropic/claude-haiku-4.5"),
    ("parallel", "anthropic/claude-sonnet-4.5"),
    ("idle", "deepseek/deepseek-chat-v3.1"),
)
"""What each agent does (see docker/demo/agent.py), and the model it does it with."""
IDLE_S = 6.0
"""Long enough to tell idleness from thinking at the demo's pace, short enough to be watched."""
TASK = "Explain in a few lines why a ledger has two sides."
PACE = """
tokens_per_s = 80.0
first_token_s = 0.2
"""
"""A scenario for the simulator: slow enough that there is something to see."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """The offline OpenRouter, running."""

    base_url: str
    admin_key: Secret

    @property
    def bill_url(self) -> str:
        """Where its own books are."""
        return self.base_url.removesuffix("/api/v1") + "/sim/bill"


def run_demo(sandbox: DemoSandboxChoice = "auto", base: str | None = None, runs_dir: Path = Path("runs")) -> int:
    """Run the demo, print what there is to see, and return the exit code.

    Args:
        sandbox: Where agents run.
        base: Image of plain Python to build on; else PREFLIGHT_DEMO_BASE.
        runs_dir: Where the run's folder is made.

    Returns:
        0 if both sums agree and everything was cleaned up; 3 if they do not; else as `exit_code`.

    Raises:
        OperatingError: The demo cannot be run here.
        KeyboardInterrupt: Ctrl-C; everything has been ended.
    """
    view = run_view()
    return run_blocking(lambda stop: _demo(sandbox, base or variable("PREFLIGHT_DEMO_BASE"), runs_dir, view, stop))


async def _demo(sandbox: DemoSandboxChoice, base: str | None, runs_dir: Path, view: RunView, stop: StopSignal) -> int:
    place = await choose_place(sandbox, base)
    say(f"{place.sentence}\nThe OpenRouter they talk to is a simulator on this machine: no account, no money.\n")
    async with simulator() as simulated:
        with view:
            finished = await run_field(_request(place, simulated, runs_dir, view), stop, view.progress)
        bill = await _bill(simulated)
    print_table(view.progress.rows())
    if stop.ending.is_set():
        return 130
    return _compare(finished, bill)


def _request(place: DemoPlace, simulated: Simulated, runs_dir: Path, view: RunView) -> RunRequest:
    settings = RunSettings(
        models=tuple(NamedModel(model, kind) for kind, model in AGENTS),
        admin_key=simulated.admin_key,
        budget_usd=BUDGET_USD,
        image_name=place.image,
        command=place.command,
        container_args={kind: (kind, "--model", model) for kind, model in AGENTS},
        sandbox=place.sandbox,
        network="sealed",
        initial_prompt=TASK,
        budget_mode="detailed",
        idle_timeout_s=IDLE_S,
        openrouter_base_url=simulated.base_url,
        runs_dir=str(runs_dir),
        log_fn=view.say,
    )
    run_id = f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    return RunRequest(settings=settings, suggested_id=run_id, gate_base=place.base)


def _compare(finished: Finished, bill: Mapping[str, Any]) -> int:
    """Print the two sums and return the exit code."""
    posted, billed = sums_of(list(cost_lines(finished.run_dir))).cost_usd, billed_usd(bill)
    agree = posted == billed
    say(f"\nour ledger posted     ${posted:.12f}")
    say(f"the simulator billed  ${billed:.12f}")
    say("They agree to the pico-dollar.\n" if agree else f"THEY DIFFER by ${abs(posted - billed):.12f}.\n")
    for line in place_lines(finished.run_dir, f" --runs-dir {shlex.quote(str(finished.run_dir.parent))}"):
        say(line)
    return exit_code(finished.results, finished.held_back) if agree else 3


def billed_usd(bill: Mapping[str, Any]) -> Decimal:
    """Return what the simulator billed in all, each generation rounded to the pico-dollar as the ledger must (M2)."""
    generations = [row for key in bill["keys"].values() for row in key["generations"]]
    return usd(sum(pusd(str(row["cost_usd"])) for row in generations))


@asynccontextmanager
async def simulator() -> AsyncIterator[Simulated]:
    """Run the offline OpenRouter as a process of its own while the context lasts.

    Raises:
        OperatingError: It did not start.
    """
    with tempfile.TemporaryDirectory(prefix="ap-") as private:
        scenario, ready_file = Path(private) / "pace.toml", Path(private) / "ready.json"
        scenario.write_text(PACE)
        arguments = ("--listen", "127.0.0.1:0", "--scenario", str(scenario), "--ready-file", str(ready_file))
        process = await own_process("openrouter_sim", *arguments)
        try:
            ready = await until_ready(process, ready_file)
            yield Simulated(ready["base_url"], Secret(ready["admin_key"]))
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _bill(simulated: Simulated) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(simulated.bill_url)
    bill: dict[str, Any] = response.json()
    return bill
