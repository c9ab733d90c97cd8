"""`agent-preflight demo`: runs four agents against the offline OpenRouter, each under its own budget.

Agents run in containers if this machine can, else as processes. At the end the demo compares what our ledger posted with what
the simulator billed.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from agent_preflight.base.config import variable
from agent_preflight.base.console import say
from agent_preflight.base.tables import show
from agent_preflight.base.usd import exact, pusd, usd
from agent_preflight.docker.gates import choose_gate_mode
from agent_preflight.docker.images import DEFAULT_BASE, LOCAL_BASE, context_dir, ensure_image, missing_base
from agent_preflight.engine.client import Engine
from agent_preflight.launch.run_view import RunView, run_view
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.settings import RunSettings, SandboxKind
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking
from agent_preflight.runs.costs import cost_lines, sums_of
from agent_preflight.runs.folder import open_try
from agent_preflight.runs.places import place_lines
from agent_preflight.runs.request import Finished, RunRequest
from agent_preflight.runs.result import exit_code
from agent_preflight.sidecar.keeper import own_process, until_ready
from agent_preflight.views.run_table import final_parts
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.secret import Secret

DemoSandboxChoice = Literal["auto", "docker", "process"]

BUDGET_USD = Decimal("0.25")
AGENTS = (
    ("thrifty", "openai/gpt-4.1-nano"),
    ("greedy", "anthropic/claude-haiku-4.5"),
    ("parallel", "anthropic/claude-sonnet-4.5"),
    ("idle", "deepseek/deepseek-chat-v3.1"),
)
"""What each agent does (see docker/demo/agent.py), and the model it does it with."""
IDLE_S = 6.0
"""Longer than an answer takes at the demo's pace, and short enough to watch."""
TASK = "Explain in a few lines why a ledger has two sides."
PACE = """
tokens_per_s = 80.0
first_token_s = 0.2
"""
"""A scenario for the simulator: slow enough that there is something to see."""


class DemoPlace(msgspec.Struct, frozen=True):
    """Where agents run.

    Attributes:
        sandbox: The kind of sandbox.
        image: The demo image's id, empty for processes.
        base: The image that our images are built on, None for processes.
        command: What comes before an agent's arguments.
        sentence: What that means, for a person.
    """

    sandbox: SandboxKind
    image: str
    base: str | None
    command: tuple[str, ...]
    sentence: str


async def choose_place(sandbox: DemoSandboxChoice, base: str | None) -> DemoPlace:
    """Return where the demo's agents run. No image is pulled.

    Args:
        sandbox: `"auto"` takes containers where they work.
        base: The image to build on; None for the first of `DEFAULT_BASE`, `LOCAL_BASE` that is here.

    Raises:
        OperatingError: The choice is `"docker"`, and containers do not work here.
    """
    reason = "as --sandbox process asks"
    if sandbox != "process":
        try:
            return await _containers(base)
        except OperatingError as exc:
            if sandbox == "docker":
                raise
            reason = str(exc)
    sentence = (
        "Agents run as processes of this machine: their budgets hold all the same, because they have no key but a trial "
        f"token, but they see what you may see. ({reason})"
    )
    return DemoPlace("process", "", None, (sys.executable, str(context_dir("demo") / "agent.py")), sentence)


async def _containers(base: str | None) -> DemoPlace:
    bases = (base,) if base else (DEFAULT_BASE, LOCAL_BASE)
    async with Engine.open() as engine:
        present = [each for each in bases if await engine.image(each) is not None]
        if not present:
            reason = await missing_base(engine, "demo", bases[0])
            raise ConfigError(f"{reason} Or run it without containers: --sandbox process. Nothing was spent.")
        image, gate = await ensure_image(engine, "demo", present[0]), await ensure_image(engine, "gate", present[0])
        with open_try("handshake") as folder:
            await choose_gate_mode(engine, "auto", gate, folder.path, folder.short_dir)
    sentence = "Agents run in containers, sealed: no network but the proxy, no key but a trial token."
    return DemoPlace("docker", image, present[0], (), sentence)


class Simulated(msgspec.Struct, frozen=True):
    """The offline OpenRouter, running."""

    base_url: str
    admin_key: Secret

    async def billed_usd(self) -> Decimal:
        """Return what it has billed in all. Each generation is rounded to the pico-dollar, as in the ledger: M2 (exact costs)."""
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.get(self.base_url.removesuffix("/api/v1") + "/sim/bill")
        return bill_sum_usd(response.json())


def bill_sum_usd(bill: Mapping[str, Any]) -> Decimal:
    """Return the sum of a bill, each generation rounded to the pico-dollar."""
    generations = [row for key in bill["keys"].values() for row in key["generations"]]
    return usd(sum(pusd(str(row["cost_usd"])) for row in generations))


def run_demo(
    sandbox: DemoSandboxChoice = "auto",
    base: str | None = None,
    runs_dir: Path = Path("runs"),
    *,
    compared: Callable[[Mapping[str, Any]], object] = lambda document: None,
) -> int:
    """Run the demo, print what there is to see, and return the exit code.

    Args:
        sandbox: Where agents run.
        base: Image of plain Python to build on; else PREFLIGHT_DEMO_BASE.
        runs_dir: Where the run's folder is made.
        compared: Takes the two sums at the end, for machines.

    Returns:
        0 if both sums agree and everything was cleaned up; 3 if they do not; else as `exit_code`.

    Raises:
        OperatingError: The demo cannot be run here.
        KeyboardInterrupt: Ctrl-C; everything has been ended.
    """
    view = run_view()
    base = base or variable("PREFLIGHT_DEMO_BASE")
    sums = run_blocking(lambda stop: _demo(sandbox, base, runs_dir, view, stop))
    if sums is None:
        return 130
    finished, billed = sums
    posted = sums_of(list(cost_lines(finished.run_dir))).cost_usd
    amounts = {"posted_usd": exact(pusd(posted)), "billed_usd": exact(pusd(billed))}
    compared({"run_dir": str(finished.run_dir), **amounts, "agree": posted == billed})
    return _compare(finished, posted, billed)


async def _demo(
    sandbox: DemoSandboxChoice, base: str | None, runs_dir: Path, view: RunView, stop: StopSignal
) -> tuple[Finished, Decimal] | None:
    """Run the demo and return the run with the simulator's bill; None if a person ended it."""
    place = await choose_place(sandbox, base)
    say(f"{place.sentence}\nThe OpenRouter they talk to is a simulator on this machine: no account, no money.\n")
    async with simulator() as simulated:
        with contextlib.closing(view):
            finished = await run_field(_request(place, simulated, runs_dir, view), stop, view.progress)
        billed = await simulated.billed_usd()
    show(*final_parts(finished.run_dir))
    return None if stop.ending.is_set() else (finished, billed)


def _request(place: DemoPlace, simulated: Simulated, runs_dir: Path, view: RunView) -> RunRequest:
    settings = RunSettings(
        models=tuple(NamedModel(model, kind) for kind, model in AGENTS),
        admin_key=simulated.admin_key,
        budget_usd=BUDGET_USD,
        image_name=place.image,
        command=place.command,
        container_args={kind: (kind, "--model", model) for kind, model in AGENTS},
        sandbox=place.sandbox,
        network="host" if place.sandbox == "process" else "sealed",
        initial_prompt=TASK,
        budget_mode="detailed",
        idle_timeout_s=IDLE_S,
        openrouter_base_url=simulated.base_url,
        runs_dir=str(runs_dir),
        log_fn=view.say,
    )
    run_id = f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    return RunRequest(settings=settings, suggested_id=run_id, gate_base=place.base)


def _compare(finished: Finished, posted: Decimal, billed: Decimal) -> int:
    """Print the two sums and return the exit code."""
    agree = posted == billed
    say(f"\nour ledger posted     ${posted:.12f}")
    say(f"the simulator billed  ${billed:.12f}")
    say("They agree to the pico-dollar.\n" if agree else f"THEY DIFFER by ${abs(posted - billed):.12f}.\n")
    for line in place_lines(finished.run_dir, f" --runs-dir {shlex.quote(str(finished.run_dir.parent))}"):
        say(line)
    return exit_code(finished.results, finished.held_back) if agree else 3


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
