"""The pages that users read, as Markdown: their code blocks, headings and links."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FENCE = re.compile(r"^(?P<fence>```+)(?P<kind>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+)(?:\s+\"[^\"]*\")?\)")
SOURCE = re.compile(r"""<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=["'](?P<target>[^"']+)["']""")
INDENTED = re.compile(r"(?:(?<=\n\n)|\A) {4}(?:from [\w.]+ import|import) .*\n(?:(?: {4}.*)?\n)*")
"""Python in an indented block, which has no fence to say so: its first line imports."""
HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *#*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block of a page: what its fence says it is, its text, and the line that it begins in."""

    kind: str
    text: str
    line: int


def pages() -> list[Path]:
    """Return every Markdown page of the repository."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(path for path in found if "site-packages" not in path.parts)


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced code blocks, in their order."""
    for found in FENCE.finditer(text):
        yield Block(found["kind"], found["text"], text.count("\n", 0, found.start()) + 1)


def python_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of Python, fenced or indented."""
    yield from (block for block in blocks(text) if block.kind == "python")
    for found in INDENTED.finditer(text):
        yield Block("python", textwrap.dedent(found[0]), text.count("\n", 0, found.start()) + 1)


def prose(text: str) -> str:
    """Return a page without its code: blocks, indented lines and code spans."""
    text = FENCE.sub("", text)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def links(text: str) -> list[str]:
    """Return the targets of all links and pictures."""
    plain = prose(text)
    return [found["target"] for pattern in (LINK, SOURCE) for found in pattern.finditer(plain)]


def anchors(text: str) -> set[str]:
    """Return what a link to this page may name behind `#`: as GitHub makes them of headings.

    Source: the anchors that GitHub showed for headings of this repository's pages; November 2026.
    """
    found: set[str] = set()
    for heading in HEADING.finditer(FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading["text"])
        plain = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while (name := plain if not number else f"{plain}-{number}") in found:
            number += 1
        found.add(name)
    return found
