"""A line of the preflight report: what every check answers with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One finding: ``ok`` is True for a pass, False for a failure, None for a warning.

    ``failure`` is the text in the list of failures; only failed lines have one. ``hint`` says what to do.
    ``is_skipped``: there was nothing to check; it has the sign of a warning, as ever, and is not counted as one.
    """

    ok: bool | None
    name: str
    detail: str = ""
    failure: str = ""
    hint: str = ""
    is_skipped: bool = False


def counted(count: int, thing: str) -> str:
    """Return a number with its noun: `1 model`, `2 models`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def passed(name: str, detail: str = "") -> CheckLine:
    """Return a line that passed."""
    return CheckLine(ok=True, name=name, detail=detail)


def warned(name: str, detail: str) -> CheckLine:
    """Return a line that neither passed nor failed."""
    return CheckLine(ok=None, name=name, detail=detail)


def skipped(name: str, detail: str) -> CheckLine:
    """Return a line of a check that had nothing to check."""
    return CheckLine(ok=None, name=name, detail=detail, is_skipped=True)


def failed(name: str, detail: str, failure: str, hint: str = "") -> CheckLine:
    """Return a line that failed, with the text for the list of failures, and what to do."""
    return CheckLine(ok=False, name=name, detail=detail, failure=failure, hint=hint)
