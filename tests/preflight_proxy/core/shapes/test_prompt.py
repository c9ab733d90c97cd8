"""The prompt is all that was counted, and its digests tell what a bill can be compared with."""

from typing import Any

from tests.support.cases import each
from tests.support.quote_cases import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, chat, read


def test_formats_count_beside_the_tools() -> None:
    plain = chat().prompt.tool_bytes
    assert chat(response_format={"type": "json_schema", "json_schema": {"schema": {}}}).prompt.tool_bytes > plain
    assert chat(tool_choice="auto").prompt.tool_bytes > plain


def test_system_prompts_and_instructions_are_text() -> None:
    body: dict[str, object] = {"model": "a/b", "messages": [], "system": [{"type": "text", "text": "abc"}]}
    assert read(MESSAGES, body).prompt.ascii_bytes == 3 + len("type" + "text" + "text")
    assert read(MESSAGES, {**body, "system": "abcd"}).prompt.ascii_bytes == 4
    assert read(RESPONSES, {"model": "a/b", "input": "x", "instructions": "abc"}).prompt.ascii_bytes == 4


def test_the_digest_of_a_prefix_depends_on_its_messages_and_on_their_order_alone() -> None:
    def prefix(count: int, *contents: str) -> bytes:
        messages = [{"role": "user", "content": content} for content in contents]
        return read(CHAT, {"model": "a/b", "messages": messages}).prompt.prefix_digest(count)

    for count in (0, 1, 2):
        assert prefix(count, "a", "b") == prefix(count, "a", "b", "c")
    assert prefix(2, "a", "b") != prefix(2, "b", "a")
    assert len({prefix(count, "a", "a") for count in (0, 1, 2)}) == 3


MARK = {"cache_control": {"type": "ephemeral"}}


def digests(content: Any) -> bytes:
    """Return the digest of one message of an assistant."""
    body = {"model": "a/b", "max_tokens": 9, "messages": [{"role": "assistant", "content": content}]}
    return read(MESSAGES, body).prompt.digests


def test_cache_marks_that_clients_move_change_no_digest() -> None:
    text = {"type": "text", "text": "a"}
    assert digests("a") == digests([text]) == digests([{**text, **MARK}])
    assert digests([text, text]) == digests([text, {**text, **MARK}]) != digests("a")
    results = [
        {"type": "tool_result", "tool_use_id": "t", "content": "a"},
        {"type": "tool_use", "id": "u", "name": "n"},
    ]
    assert digests(results) == digests([{**results[0], "content": [{**text, **MARK}], **MARK}, {**results[1], **MARK}])


@each(
    "arguments",
    [
        {"a": 1, "cache_control": "more text"},
        {"a": [1]},
        {"a": [[[[1]]]]},
        {"a": {"b": 1, **MARK}},
        {"a": 1, "content": [{"type": "text", "text": "more"}]},
    ],
)
def test_all_that_a_model_reads_is_in_the_digest(arguments: dict[str, Any]) -> None:
    """Else an earlier bill, for less text, would be taken for its bill (M4)."""

    def called(of: dict[str, Any]) -> bytes:
        return digests([{"type": "tool_use", "id": "t", "name": "n", "input": of}])

    assert called(arguments) != called({"a": 1})
    assert called({"a": [{"type": "text", "text": "x"}]}) != called({"a": "x"})


def test_only_fields_that_can_change_the_prompt_are_in_the_digest() -> None:
    plain = chat().prompt.fields_digest
    assert chat(max_tokens=5, stream=True, user="u", temperature=1).prompt.fields_digest == plain
    changes: list[dict[str, object]] = [
        {"tools": []},
        {"reasoning": {}},
        {"response_format": {}},
        {"tool_choice": "none"},
        {"reasoning_effort": "high"},  # a template may write it
        {"verbosity": "high"},
    ]
    for fields in changes:
        assert chat(**fields).prompt.fields_digest != plain


def test_embeddings_count_their_sequences() -> None:
    assert read(EMBEDDINGS, {"model": "a/b", "input": ["a", "b", [1, 2]]}).prompt.sequence_count == 3


def test_opaque_bytes_are_those_of_the_messages_alone() -> None:
    part = {"type": "thinking", "thinking": "x", "signature": "s" * 9}
    body = {"model": "a/b", "max_tokens": 9, "system": [part], "messages": [{"role": "assistant", "content": [part]}]}
    assert read(MESSAGES, body).prompt.opaque_bytes == 9
