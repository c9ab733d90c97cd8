"""Each type of part has one meaning."""

import pytest

from preflight_proxy.core.shapes.body import BadRequest, Json
from preflight_proxy.core.shapes.content_parts import PARTS, Part, costs_more_than_its_text, part_of
from tests.support.cases import each


@each(
    "kind, part", [("text", Part.TEXT), ("image_url", Part.MEDIA), ("input_audio", Part.AUDIO), ("file", Part.REFUSED)]
)
def test_types_are_in_the_table(kind: str, part: Part) -> None:
    assert PARTS[kind] is part


def test_no_type_is_listed_as_unknown() -> None:
    assert Part.UNKNOWN not in PARTS.values()


def test_a_message_alone_needs_no_type() -> None:
    assert part_of({"role": "user"}, inside=False) is part_of({"content": []}, inside=False) is Part.TEXT
    wrong: list[dict[str, Json]] = [{"role": "user"}, {"content": "x"}, {"type": None, "text": "x"}]
    for decoded in wrong:
        with pytest.raises(BadRequest, match="Name its type"):
            part_of(decoded, inside=True)
    with pytest.raises(BadRequest, match="Name its type"):
        part_of({"id": "msg"}, inside=False)


@each("kind", ["file", "Text", "never_seen", ["text"], "x" * 100])
def test_a_type_that_is_refused_or_unknown_is_named(kind: Json) -> None:
    with pytest.raises(BadRequest, match="refused") as caught:
        part_of({"type": kind}, inside=True)
    assert len(caught.value.message) < 150


@each(
    "kind, more", [("image", True), ("file", True), ("document", True), ("text", False), ("new", False), (None, False)]
)
def test_parts_that_cost_more_than_their_text_are_told_apart(kind: Json, more: bool) -> None:
    assert costs_more_than_its_text({"type": kind}) is more
