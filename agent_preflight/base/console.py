"""The one place that prints for people: reports and tables on standard output."""

import os
import sys
from typing import TextIO


def say(text: str = "", stream: TextIO | None = None) -> None:
    """Print a line on standard output, or on a stream; characters that its encoding lacks are replaced, never an error."""
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    write_line(stream, text.encode(encoding, errors="replace").decode(encoding))


def write_line(stream: TextIO, line: str) -> None:
    """Write a line at once. A pipe whose reader is gone, as `head` goes, takes nothing more from then on, and is no error.

    Agents spend money all the same: their end must not hang on who reads along.
    """
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
