"""`agent-preflight demo`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Place(StrEnum):
    """Where the demo's agents run."""

    AUTO = "auto"
    DOCKER = "docker"
    PROCESS = "process"


def demo(
    sandbox: Annotated[Place, typer.Option(help="auto takes containers where they work.")] = Place.AUTO,
    base: Annotated[
        str | None,
        typer.Option(help="Image of plain Python to build on; else PREFLIGHT_DEMO_BASE.", show_default=False),
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
) -> None:
    """Run four agents offline, and compare two books.

    Each has $0.25 to spend at a simulated OpenRouter: our ledger and its bill must agree.
    Needs no account, no money and no Docker; never pulls an image. Exits with 0 only if both books agree.

    Example: agent-preflight demo --sandbox process
    """
    from agent_preflight.cli.signals import interruptible
    from agent_preflight.demo import run_demo

    with interruptible():
        code = run_demo(sandbox.value, base, runs_dir)
    raise typer.Exit(code)
