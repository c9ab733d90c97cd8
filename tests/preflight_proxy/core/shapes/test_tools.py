"""Tools that a client runs are counted as a template writes them; those that run upstream are refused or stay here."""

import json

import pytest

from preflight_proxy.core.pricing.prompt_bound import TOOL_TOKENS, TOOL_USE_TOKENS, prompt_bound
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.request_writer import write_request
from preflight_proxy.core.shapes.tools import CLIENT_TOOLS, Api, Tools, kept_tools, read_tools
from tests.support.cases import each
from tests.support.quote_cases import MESSAGES, RESPONSES, endpoint, read

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


APIS: tuple[Api, ...] = ("chat", "messages", "responses")


def tools(*declared: object, api: Api = "chat") -> tuple[Tools, PromptText]:
    text = PromptText()
    return read_tools(json.dumps(declared).encode(), text, api), text


def test_no_tools_are_none() -> None:
    assert read_tools(None, PromptText(), "chat") == read_tools(b"null", PromptText(), "chat") == Tools()


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
    assert tools(space, api="responses")[0].count == 3
    with pytest.raises(BadRequest):
        tools(space)


def test_hosted_tools_that_clients_declare_unasked_are_taken_out_and_the_rest_is_kept_byte_for_byte() -> None:
    search, function = b'{"type":"web_search","external_web_access":false}', b'{"type":"function" ,"name":"\\u0061"}'
    raw = b"[ " + search + b" , " + function + b',{"type":"image_generation"} ]'
    found = read_tools(raw, PromptText(), "responses")
    assert found.dropped == ("tools.web_search", "tools.image_generation")
    assert found.kept == (1,)
    assert kept_tools(raw, found.kept) == b"[" + function + b"]"


@each("access", [True, False])
def test_the_web_search_that_codex_declares_unasked_is_taken_out_whatever_it_may_reach(access: bool) -> None:
    search = {"type": "web_search", "external_web_access": access, "search_context_size": "high"}
    found, _ = tools(search, FUNCTION, api="responses")
    assert (found.dropped, found.kept, found.count) == (("tools.web_search",), (1,), 1)
    for api in ("chat", "messages"):
        with pytest.raises(BadRequest, match="run upstream"):
            tools(search, api=api)


@each(
    "kind",
    [
        "web_search",
        "web_search_20250305",
        "web_fetch_20260318",
        "code_execution_20260521",
        "openrouter:web_search",
        "openrouter:bash",
        "openrouter:shell",
        "openrouter:apply_patch",
        "tool_search_tool_regex_20251119",
        "computer_use_preview",
        "mcp",
        "function ",
    ],
)
def test_tools_that_run_upstream_are_refused(kind: str) -> None:
    for api in APIS:
        with pytest.raises(BadRequest, match=r"run upstream.*Take"):
            tools({"type": kind, "name": "x", "external_web_access": "true"}, api=api)


LOCAL_SHELL = {"type": "shell", "environment": {"type": "local", "skills": []}}


@each("api, kind", [(api, kind) for api, table in CLIENT_TOOLS.items() for kind in table])
def test_a_tool_that_the_client_runs_counts_with_a_bound_of_its_own(api: Api, kind: str) -> None:
    """Its declaration upstream is the provider's, so its size says nothing."""
    tool = {"type": kind, "name": "x", **(LOCAL_SHELL if kind == "shell" else {})}
    found, _ = tools(tool, tool, FUNCTION, api=api)
    plain, _ = tools({**tool, "type": "custom"}, {**tool, "type": "custom"}, FUNCTION, api=api)
    assert found.count == 3
    assert found.size_bytes >= plain.size_bytes + 2 * CLIENT_TOOLS[api][kind] - 2 * len(kind)
    assert CLIENT_TOOLS[api][kind] >= 1024
    for other in APIS:
        if kind not in CLIENT_TOOLS.get(other, {}):
            with pytest.raises(BadRequest, match=f"{api} API"):
                tools(tool, api=other)


@each(
    "kind, tokens",
    [("bash_20250124", 245), ("text_editor_20250728", 700), ("computer_20251124", 735 + 499)],
)
def test_the_bound_holds_what_anthropic_says_by_its_denser_tokenizer_too(kind: str, tokens: int) -> None:
    """Since Opus 4.7 a text has up to 1.47 times as many tokens."""
    body = {"model": "a/b", "messages": [], "tools": [{"type": kind, "name": "x"}]}
    bound = prompt_bound(read(MESSAGES, body).prompt, endpoint())
    assert bound - TOOL_USE_TOKENS - TOOL_TOKENS >= 1.47 * tokens


@each(
    "kind, known",
    [
        ("bash", "bash_20250124"),
        ("bash_20990101", "bash_20250124"),
        ("bash_2025012", "bash_20250124"),
        ("Bash_20250124", "bash_20250124"),
        ("text_editor_20260101", "text_editor_20250728"),
        ("computer", "computer_20250124"),
        ("computer_toolset_20260801", "computer_20251124"),
        ("memory_20260101", "memory_20250818"),
    ],
)
def test_another_version_is_refused_with_those_that_are_known(kind: str, known: str) -> None:
    with pytest.raises(BadRequest, match=rf"'{kind}'.*{known}"):
        tools({"type": kind, "name": "x"}, api="messages")


def test_bash_without_a_date_is_openrouters_sandbox() -> None:
    for api in APIS:
        with pytest.raises(BadRequest, match="sandbox, which is billed by time"):
            tools({"type": "bash"}, api=api)


@each(
    "environment",
    [None, {}, "local", {"type": "Local"}, {"type": "container_auto"}, {"type": ["local"]}, [{"type": "local"}]],
)
def test_a_shell_must_be_local(environment: object) -> None:
    for shell in ({"type": "shell"}, {"type": "shell", "environment": environment}):
        with pytest.raises(BadRequest, match=r"environment\.type.*local"):
            tools(shell, api="responses")


def test_tools_that_the_client_runs_leave_as_they_came() -> None:
    raw = b'[{"type":"local_shell"},{ "type":"shell","environment":{"type":"local"} }]'
    request = read(RESPONSES, b'{"model":"a/b","input":"x","tools":' + raw + b"}")
    assert raw in write_request(request, bound=9, only=("t",), max_price={})
