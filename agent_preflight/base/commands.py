"""Short commands of other programs (git, docker build), run to their end within a time limit."""

import subprocess
from collections.abc import Sequence

from preflight_proxy.core.errors import OperatingError


class CommandError(OperatingError):
    """The command did not run to its end: it is not installed, or was killed at its time limit."""


def run(argv: Sequence[str], *, timeout_s: float, shown: bool = False) -> tuple[int, str]:
    """Run a command without a shell and without input, and wait for its end.

    Args:
        argv: Program and arguments; each is one argument, whatever it contains.
        timeout_s: After this many seconds it is killed.
        shown: Its output goes where the output of this process goes.

    Returns:
        Its exit code, and its standard output without blanks around it; empty if it was shown.

    Raises:
        CommandError: There is no such program on PATH, or it was killed; the text says which.
    """
    try:
        ended = subprocess.run(  # noqa: S603 - no shell; arguments are handed over one by one
            list(argv), stdin=subprocess.DEVNULL, capture_output=not shown, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"{argv[0]} timed out") from None
    except (OSError, ValueError):
        raise CommandError(f"{argv[0]} CLI not found") from None
    return ended.returncode, (ended.stdout or b"").decode(errors="replace").strip()
