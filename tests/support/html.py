"""Reads HTML strictly: every tag that is opened is closed, and ids are unique."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input", "rect", "line", "circle", "path", "polyline"}
"""Elements without an end here: those of HTML, and marks of SVG, which end themselves."""


@dataclass
class Element:
    """One element. `text` has all text in it, also that of its children, as a reader sees it."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str, kind: str = "") -> list[Element]:
        """Return the elements in this one of a name, and a class if it is given, in their order."""
        inside = [each for child in self.children for each in (child, *child.all("*"))]
        return [
            each
            for each in inside
            if name in ("*", each.name) and (not kind or kind in each.attributes.get("class", "").split())
        ]

    def by_id(self, name: str) -> Element:
        """Return the element of an id."""
        [element] = [each for each in self.all("*") if each.attributes.get("id") == name]
        return element

    def rows(self) -> list[list[str]]:
        """Return the texts of the cells of all rows of tables, with single blanks."""
        return [[" ".join(c.text.split()) for c in row.children if c.name in ("th", "td")] for row in self.all("tr")]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert len(self.open) > 1, f"</{tag}> ends nothing"
        assert self.open[-1].name == tag, f"</{tag}> ends <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def read_html(text: str) -> Element:
    """Return a document, or a part of one, as a tree. Raises AssertionError where it is malformed."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert len(parser.open) == 1, f"never closed: {[each.name for each in parser.open[1:]]}"
    ids = [each.attributes["id"] for each in parser.root.all("*") if "id" in each.attributes]
    assert len(ids) == len(set(ids)), f"an id is there twice: {sorted(ids)}"
    return parser.root
