"""The one place that prints for people: reports and tables on standard output."""

import sys


def say(text: str = "") -> None:
    """Print a line; characters that the terminal's encoding lacks are replaced, never an error."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, errors="replace").decode(encoding) + "\n")
    sys.stdout.flush()
