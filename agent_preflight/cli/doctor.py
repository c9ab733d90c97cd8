"""`agent-preflight doctor`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from agent_preflight.cli.group import emit_json


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody outside this machine.")] = False,
    no_containers: Annotated[bool, typer.Option("--no-containers", help="Start no container.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what runs can do on this machine, and why not more.

    Looks at Python, the system's limits, the clock, the container engine; starts a gate as a sealed trial does, to see whether
    its listeners arrive. Prints no key. Exits with 1 if something is a problem for every run.

    Example: agent-preflight doctor --offline
    """
    from agent_preflight.base.console import say
    from agent_preflight.doctor.examine import document, examine, sections_text

    sections = examine(
        containers=not no_containers, clock=not offline, tell=lambda text: None if as_json else say(text)
    )
    report = document(sections)
    if as_json:
        emit_json(json.dumps(report))
    else:
        for line in sections_text(sections, colour=sys.stdout.isatty()):
            say(line)
    raise typer.Exit(0 if report["ok"] else 1)
