"""Tools that a client runs are counted as a template writes them; those that run upstream are refused or stay here."""

import json

import pytest

from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import BadRequest
from preflight_proxy.core.shapes.tools import Tools, kept_tools, read_tools
from tests.cases import each

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def tools(*declared: object, responses: bool = False) -> tuple[Tools, PromptText]:
    text = PromptText()
    return read_tools(json.dumps(declared).encode(), text, responses=responses), text


def test_no_tools_are_none() -> None:
    assert read_tools(None, PromptText()) == read_tools(b"null", PromptText()) == Tools()


def test_tools_are_counted_and_sized() -> None:
    found, _ = tools(FUNCTION, {"name": "g", "input_schema": {}}, {"type": "custom", "name": "h"})
    assert found.count == 3
    assert found.size_bytes >= len(json.dumps(FUNCTION, indent=4))
    assert found.kept is None


@each("tool", [{}, {"input_schema": {}}, {"name": None}, {"function": "f"}, {"type": None, "server_url": "http://x"}])
def test_a_tool_without_a_type_must_be_a_function(tool: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="type"):
        tools(tool)
    assert tools({"name": "f"}, {"function": {"name": "f"}}, {"type": None, "name": "f"})[0].count == 3


@each("kind", ["Function", "FUNCTION", "custom ", ""])
def test_a_tools_type_is_compared_exactly(kind: str) -> None:
    with pytest.raises(BadRequest):
        tools({"type": kind, "name": "f"})


def test_cache_marks_on_tools_are_noted_each_time() -> None:
    for _ in range(2):
        assert tools({**FUNCTION, "cache_control": {"type": "ephemeral"}})[1].cache_control
        inner = {"type": "function", "function": {"name": "f", "cache_control": {"ttl": "1h"}}}
        assert tools(inner)[1].cache_1h


def test_a_parameter_that_is_called_cache_control_is_no_mark() -> None:
    schema = {"type": "object", "properties": {"cache_control": {"ttl": "forever"}}}
    assert not tools({"type": "function", "function": {"name": "f", "parameters": schema}})[1].cache_control


def test_the_tools_within_a_namespace_count() -> None:
    space = {"type": "namespace", "tools": [{"type": "function", "name": "a"}, {"type": "function", "name": "b"}]}
    assert tools(space, responses=True)[0].count == 3
    with pytest.raises(BadRequest):
        tools(space)


def test_hosted_tools_that_clients_declare_unasked_are_taken_out_and_the_rest_is_kept_byte_for_byte() -> None:
    search, function = b'{"type":"web_search","external_web_access":false}', b'{"type":"function" ,"name":"\\u0061"}'
    raw = b"[ " + search + b" , " + function + b',{"type":"image_generation"} ]'
    found = read_tools(raw, PromptText(), responses=True)
    assert found.dropped == ("tools.web_search", "tools.image_generation")
    assert found.kept == (1,)
    assert kept_tools(raw, found.kept) == b"[" + function + b"]"


@each("declared", [{"type": "web_search"}, {"type": "openrouter:web_search"}, {"type": "mcp"}])
def test_tools_that_run_upstream_are_refused(declared: dict[str, object]) -> None:
    for responses in (False, True):
        with pytest.raises(BadRequest, match="run upstream"):
            tools(declared, responses=responses)
