"""The preflight report: pure text from lines."""

from collections.abc import Sequence

from agent_preflight.base.terminal import plain
from agent_preflight.checks.line import CheckLine, counted

RULE = "=" * 60

SIGNS: dict[bool | None, tuple[str, str]] = {True: ("v", "32"), None: ("!", "33"), False: ("x", "31")}
"""Sign and colour (ECMA-48) of a pass, a warning, a failure."""


def head() -> list[str]:
    """Return the lines above the first check."""
    return ["", f"  {RULE}", "  PREFLIGHT CHECKS", f"  {RULE}"]


def line_text(line: CheckLine, *, colour: bool = False) -> str:
    """Return one check's line; what others wrote in it is made plain."""
    sign, code = SIGNS[line.ok]
    shown = f"\x1b[{code}m{sign}\x1b[0m" if colour else sign
    hint = f" -> {plain(line.hint)}" if line.hint else ""
    return f"  [{shown}] {plain(line.name)}  {plain(line.detail)}{hint}".rstrip()


def foot(failures: Sequence[str], *, warnings: int = 0) -> list[str]:
    """Return the lines below the last check; ``warnings`` counts the lines that deserve a look."""
    if not failures:
        more = f", with {counted(warnings, 'warning')}" if warnings else ""
        return ["", f"  All preflight checks passed{more}.", ""]
    listed = [f"    x {plain(failure)}" for failure in failures]
    return ["", f"  PREFLIGHT FAILED ({counted(len(failures), 'issue')}):", *listed, ""]
