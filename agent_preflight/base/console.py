"""Prints for people. No other module of the host half does."""

import os
import sys
from typing import TextIO


def say(text: str = "", stream: TextIO | None = None) -> None:
    """Print a line on standard output, or on a stream. Characters that its encoding lacks are replaced."""
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    write_line(stream, text.encode(encoding, errors="replace").decode(encoding))


def write_line(stream: TextIO, line: str) -> None:
    """Write a line at once. If the reader of a pipe is gone, as `head` after its lines, this and all later lines are dropped.

    It is no error, because a run must go on and end its agents, whoever reads its output.
    """
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
