"""Removes from the texts of others what would control a terminal."""

import re

ESCAPES = re.compile(
    r"""
      (?:\x1b\]|\x9d|\x1b[PX^_]|[\x90\x98\x9e\x9f]) [^\x07\x1b\x9c\n]* (?:\x07|\x1b\\|\x9c)?  # titles, links, strings
    | (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]?                                                    # colours, cursor, erasing
    | \x1b [ -/]* [0-~]?                                                                      # all other escapes
    """,
    re.VERBOSE,
)
"""ECMA-48 control sequences, also in eight bits, and incomplete ones."""


def plain(text: str, *, keep_lines: bool = False) -> str:
    """Return text without control characters, escapes and marks that change the direction of writing.

    Whole escape sequences are dropped; any other character that does not print becomes a space.

    Args:
        text: From an agent, a provider or a file.
        keep_lines: Keep newlines and tabs.
    """
    kept = "\n\t" if keep_lines else ""
    return "".join(c if c.isprintable() or c in kept else " " for c in ESCAPES.sub("", text))
