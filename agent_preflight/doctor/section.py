"""A part of the doctor's report, and the report as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent_preflight.checks.line import Line
from agent_preflight.checks.report import line_text

WORDS = {True: "ok", None: "note", False: "problem"}


@dataclass(frozen=True, slots=True)
class Section:
    """Findings on one subject: each passes, fails, or is something to know."""

    title: str
    lines: tuple[Line, ...]


def sections_text(sections: Sequence[Section], *, colour: bool = False) -> Iterator[str]:
    """Yield the report's lines."""
    for section in sections:
        yield ""
        yield section.title
        for line in section.lines:
            yield line_text(line, colour=colour)


def document(sections: Sequence[Section]) -> dict[str, Any]:
    """Return the report for machines; `ok` is False if anything is a problem."""
    return {
        "ok": healthy(sections),
        "sections": {section.title: [_row(line) for line in section.lines] for section in sections},
    }


def healthy(sections: Sequence[Section]) -> bool:
    """Tell whether nothing is a problem."""
    return all(line.ok is not False for section in sections for line in section.lines)


def _row(line: Line) -> dict[str, str]:
    return {"name": line.name, "finding": WORDS[line.ok], "detail": line.detail, "hint": line.hint}
