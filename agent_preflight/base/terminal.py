"""Text that others wrote, made fit for a terminal."""

import re

ESCAPES = re.compile(
    r"""
      (?:\x1b\]|\x9d|\x1b[PX^_]|[\x90\x98\x9e\x9f]) [^\x07\x1b\x9c\n]* (?:\x07|\x1b\\|\x9c)?  # titles, links, strings
    | (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]?                                                    # colours, cursor, erasing
    | \x1b [ -/]* [0-~]?                                                                      # all other escapes
    """,
    re.VERBOSE,
)
"""ECMA-48 control sequences, those in eight bits and broken-off ones too."""


def plain(text: str, *, keep_lines: bool = False) -> str:
    """Return text without control characters, escapes or marks that turn the writing direction.

    Whole escape sequences are dropped; any other character that does not print becomes a space.

    Args:
        text: what an agent, a provider or a file said.
        keep_lines: let newlines and tabs stand.
    """
    kept = "\n\t" if keep_lines else ""
    return "".join(c if c.isprintable() or c in kept else " " for c in ESCAPES.sub("", text))
