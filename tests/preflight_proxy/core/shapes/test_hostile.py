"""Hostile bodies, on every shape that takes messages: a 4xx, or a request whose bound is whole."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.pricing.quote import quote
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.request_writer import write_request
from preflight_proxy.core.shapes.shape import UnknownFields
from tests.support.cases import each
from tests.support.quote_cases import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, endpoint, read

PROMPTS: dict[str, tuple[Shape, str]] = {
    "chat": (CHAT, '"messages":[{"role":"user","content":"hi"}]'),
    "responses": (RESPONSES, '"input":"hi"'),
    "messages": (MESSAGES, '"messages":[{"role":"user","content":"hi"}]'),
    "completions": (COMPLETIONS, '"prompt":"hi"'),
    "embeddings": (EMBEDDINGS, '"input":"hi"'),
}

REFUSED_FIELDS = [
    '"plugins":[{"id":"web"}]',
    '"pl\\u0075gins":[{"id":"web"}]',
    '"plugins":[{"id":"web","enabled":true}]',
    '"plugins":[{"id":"web","enabled":null}]',
    '"plugins":[{"id":"web","enabled":"false"}]',
    '"plugins":[{"id":"web","enabled":0}]',
    '"plugins":[{"id":"web","enabled":false},{"id":"file-parser"}]',
    '"plugins":[{"enabled":false}]',
    '"plugins":[false]',
    '"plugins":{"id":"web","enabled":false}',
    '"models":["a/b","c/d"]',
    '"models":["c/d"]',
    '"models":["a/b:floor"]',
    '"models":"a/b"',
    '"models":["a/b",null]',
    '"models":[["a/b"]]',
    '"models":{"a/b":1}',
    '"fallbacks":["c/d"]',
    '"fallbacks":[{"model":"c/d"}]',
    '"fallbacks":[{"model":"a/b","max_tokens":9}]',
    '"fallbacks":[{}]',
    '"preset":"mine"',
    '"n":2',
    '"n":1e900000',
    '"n":0.9999',
    '"n":1.0',
    '"n":1e0',
    '"n":-0',
    '"n":"1"',
    '"N":2',
    '"Service-Tier":"priority"',
    '"serviceTier":"priority"',
    '"MODELS":["c/d"]',
    '"context_management":{"type":"compaction","compact_threshold":1}',
    '"context_management":{"edits":[],"compaction":{}}',
    '"prompt_cache_options":{"mode":"explicit","TTL":"12h"}',
    '"prompt_cache_options":["30m"]',
    '"model":"OpenRouter/auto"',
    '"model":"a/b:ONLINE"',
    '"model":"a/b:nitro:floor"',
    '"n":true',
    '"n":"2"',
    '"best_of":3',
    '"modalities":["text","audio"]',
    '"audio":{"voice":"x"}',
    '"image_config":{"size":1}',
    '"web_search_options":{"a":1}',
    '"web_search_options":{}',
    '"prediction":{"type":"content","content":"x"}',
    '"service_tier":"priority"',
    '"service_tier":["flex"]',
    '"speed":"fast"',
    '"inference_geo":"us"',
    '"reasoning":{"mode":"pro"}',
    '"reasoning":"high"',
    '"thinking":7',
    '"context_management":{"edits":[{"type":"compact_20260112"}]}',
    '"context_management":[{"type":"compaction","compact_threshold":1}]',
    '"context_management":{"edits":[{"type":"clear_tool_uses_20250919"},{}]}',
    '"context_management":{"edits":7}',
    '"context_management":{"edits":["clear_"]}',
    '"prompt_cache_options":{"mode":"explicit","ttl":"12h"}',
    '"background":true',
    '"previous_response_id":"gen-1"',
    '"conversation":"c"',
    '"container":"c"',
    '"mcp_servers":[{"url":"x"}]',
    '"model":"openrouter/auto"',
    '"model":"@preset/x"',
    '"model":"a/b:online"',
    '"model":null',
    '"model":7',
    '"stream":1',
    '"provider":{"sort":"throughput"}',
    '"provider":{"only":["a"],"only":["b"]}',
    '"provider":{"max_price":{"prompt":1,"prompt":2}}',
    '"provider":[]',
    f'"provider":{{"order":{"[" * 900}{"]" * 900}}}',
    f'"reasoning":{{"x":{"[" * 900}{"]" * 900}}}',
]


UNKNOWN: tuple[UnknownFields, ...] = ("drop", "pass")


@each("field", REFUSED_FIELDS)
def test_a_field_that_unbounds_the_price_is_refused_in_every_shape(field: str) -> None:
    model = "" if field.startswith('"model"') else '"model":"a/b",'
    for (api, prompt), unknown in itertools.product(PROMPTS.values(), UNKNOWN):
        with pytest.raises(BadRequest) as caught:
            api.read(f"{{{model}{prompt},{field}}}".encode(), unknown)
        assert 400 <= caught.value.status < 500
        assert caught.value.message


@each(
    "field",
    [
        '"plugins":[]',
        '"plugins":null',
        '"plugins":[{"id":"web","enabled":false}]',
        '"plugins":[{"id":"web","enabled":false,"max_results":3},{"id":"file-parser","enabled":false}]',
        '"models":["a/b"]',
        '"models":["a/b","A/B"]',
        '"models":[]',
        '"fallbacks":["a/b"]',
        '"fallbacks":[{"model":"A/b"}]',
        '"models":null',
        '"n":1',
        '"n":null',
        '"n":0',
        '"modalities":["text"]',
        '"service_tier":"auto"',
        '"service_tier":"flex"',
        '"speed":null',
        '"reasoning":{"effort":"high"}',
        '"reasoning":null',
        '"thinking":{"type":"adaptive"}',
        '"context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}',
        '"context_management":null',
        '"prompt_cache_options":{"ttl":"30m"}',
        '"provider":null',
        '"provider":{"sort":{"by":"price"}}',
        '"stream":null',
    ],
)
def test_the_harmless_values_of_the_same_fields_pass(field: str) -> None:
    assert read(CHAT, f'{{"model":"a/b","messages":[],{field}}}'.encode()).model == "a/b"


BOUNDS = ["-1", "0", "1.5", '"16"', "1e900000", "NaN", "true", "[1]", "9" * 5000, "1e10", "-0.0"]


@each("bound", BOUNDS)
def test_a_bound_that_is_no_whole_number_is_a_400(bound: str) -> None:
    for api, prompt in PROMPTS.values():
        for field in api.bound_fields:
            with pytest.raises(BadRequest):
                api.read(f'{{"model":"a/b",{prompt},"{field}":{bound}}}'.encode(), "drop")


def test_a_bound_in_exponent_form_is_the_number_it_is() -> None:
    assert read(CHAT, b'{"model":"a/b","messages":[],"max_tokens":1.6e3}').bound == 1600


ROLES = {
    "chat": {"system", "developer", "user", "assistant", "tool", "function"},
    "responses": {"system", "developer", "user", "assistant"},
    "messages": {"system", "user", "assistant"},
}


@each("name, role", itertools.product(ROLES, [*ROLES["chat"], "critic", "User", "model", "x" * 60]))
def test_a_role_outside_the_table_of_its_shape_is_a_400(name: str, role: str) -> None:
    field = "input" if name == "responses" else "messages"
    body = {"model": "a/b", field: [{"role": role, "content": "x"}]}
    if role in ROLES[name]:
        assert read(PROMPTS[name][0], body).prompt.messages[0].role == role
        return
    with pytest.raises(BadRequest, match="role"):
        read(PROMPTS[name][0], body)
    if name == "responses":
        with pytest.raises(BadRequest, match="role"):
            read(RESPONSES, {"model": "a/b", "input": {"role": role, "content": "x"}})


@each("field", ["reasoning", "reasoning_effort", "verbosity", "thinking"])
def test_words_beside_the_messages_that_a_template_may_write_count(field: str) -> None:
    value = {"effort": "w" * 500} if field in ("reasoning", "thinking") else "w" * 500
    for api, prompt in PROMPTS.values():
        plain, more = (
            api.read(f'{{"model":"a/b",{prompt}{text}}}'.encode(), "pass")
            for text in ("", f',"{field}":{json.dumps(value)}')
        )
        assert more.prompt.ascii_bytes >= plain.prompt.ascii_bytes + 500


@each(
    "content",
    [
        b'"\\ud800"',
        b'[{"type":"text","text":"x","text":"' + b"y" * 100 + b'"}]',
        b'[{"type":"video_url","video_url":{"url":"x"}}]',
        b'[{"type":"\\u0066ile","file":{}}]',
        b'[{"type":"never_seen"}]',
        b'[{"type":["text"]}]',
        b'[{"type":7}]',
        b'[{"type":"TEXT","text":"x"}]',
        b'[{"text":"x"}]',
        b'[{"image_url":{"url":"http://x"}}]',
        b'[{"type":null,"image_url":{"url":"http://x"}}]',
        b'{"image_url":{"url":"http://x"}}',
        b'[{"role":"user","content":"x"}]',
        b'[{"type":"tool_result","content":[{"source":{"type":"url","url":"http://x"}}]}]',
        b'[{"type":"document","source":"http://x/a.pdf"}]',
        b'[{"type":"document","source":["http://x/a.pdf"]}]',
        b'[{"type":"document","source":null,"file_id":"f"}]',
        b'[{"type":"document","file_id":"f"}]',
        b'[{"type":"text","text":"x","source":"http://x/a.pdf"}]',
        b'[{"type":"search_result","source":{"type":"url","url":"http://x"},"content":[]}]',
        b'[{"type":"text","text":"x","annotations":[{"type":"file","file":{"hash":"x"}}]}]',
        b'[{"type":"text","text":"x","more":{"x":[{"type":"document","source":{"type":"url"}}]}}]',
        b'[{"type":"document","source":{"type":"base64","data":"AA"}}]',
        b'[{"type":"document","source":{"type":"url","url":"http://x"}}]',
        b'[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"24h"}}]',
        b"[" * 70 + b"]" * 70,
        b'[{"type":"tool_use","input":' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}]",
        b'[{"type":"text","annotations":' + b"[" * 70 + b"]" * 70 + b"}]",
        b'[{"type":"image","source":' + b"[" * 900 + b"]" * 900 + b"}]",
    ],
)
def test_hostile_content_is_a_400(content: bytes) -> None:
    for shape in (CHAT, MESSAGES):
        with pytest.raises(BadRequest) as caught:
            shape.read(b'{"model":"a/b","messages":[{"role":"user","content":' + content + b"}]}", "drop")
        assert caught.value.status == 400


def test_arguments_that_grow_when_a_template_writes_them_out_are_counted_as_grown() -> None:
    schema: object = 1
    for _ in range(60):
        schema = {"a": schema}
    arguments = json.dumps(schema)
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    grown = len(json.dumps(schema, indent=4))
    assert grown > 10 * len(arguments)
    assert read(CHAT, {"model": "a/b", "messages": messages}).prompt.ascii_bytes >= grown


@each("tail", [',"a":NaN}', ',"a":2}'])
def test_arguments_that_are_json_only_to_a_lenient_reader_are_counted_as_grown_too(tail: str) -> None:
    deep = '{"a":' * 40 + "1" + "}" * 40
    arguments = '{"a":' + deep + tail
    items = [{"type": "function_call", "name": "f", "call_id": "c", "arguments": arguments}]
    grown = len(json.dumps(json.loads(deep), indent=4))
    assert read(RESPONSES, {"model": "a/b", "input": items}).prompt.ascii_bytes >= grown


def test_arguments_too_deep_to_be_read_are_a_400() -> None:
    items = [{"type": "function_call", "name": "f", "arguments": "[" * 100_000}]
    with pytest.raises(BadRequest, match="deeply"):
        read(RESPONSES, {"model": "a/b", "input": items})


@each(
    "tool",
    [
        {"type": "openrouter:web_search"},
        {"type": "openrouter:advisor", "parameters": {}},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "web_search_preview"},
        {"type": "bash", "name": "bash"},
        {"type": "bash_20990101", "name": "bash"},
        {"type": "shell"},
        {"type": "namespace", "tools": [{"type": "local_shell"}]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "mcp", "server_url": "x"},
        {"type": ["function"]},
        {"type": "namespace", "tools": [{"type": "openrouter:web_fetch"}]},
        {"type": "namespace", "tools": [{"type": "namespace", "tools": []}]},
        {"type": "namespace"},
        {"type": "tool_search"},
        7,
        None,
    ],
)
def test_a_server_tool_is_refused_however_it_is_spelled(tool: object) -> None:
    plain = json.dumps(tool)
    spellings = (plain, plain.replace("web_search", "web_\\u0073earch"))
    for shape, written in itertools.product(("chat", "responses", "messages"), spellings):
        api, prompt = PROMPTS[shape]
        with pytest.raises(BadRequest):
            api.read(f'{{"model":"a/b",{prompt},"tools":[{written}]}}'.encode(), "drop")


@each("tools", ["{}", '"x"', "7", "[" + "{}," * 1000 + "{}]", '[{"name":"a","name":"b"}]'])
def test_tools_that_are_no_reasonable_array_are_refused(tools: str) -> None:
    with pytest.raises(BadRequest):
        read(CHAT, f'{{"model":"a/b","messages":[],"tools":{tools}}}'.encode())


def test_an_unknown_field_stays_here_is_refused_or_passes_as_configured() -> None:
    body = b'{"model":"a/b","messages":[],"new_field":{"x" : 1}}'
    dropped = read(CHAT, body)
    assert dropped.dropped == ("new_field",)
    assert b"new_field" not in write_request(dropped, bound=None, only=("t",), max_price={})
    passed = read(CHAT, body, "pass")
    assert b'"new_field":{"x" : 1}' in write_request(passed, bound=None, only=("t",), max_price={})
    assert passed.prompt.ascii_bytes == dropped.prompt.ascii_bytes + len("x1")
    with pytest.raises(BadRequest, match="new_field"):
        read(CHAT, body, "refuse")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["text", "image_url", "file", "1h"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "content", "text", "source", "input", "tool_calls", "cache_control", "ttl", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
FIELDS = [
    "messages",
    "input",
    "prompt",
    "tools",
    "reasoning",
    "provider",
    "max_tokens",
    "thinking",
    "system",
    "text",
    "n",
]


@given(st.sampled_from(sorted(SHAPES)), st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=4))
def test_whatever_a_body_holds_it_is_read_or_refused_and_a_read_one_has_a_quote(
    path: str, fields: dict[str, object]
) -> None:
    shape = SHAPES[path]
    try:
        request = shape.read(json.dumps({"model": "a/b", **fields}).encode(), "drop")
    except BadRequest:
        return
    if request.only is None and not request.ignore:
        made = quote(request, [endpoint("a/b")])
        assert 0 <= made.cheapest_pusd <= made.worst_pusd(made.bound)
        body = write_request(request, bound=made.wire_bound(made.bound), only=made.tags, max_price=made.max_price)
        assert json.loads(body)["provider"]["only"] == ["anthropic"]


@each("shape, unknown", itertools.product(["completions", "embeddings"], UNKNOWN))
def test_tools_are_refused_where_they_have_no_place(shape: str, unknown: UnknownFields) -> None:
    api, prompt = PROMPTS[shape]
    with pytest.raises(BadRequest, match="tools"):
        api.read(f'{{"model":"a/b",{prompt},"tools":[{{"type":"function"}}]}}'.encode(), unknown)


def test_a_cache_mark_beside_the_prompt_is_noted_in_every_shape() -> None:
    for name, (api, prompt) in PROMPTS.items():
        body = f'{{"model":"a/b",{prompt},"cache_control":{{"type":"ephemeral","ttl":"1h"}}}}'.encode()
        assert api.read(body, "pass").prompt.cache_1h
        assert api.read(body, "drop").prompt.cache_1h is (name != "embeddings")


def test_arguments_with_more_values_than_may_be_walked_are_a_413() -> None:
    for calls, values in ((1, 60_000), (3, 20_000)):
        arguments = "[" + "0," * values + "0]"
        item = {"type": "function_call", "name": "f", "arguments": arguments}
        with pytest.raises(BadRequest) as caught:
            read(RESPONSES, {"model": "a/b", "input": [item] * calls})
        assert caught.value.status == 413


def test_another_spelling_of_a_known_field_does_not_leave_beside_it() -> None:
    body = {"model": "a/b", "messages": [], "Provider": {"only": ["x"]}, "TOOLS": [{"type": "mcp"}], "new": 1}
    request = read(CHAT, body, "pass")
    assert request.dropped == ("Provider", "TOOLS")
    sent = json.loads(write_request(request, bound=None, only=("t",), max_price={}))
    assert sent == {"model": "a/b", "messages": [], "new": 1, "provider": {"only": ["t"]}}


@each("field", [b'"plugins":[ {"id":"web","enabled":false} ]', b'"models":[ "A/b" ]'])
def test_a_harmless_value_leaves_as_it_came(field: bytes) -> None:
    request = read(CHAT, b'{"model":"a/B","messages":[],' + field + b"}")
    assert field in write_request(request, bound=9, only=("t",), max_price={})


def test_a_model_leaves_as_it_was_spelled() -> None:
    request = read(CHAT, b'{"model":"A/B\\u003aFloor","messages":[]}')
    assert b'"model":"A/B\\u003aFloor"' in write_request(request, bound=9, only=("t",), max_price={})
    assert quote(request, [endpoint("a/b")]).model == "a/b"


@each("item", [{"id": "msg_1"}, {"type": None, "id": "msg_1"}, {"image_url": "http://x"}, {}])
def test_an_item_without_a_type_that_is_no_message_is_refused(item: dict[str, object]) -> None:
    """The responses API takes an id alone for a reference to what it stored."""
    for given_input in (item, [item]):
        with pytest.raises(BadRequest, match="type"):
            read(RESPONSES, {"model": "a/b", "input": given_input})


def test_many_tokens_are_embedded_and_many_texts_are_not() -> None:
    tokens = b'{"model":"a/b","input":[' + b"7," * 20_000 + b"7]}"
    assert read(EMBEDDINGS, tokens).prompt.ascii_bytes == 20_001
    with pytest.raises(BadRequest) as caught:
        read(EMBEDDINGS, {"model": "a/b", "input": ["x"] * 10_001})
    assert caught.value.status == 413
