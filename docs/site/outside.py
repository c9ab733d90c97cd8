"""Takes what lies outside docs/ into the site: README as its first page, the other root pages, the files that pages link to.

MkDocs calls the two functions. Links are rewritten, so that the pages stay as they are read in the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    **{name: name for name in ("CACHE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md")},
}
"""Pages beside README, and their places in the site."""
TARGET = re.compile(r"(?<=\]\()(?P<path>[^()#\s]+)(?P<anchor>#[^()\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and each file in the repository that a page links to."""
    for name, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    pages = [*(ROOT / name for name in PAGES), *(ROOT / "docs").rglob("*.md")]
    linked = {
        _in_repository(page, found["path"]) for page in pages for found in TARGET.finditer(page.read_text("utf-8"))
    }
    for name in sorted(filter(None, linked)):
        if not name.endswith(".md") and not name.startswith("docs/"):
            files.append(File.generated(config, _place(name), abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Return the page with its links as they are in the site."""
    source, folder = Path(str(page.file.abs_src_path)), posixpath.dirname(page.file.src_uri)

    def rewritten(found: re.Match[str]) -> str:
        name = _in_repository(source, found["path"])
        return found[0] if name is None else posixpath.relpath(_place(name), folder or ".") + (found["anchor"] or "")

    return TARGET.sub(rewritten, markdown)


def _in_repository(page: Path, path: str) -> str | None:
    """Return a link's file from the root of the repository; None for one that is elsewhere, or not there."""
    aim = (page.parent / path).resolve()
    if "://" in path or not aim.is_file() or not aim.is_relative_to(ROOT):
        return None
    return aim.relative_to(ROOT).as_posix()


def _place(name: str) -> str:
    """Return where a file of the repository is in the site."""
    return PAGES.get(name, name.removeprefix("docs/"))
