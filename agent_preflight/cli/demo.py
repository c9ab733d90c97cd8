"""`agent-preflight demo`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.cli.options import RunsDir


class DemoSandbox(StrEnum):
    """Where the demo's agents run."""

    AUTO = "auto"
    DOCKER = "docker"
    PROCESS = "process"


def demo(
    sandbox: Annotated[
        DemoSandbox, typer.Option(help="What agents run in; auto: containers where they work.")
    ] = DemoSandbox.AUTO,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="An image with Python to build on.  [default: PREFLIGHT_DEMO_BASE, or python:3.12-slim]",
            show_default=False,
        ),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Run four agents offline, each under a budget.

    Each has $0.25 to spend at a simulated OpenRouter. At the end our ledger is compared with the simulator's bill.
    Needs no account, no money and no Docker; pulls no image. Exits with 0 only if ledger and bill agree.

    Example: agent-preflight demo --sandbox process
    """
    from agent_preflight.cli.signals import interruptible
    from agent_preflight.launch.demo import run_demo

    with interruptible():
        code = run_demo(sandbox.value, base, runs_dir)
    raise typer.Exit(code)
