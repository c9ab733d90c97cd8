"""Runs commands, in this process or in one of their own. The tree of commands is made once, because that takes longest."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from typer.main import get_command
from typer.testing import CliRunner

from agent_preflight.cli import app

COMMANDS = get_command(app)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit code and the output of a command; `output` has both streams as a terminal shows them."""

    exit_code: int
    stdout: str
    stderr: str
    output: str


def invoke(*arguments: str, env: Mapping[str, str | None] | None = None) -> CommandResult:
    """Run a command with these environment variables (None removes one). Its exceptions are raised."""
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


def run_process(*arguments: str, env: Mapping[str, str] | None = None) -> CommandResult:
    """Run a command as a process until it ends, with these environment variables besides."""
    command = [sys.executable, "-m", "agent_preflight", *arguments]
    done = subprocess.run(
        command, capture_output=True, check=False, text=True, env={**os.environ, **(env or {})}, timeout=60
    )
    return CommandResult(done.returncode, done.stdout, done.stderr, done.stdout + done.stderr)
