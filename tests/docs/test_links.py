"""No page links to what is not there."""

import os
from pathlib import Path

from tests.docs.pages import ROOT, anchors, links, pages


def broken(page: Path, target: str) -> str | None:
    """Return what is wrong with a link, None if it leads somewhere."""
    if target.startswith(("http://", "https://", "mailto:")):
        return None
    path, _, anchor = target.partition("#")
    aim = (page.parent / path).resolve() if path else page
    if not aim.is_relative_to(ROOT) or not aim.exists():
        return f"{page.relative_to(ROOT)}: {target}: there is no such file"
    if anchor and (aim.suffix != ".md" or anchor not in anchors(aim.read_text("utf-8"))):
        return f"{page.relative_to(ROOT)}: {target}: there is no such heading"
    return None


def test_every_link_within_the_repository_leads_somewhere() -> None:
    """Files and headings; links to other sites are not asked for here."""
    assert [
        wrong for page in pages() for target in links(page.read_text("utf-8")) if (wrong := broken(page, target))
    ] == []


def test_a_link_to_nowhere_is_found() -> None:
    page = ROOT / "docs" / "money.md"
    assert broken(page, "nowhere.txt")
    assert broken(page, "containers.md#no-such-heading")
    assert broken(page, "#no-such-heading")
    assert broken(page, os.path.relpath("/", page.parent))  # which is there, but is no file of the repository
    assert broken(page, "containers.md#the-engine") is None
