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


class Gate(StrEnum):
    """How containers reach the proxy."""

    AUTO = "auto"
    SHARED = "shared"
    PORTABLE = "portable"


class Stdin(StrEnum):
    """What becomes of an agent's standard input."""

    AUTO = "auto"
    OPEN = "open"
    CLOSE = "close"


def _option(help_text: str, *names: str) -> object:
    return typer.Option(*names, help=help_text, show_default=False)


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="The agent's arguments; its command line with --sandbox process.", show_default=False),
    ] = None,
    config: Annotated[Path | None, _option("A preflight.toml or pyproject.toml; else the one in this folder.")] = None,
    model: Annotated[list[str] | None, _option("ID or ID=ALIAS, may be repeated; else PREFLIGHT_MODELS.")] = None,
    image: Annotated[str | None, _option("The agents' image.")] = None,
    budget: Annotated[str | None, _option("Dollars for each model; else PREFLIGHT_BUDGET, else 0.25.")] = None,
    network: Annotated[str | None, _option("sealed (the default), bridge, or a Docker network's name.")] = None,
    service: Annotated[list[str] | None, _option("NAME=HOST:PORT: agents reach it at http://NAME:PORT.")] = None,
    egress: Annotated[list[str] | None, _option("HOST:PORT that a sealed agent may reach besides.")] = None,
    env: Annotated[list[str] | None, _option("NAME=VALUE for the agents; NAME hands yours on.", "--env", "-e")] = None,
    mount: Annotated[list[str] | None, _option("HOST:CONTAINER, perhaps with :ro.")] = None,
    memory: Annotated[str | None, _option("Limit of each container, such as 2g.")] = None,
    cpus: Annotated[str | None, _option("Limit of each container, such as 1.5.")] = None,
    gate: Annotated[Gate | None, _option("How containers reach the proxy; auto, by what works here.")] = None,
    sandbox: Annotated[Sandbox | None, _option("What agents run in; docker by default.")] = None,
    prompt: Annotated[str | None, _option("Sent to each agent on standard input as a JSON line.")] = None,
    stdin: Annotated[Stdin | None, _option("The agents' standard input; auto keeps it open after a prompt.")] = None,
    idle_timeout: Annotated[float | None, _option("Seconds without activity before an eject; 300.")] = None,
    timeout: Annotated[float | None, _option("Seconds before a trial is ejected.")] = None,
    max_workers: Annotated[int | None, _option("Trials that go on at once; 8.")] = None,
    run_id: Annotated[str | None, _option("The run's name.")] = None,
    resume: Annotated[str | None, _option("Go on with this run: trials that have ended are kept.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: trials that failed run again too.")
    ] = False,
    runs_dir: Annotated[Path | None, _option("Where the run's folder is made; runs.")] = None,
    skip_preflight: Annotated[bool, typer.Option("--skip-preflight", help="Start without checks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each trial, at the end.")] = False,
) -> None:
    """Run agents, one for each model, in a live table.

    Everything may stand in a preflight.toml, see `agent-preflight init`; an option wins. Keys come from OR_ADMIN_KEY (or
    OPENROUTER_ADMIN_KEY) and OPENROUTER_API_KEY. The agent finds the proxy in OPENROUTER_BASE_URL, a token in
    OPENROUTER_API_KEY and its model in PREFLIGHT_MODEL.

    Example: agent-preflight run --image my-agent --model openai/gpt-4.1-nano --budget 0.05 -- --fast

    Example: agent-preflight run --resume run-20270131-120000
    """
    from agent_preflight.cli.signals import interruptible
    from agent_preflight.command_run import NOTHING_SPENT, run_command
    from agent_preflight.preflight import PreflightError

    if resume is not None and run_id not in (None, resume):
        raise typer.BadParameter("--run-id and --resume name different runs")
    if retry_failed and resume is None:
        raise typer.BadParameter("--retry-failed needs --resume RUN_ID, the run whose failed trials run again")
    if budget is not None:
        _check_budget(budget)
    given = {
        "models": model,
        "arguments": arguments,
        "image_name": image,
        "budget_usd": budget,
        "network": network,
        "services": dict(_pair(text, "--service NAME=HOST:PORT") for text in service or ()),
        "egress": egress,
        "env": dict(_variable(text) for text in env or ()),
        "mounts": mount,
        "memory": memory,
        "cpus": cpus,
        "gate": None if gate is None else gate.value,
        "sandbox": None if sandbox is None else sandbox.value,
        "initial_prompt": prompt,
        "stdin": None if stdin is None else stdin.value,
        "idle_timeout_s": idle_timeout,
        "timeout_s": timeout,
        "max_workers": max_workers,
        "run_id": resume or run_id,
        "resume": resume is not None,
        "retry_failed": retry_failed,
        "runs_dir": runs_dir,
        "skip_preflight": skip_preflight,
    }
    try:
        with interruptible():
            code = run_command(given, config, as_json=as_json)
    except PreflightError as exc:
        complain(f"{exc}.\n{NOTHING_SPENT}")
        raise typer.Exit(1) from exc
    raise typer.Exit(code)


def _check_budget(text: str) -> None:
    from agent_preflight.usd import pusd
    from preflight_proxy.core.opening import LIMIT_PUSD_MAX

    try:
        found = pusd(text)
    except (ArithmeticError, ValueError):
        found = 0
    if not 0 < found <= LIMIT_PUSD_MAX:
        raise typer.BadParameter(f"--budget is dollars above 0 and at most 1000000, such as 0.25, not {text!r}")


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"give {form}, not {text!r}")
    return name, value


def _variable(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None
