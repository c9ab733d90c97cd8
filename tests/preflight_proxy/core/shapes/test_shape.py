"""Every shape stands behind the one interface, under its own path."""

import pytest

from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from tests.support.cases import each


def test_the_table_leads_from_path_to_shape() -> None:
    assert {path: shape.name for path, shape in SHAPES.items()} == {
        "/chat/completions": "chat",
        "/responses": "responses",
        "/messages": "messages",
        "/completions": "completions",
        "/embeddings": "embeddings",
    }


@each("shape", SHAPES.values())
def test_a_shape_never_raises_on_an_answer(shape: Shape) -> None:
    for body in (b"", b"  \n", b"[]", b"null", b"\xff", b"{", b'{"usage":[]}', b"[" * 100_000, b'{"choices":7}'):
        read = shape.read_body(body)
        assert read.usage is None or read.usage.cost_pusd is None


def test_a_reading_is_empty_unless_something_was_said() -> None:
    assert Reading() == Reading(None, None, None, None, None, False, False, ())


def test_what_an_event_leaves_out_stays_as_an_earlier_event_said_it() -> None:
    usage = CallUsage(cost_pusd=5, prompt_tokens=3)
    reading = Reading("gen-1", "a/b", "Azure", usage, "stop", error=True, terminal=True, tool_names=("ls",))
    assert reading.then(Reading()) == reading
    assert Reading().then(reading) == reading


def test_of_two_events_the_later_one_counts_and_the_tools_of_both() -> None:
    reading = Reading("gen-1", "a/b", "Azure", CallUsage(cost_pusd=5), "length", tool_names=("ls",))
    later = Reading("gen-2", "a/c", "OpenAI", CallUsage(cost_pusd=7), "stop", tool_names=("cat",))
    assert reading.then(later) == Reading(
        "gen-2", "a/c", "OpenAI", CallUsage(cost_pusd=7), "stop", tool_names=("ls", "cat")
    )


@pytest.mark.parametrize(("is_byok", "counts"), [(False, "earlier"), (True, "later")])
def test_a_usage_without_a_cost_counts_only_if_the_kind_of_key_changed(is_byok: bool, counts: str) -> None:
    """The earlier cost was that of OpenRouter's own key, which the call did not run on."""
    usages = {"earlier": CallUsage(cost_pusd=5), "later": CallUsage(prompt_tokens=9, is_byok=is_byok)}
    reading = Reading(usage=usages["earlier"]).then(Reading(usage=usages["later"]))
    assert reading.usage == usages[counts]
