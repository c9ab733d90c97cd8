"""The preflight report: the line that a check returns, and the text of the whole."""

import sys
from collections.abc import Callable, Iterable, Sequence

import msgspec

from agent_preflight.base import config
from agent_preflight.base.console import say
from agent_preflight.base.tables import counted
from preflight_proxy.core.terminal import plain

RULE = "=" * 60
HEAD = ("", f"  {RULE}", "  PREFLIGHT CHECKS", f"  {RULE}")
"""The lines above the first check."""

FINDINGS = {True: "ok", None: "note", False: "problem"}
"""The finding of a line, for machines."""
SIGNS: dict[bool | None, tuple[str, str]] = {True: ("v", "32"), None: ("!", "33"), False: ("x", "31")}
"""Sign and colour (ECMA-48) of a pass, a warning, a failure."""


class CheckLine(msgspec.Struct, frozen=True):
    """One finding of a check.

    Attributes:
        ok: True for a pass, False for a failure, None for a warning.
        name: What was checked.
        detail: The finding.
        failure: The text for the list of failures; only failed lines have one.
        hint: What to do.
        is_skipped: There was nothing to check. The line has the sign of a warning, and is not counted as one.
    """

    ok: bool | None
    name: str
    detail: str = ""
    failure: str = ""
    hint: str = ""
    is_skipped: bool = False

    def to_json(self) -> dict[str, str]:
        """Return it for machines."""
        return {"name": self.name, "finding": FINDINGS[self.ok], "detail": self.detail, "hint": self.hint}


def passed(name: str, detail: str = "") -> CheckLine:
    """Return a line that passed."""
    return CheckLine(ok=True, name=name, detail=detail)


def warned(name: str, detail: str, hint: str = "") -> CheckLine:
    """Return a line that neither passed nor failed."""
    return CheckLine(ok=None, name=name, detail=detail, hint=hint)


def skipped(name: str, detail: str) -> CheckLine:
    """Return a line of a check that had nothing to check."""
    return CheckLine(ok=None, name=name, detail=detail, is_skipped=True)


def failed(name: str, detail: str, failure: str = "", hint: str = "") -> CheckLine:
    """Return a line that failed. Its text in the list of failures is `NAME: DETAIL`, unless `failure` is another."""
    return CheckLine(ok=False, name=name, detail=detail, failure=failure or f"{name}: {detail}", hint=hint)


def print_report(lines: Iterable[CheckLine], log_fn: Callable[[str], object]) -> list[str]:
    """Print the report line by line, and return the failures, each once: one cause may fail several checks."""
    for text in HEAD:
        log_fn(text)
    colour = log_fn is say and sys.stdout.isatty() and not config.variable("NO_COLOR")
    failures, warnings = dict[str, None](), 0
    for line in lines:
        warnings += line.ok is None and not line.is_skipped
        log_fn(line_text(line, colour=colour))
        if line.failure:
            failures[line.failure] = None
    for text in foot(list(failures), warnings=warnings):
        log_fn(text)
    return list(failures)


def line_text(line: CheckLine, *, colour: bool = False) -> str:
    """Return one check's line, without control characters in what others wrote."""
    sign, code = SIGNS[line.ok]
    shown = f"\x1b[{code}m{sign}\x1b[0m" if colour else sign
    hint = f" -> {plain(line.hint)}" if line.hint else ""
    return f"  [{shown}] {plain(line.name)}  {plain(line.detail)}{hint}".rstrip()


def foot(failures: Sequence[str], *, warnings: int = 0) -> list[str]:
    """Return the lines below the last check."""
    if not failures:
        more = f", with {counted(warnings, 'warning')}" if warnings else ""
        return ["", f"  All preflight checks passed{more}.", ""]
    listed = [f"    x {plain(failure)}" for failure in failures]
    return ["", f"  PREFLIGHT FAILED ({counted(len(failures), 'issue')}):", *listed, ""]
