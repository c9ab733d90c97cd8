"""Commands in this process, on one tree of them: typer's own runner makes the tree anew for each, which takes longest."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from typer.main import get_command
from typer.testing import CliRunner

from agent_preflight.cli import app

COMMANDS = get_command(app)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended, and what it wrote; `output` has both streams as a terminal shows them."""

    exit_code: int
    stdout: str
    stderr: str
    output: str


def invoke(*arguments: str, env: Mapping[str, str | None] | None = None) -> CommandResult:
    """Run a command with the environment changed so (None: without the variable); what it raises comes through."""
    code: object = 0
    with CliRunner().isolation(env=env) as streams:
        try:
            COMMANDS.main(args=list(arguments), prog_name="agent-preflight")
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
        stdout, stderr, output = (stream.getvalue().decode() for stream in streams)
    assert isinstance(code, int)
    return CommandResult(code, stdout, stderr, output)
