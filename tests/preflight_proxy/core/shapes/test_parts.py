"""Each type of part has one meaning."""

from preflight_proxy.core.shapes.parts import PARTS, Part
from tests.cases import each


@each(
    "kind, part", [("text", Part.TEXT), ("image_url", Part.MEDIA), ("input_audio", Part.AUDIO), ("file", Part.REFUSED)]
)
def test_types_are_in_the_table(kind: str, part: Part) -> None:
    assert PARTS[kind] is part


def test_no_type_is_listed_as_unknown() -> None:
    assert Part.UNKNOWN not in PARTS.values()
