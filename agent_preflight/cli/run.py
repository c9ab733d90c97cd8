"""`agent-preflight run`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.cli.group import complain


class Sandbox(StrEnum):
    """What agents run in."""

    DOCKER = "docker"
    PROCESS = "process"


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="The agent's arguments; its command line with --sandbox process.", show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="ID or ID=ALIAS, may be repeated; else PREFLIGHT_MODELS.", show_default=False),
    ] = None,
    image: Annotated[str, typer.Option(help="The agents' image.", show_default=False)] = "",
    budget: Annotated[
        str | None, typer.Option(help="Dollars for each model; else PREFLIGHT_BUDGET, else 0.25.", show_default=False)
    ] = None,
    network: Annotated[str, typer.Option(help="sealed, bridge, or a Docker network's name.")] = "sealed",
    sandbox: Annotated[Sandbox, typer.Option(help="What agents run in.")] = Sandbox.DOCKER,
    prompt: Annotated[
        str | None, typer.Option(help="Sent to each agent on standard input as a JSON line.", show_default=False)
    ] = None,
    idle_timeout: Annotated[float, typer.Option(help="Seconds without activity before an agent is ejected.")] = 300.0,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds before a trial is ejected.", show_default=False)
    ] = None,
    max_workers: Annotated[int, typer.Option(help="Trials that go on at once.")] = 8,
    run_id: Annotated[str | None, typer.Option(help="The run's name.", show_default=False)] = None,
    runs_dir: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    skip_preflight: Annotated[bool, typer.Option("--skip-preflight", help="Start without checks.")] = False,
) -> None:
    """Run agents, one for each model, in a live table.

    Keys come from OR_ADMIN_KEY (or OPENROUTER_ADMIN_KEY) and OPENROUTER_API_KEY. The agent finds the proxy in
    OPENROUTER_BASE_URL, a token in OPENROUTER_API_KEY and its model in PREFLIGHT_MODEL.

    Example: agent-preflight run --image my-agent --model openai/gpt-4.1-nano --budget 0.05 -- --fast
    """
    from agent_preflight.cli.signals import interruptible
    from agent_preflight.command_run import run_command
    from agent_preflight.preflight import PreflightError

    given = {
        "image_name": image,
        "budget_usd": budget,
        "network": network,
        "sandbox": sandbox.value,
        "initial_prompt": prompt,
        "idle_timeout_s": idle_timeout,
        "timeout_s": timeout,
        "max_workers": max_workers,
        "run_id": run_id,
        "runs_dir": runs_dir,
        "skip_preflight": skip_preflight,
    }
    try:
        with interruptible():
            code = run_command(model or [], arguments or [], given)
    except PreflightError as exc:
        complain(f"Preflight failed: {exc}")
        raise typer.Exit(1) from exc
    raise typer.Exit(code)
