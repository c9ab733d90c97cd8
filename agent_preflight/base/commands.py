"""Short commands of other programs (git, docker build), run to their end within a time limit."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

OUTPUT_CHARS_MAX = 64 * 2**10
"""How much of a command's output is looked at; all that is run here answers in a line or two."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The command ran to its end."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class NotInstalled:
    """There is no such program on PATH, or it may not be run."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """It did not end in time and was killed."""


def run(argv: Sequence[str], *, timeout_s: float) -> CommandResult | NotInstalled | TimedOut:
    """Run a command without a shell and wait for it; never raises for what the command does.

    Args:
        argv: program and arguments; each is one argument, whatever it contains.
        timeout_s: after this many seconds it is killed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - no shell; arguments are handed over one by one
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return TimedOut()
    except (OSError, ValueError):
        return NotInstalled()
    return CommandResult(done.returncode, _text(done.stdout), _text(done.stderr))


def show(argv: Sequence[str], *, timeout_s: float) -> int | NotInstalled:
    """Run a command whose output goes where ours goes, and return its exit code; that of one that is late is 124."""
    try:
        return subprocess.run(list(argv), stdin=subprocess.DEVNULL, timeout=timeout_s, check=False).returncode  # noqa: S603
    except subprocess.TimeoutExpired:
        return 124
    except (OSError, ValueError):
        return NotInstalled()


def _text(output: bytes) -> str:
    return output[: OUTPUT_CHARS_MAX * 4].decode(errors="replace")[:OUTPUT_CHARS_MAX].strip()
