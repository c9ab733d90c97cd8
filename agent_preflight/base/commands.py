"""Short commands of other programs (git, docker build), run to their end within a time limit."""

import subprocess
from collections.abc import Sequence

from preflight_proxy.core.errors import OperatingError

LATE_CODE = 124
"""The exit code of a shown command that is killed because it is late, as of the program `timeout`."""


class CommandError(OperatingError):
    """The command did not run to its end: it is not installed, or was late and was killed."""


def run(argv: Sequence[str], *, timeout_s: float) -> tuple[int, str]:
    """Run a command without a shell and without input, and wait for it.

    Args:
        argv: Program and arguments; each is one argument, whatever it contains.
        timeout_s: After this many seconds it is killed.

    Returns:
        Its exit code, and what it printed on standard output, without blanks around it.

    Raises:
        CommandError: There is no such program on PATH, or it is late; the text says which.
    """
    try:
        ended = subprocess.run(  # noqa: S603 - no shell; arguments are handed over one by one
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"{argv[0]} timed out") from None
    except (OSError, ValueError):
        raise CommandError(f"{argv[0]} CLI not found") from None
    return ended.returncode, ended.stdout.decode(errors="replace").strip()


def show(argv: Sequence[str], *, timeout_s: float) -> int:
    """Run a command whose output goes where ours goes, and return its exit code; `LATE_CODE` if it is late.

    Raises:
        CommandError: There is no such program on PATH.
    """
    try:
        return subprocess.run(list(argv), stdin=subprocess.DEVNULL, timeout=timeout_s, check=False).returncode  # noqa: S603
    except subprocess.TimeoutExpired:
        return LATE_CODE
    except (OSError, ValueError):
        raise CommandError(f"{argv[0]} CLI not found") from None
