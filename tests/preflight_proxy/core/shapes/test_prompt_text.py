"""Every string of a message counts, whichever part it stands in, and marks, media and opaque parts are noted."""

import hashlib
import json
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.prompt_text import ROLES, PromptText, count_message, count_plain
from preflight_proxy.core.shapes.shape import Message
from tests.support.cases import each


def counted_slice(raw: bytes) -> Message:
    return count_message(raw, hashlib.sha256(raw).digest())


def counted(message: object) -> tuple[Message, PromptText]:
    one, text = counted_slice(json.dumps(message).encode()), PromptText()
    text.add_messages([one], ROLES)
    return one, text


def test_text_counts_by_its_utf8_bytes() -> None:
    message, _ = counted({"role": "user", "content": "aé€"})
    rest = len("role" + "user" + "content")
    assert (message.ascii_bytes, message.other_bytes, message.wrap_count) == (1 + rest, 5, 1)


def test_every_part_and_tool_call_is_one_more_wrapping() -> None:
    message, _ = counted({"role": "user", "content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]})
    rest = len("role" + "user" + "content") + 2 * len("type" + "text" + "text")
    assert (message.ascii_bytes, message.wrap_count) == (3 + rest, 3)
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}] * 2
    assert counted({"role": "assistant", "tool_calls": calls})[0].wrap_count == 3


def test_fields_that_no_table_names_count_as_text() -> None:
    plain, _ = counted({"role": "user", "content": "x"})
    more, _ = counted({"role": "user", "content": "x", "reasoning_content": "y" * 100, "name": "bob"})
    assert more.ascii_bytes == plain.ascii_bytes + 103 + len("reasoning_content" + "name")


@each("key", ["type", "role", "status", "id", "phase", "key"])
def test_a_short_word_counts_wherever_it_stands(key: str) -> None:
    """Each is a token or more, and there may be many of them."""
    word = {key: "w" * 63} if key != "type" else {"kind": "w" * 63}
    part = {"type": "text", "text": ""}
    for message in (
        {"role": "user", "content": [{**part, **word}] * 9},
        {"role": "user", "content": [{**part, "annotations": [word] * 9}]},
        {"role": "user", "content": [{**part, "status": {"x": [[word]] * 9}}]},
        {"role": "assistant", "content": "", "reasoning_details": [word] * 9},
        {"role": "assistant", "content": "", "tool_calls": [{"function": word}] * 9},
        {"role": "user", "content": [{"type": "tool_result", "content": [{**part, **word}] * 9}]},
        {"role": "user", "content": [{**part, "cache_control": {"ttl": "5m", "scope": [word] * 9}}]},
        {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "", "x": [word] * 9}}]},
    ):
        assert counted(message)[0].ascii_bytes >= 9 * 63, message


def test_the_name_of_a_field_counts_too() -> None:
    source = {"type": "text", "data": "", "k" * 500: 1}
    for more in ({"k" * 500: 1}, {"content": [{"type": "document", "source": source}]}):
        assert counted({"role": "user", "content": "", **more})[0].ascii_bytes >= 500


def test_numbers_count_by_their_digits() -> None:
    rest = counted({"role": "user", "content": ""})[0].ascii_bytes
    assert counted({"role": "user", "content": 12345})[0].ascii_bytes == rest + 5


@each(
    "part",
    [
        {"type": "reasoning", "encrypted_content": "A" * 50},
        {"type": "thinking", "thinking": "", "signature": "A" * 50},
        {"type": "redacted_thinking", "data": "A" * 50},
    ],
)
def test_opaque_parts_are_told_apart(part: dict[str, object]) -> None:
    message, _ = counted({"role": "assistant", "content": [part]})
    assert message.opaque_bytes == 50
    assert message.ascii_bytes >= 50


@each(
    "part, remote",
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, False),
        ({"type": "image_url", "image_url": {"url": "HTTPS://x/a.png"}}, True),
        ({"type": "input_image", "image_url": "data:image/png;base64,AA"}, False),
        ({"type": "input_image", "file_id": "file-1"}, True),
        ({"type": "image", "source": {"type": "url", "url": "http://x"}}, True),
        ({"type": "image", "sources": [{"url": "http://x"}], "n": None}, True),
        ({"type": "image", "sources": [1, True]}, False),
    ],
)
def test_images_are_media_and_those_that_are_fetched_are_noted(part: dict[str, object], remote: bool) -> None:
    message, text = counted({"role": "user", "content": [part]})
    assert message.media
    assert (text.media, text.image_count, text.remote) == (True, 1, remote)


def test_audio_is_media_but_no_image() -> None:
    _, text = counted({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA"}}]})
    assert (text.media, text.image_count) == (True, 0)


def test_images_that_stand_beside_the_content_or_alone_are_media_too() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert counted({"role": "assistant", "content": "", "images": [part]})[0].media
    assert counted({"role": "user", "content": part})[0].media


def test_a_message_after_media_is_none_itself() -> None:
    media, plain = (counted_slice(raw) for raw in (b'{"content":[{"type":"image","source":{}}]}', b'{"content":"x"}'))
    assert (media.media, plain.media) == (True, False)
    text = PromptText()
    text.add_messages([media, plain], ROLES)
    assert text.media


@each("audio", [{"id": "audio_1"}, [{"id": "audio_1"}], "audio_1"])
def test_an_earlier_answer_in_audio_is_refused(audio: object) -> None:
    with pytest.raises(BadRequest, match="audio"):
        counted({"role": "assistant", "audio": audio})
    assert counted({"role": "assistant", "audio": None})[0].ascii_bytes


@each(
    "more, images",
    [
        ({"images": ["http://x/a.png", "data:,"]}, 2),
        ({"images": "http://x/a.png"}, 1),
        ({"images": [{"type": "image_url", "image_url": {"url": " HTTP://x"}}]}, 1),
        ({"reasoning_details": [{"type": "image_url", "image_url": {"url": "http://x"}}]}, 1),
        ({"annotations": [{"x": {"type": "input_image", "image_url": "http://x"}}]}, 1),
    ],
)
def test_an_image_counts_as_one_however_it_comes(more: dict[str, object], images: int) -> None:
    message, text = counted({"role": "assistant", "content": "", **more})
    assert (message.media, text.image_count, text.remote) == (True, images, True)


def test_no_images_are_no_media() -> None:
    nothing: list[object] = [None, [], ""]
    for images in nothing:
        assert not counted({"role": "assistant", "content": "", "images": images, "source": None})[0].media


def test_the_label_of_a_search_result_is_text() -> None:
    part = {"type": "search_result", "source": "s" * 100, "title": "t", "content": [{"type": "text", "text": "x"}]}
    assert counted({"role": "user", "content": [part]})[0].ascii_bytes >= 100


def test_the_output_of_a_shell_call_has_parts_without_a_type() -> None:
    outcome = {"type": "exit", "exit_code": 0}
    item = {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "x" * 100, "outcome": outcome}]}
    assert counted(item)[0].ascii_bytes >= 100


@each("mark, hour", [({"type": "ephemeral"}, False), ({"ttl": "5m"}, False), ({"ttl": "1h"}, True)])
def test_cache_marks_are_noted_wherever_they_stand(mark: dict[str, str], hour: bool) -> None:
    for message in (
        {"role": "user", "content": "x", "cache_control": mark},
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]},
        {"role": "user", "content": [{"type": "image", "source": {}, "cache_control": mark}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "content": [{"type": "text", "text": "x", "cache_control": mark}]}],
        },
    ):
        _, text = counted(message)
        assert (text.cache_control, text.cache_1h) == (True, hour)
    assert not counted({"role": "user", "content": "x", "cache_control": None})[1].cache_control


@each("mark", ["5m", "1h", {"ttl": None}])
def test_a_mark_may_be_short(mark: object) -> None:
    assert counted({"content": "x", "cache_control": mark})[1].cache_control


@each("mark", ["7d", {"ttl": "24h"}, {"ttl": 5}, True, [1]])
def test_a_mark_without_a_known_price_is_refused(mark: object) -> None:
    with pytest.raises(BadRequest, match="ttl"):
        counted({"content": "x", "cache_control": mark})


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(BadRequest, match="Unicode"):
        PromptText().text("x\ud800")


def test_deep_values_are_refused() -> None:
    deep: object = "x"
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(BadRequest, match="64 levels"):
        counted({"role": "user", "details": deep})


def test_the_digest_tells_messages_apart_and_leaves_marks_out() -> None:
    plain = {"role": "user", "content": "x"}
    marked = {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}
    assert counted(plain)[0].digest == counted(marked)[0].digest
    others = [
        {"role": "user", "content": "y"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": ""}]},
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
    ]
    assert len({counted(each)[0].digest for each in [plain, *others]}) == 5


def strings(value: object) -> Iterator[str]:
    """Every string, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)


TEXT = st.text(max_size=12)
WORDS = st.dictionaries(st.sampled_from(["type", "role", "status", "x"]) | TEXT, TEXT, max_size=2)
PART = st.fixed_dictionaries(
    {"type": st.just("text"), "text": TEXT},
    optional={"annotations": st.lists(TEXT | WORDS, max_size=2), "status": TEXT, "role": TEXT},
)
CALL = st.fixed_dictionaries({"id": TEXT, "function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT})})
BLOCK = st.fixed_dictionaries({"type": st.just("tool_use"), "input": st.dictionaries(TEXT, TEXT, max_size=3)})
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "tool"]),
        "content": TEXT | st.none() | st.lists(PART | BLOCK, max_size=3),
    },
    optional={"tool_calls": st.lists(CALL, max_size=2), "reasoning": TEXT, "name": TEXT, "status": TEXT, "x": WORDS},
)


@given(MESSAGE, st.booleans())
def test_no_string_of_a_message_goes_uncounted_however_it_is_escaped(message: dict[str, object], escaped: bool) -> None:
    raw = json.dumps(message, ensure_ascii=escaped).encode()
    counted = counted_slice(raw)
    assert counted.ascii_bytes + counted.other_bytes >= sum(len(text.encode()) for text in strings(message))


@each("role, known", [("tool", "tool"), ("function", "function"), (None, "")])
def test_who_speaks_is_noted(role: object, known: str) -> None:
    assert counted({"role": role, "content": "x"})[0].role == known


@each("role", ["oracle", "User", "user ", "", ["user"], 7, True, {"user": 1}, "r" * 100])
def test_a_role_that_no_api_knows_is_refused(role: object) -> None:
    for _ in range(2):  # what was refused is not remembered as good
        with pytest.raises(BadRequest, match="role"):
            counted({"role": role, "content": "x"})


def test_each_api_has_its_own_roles() -> None:
    text = PromptText()
    message = counted_slice(b'{"role":"tool","content":"x"}')
    text.add_messages([message], ROLES)
    with pytest.raises(BadRequest, match=r"'tool'.*assistant, user"):
        text.add_messages([message], frozenset({"user", "assistant"}))


def test_a_bare_text_has_no_role() -> None:
    assert counted_slice(b'"x"').role == ""


# Plain texts are counted in one go, as `count_message` counts them

PLAIN = st.dictionaries(
    st.sampled_from(["role", "content", "name", "tool_call_id", "type", "cache_control", "input", "audio", "x"]),
    st.sampled_from(["user", "assistant", "tool", "function", "nobody", "text", "5m", ""]) | st.text(),
    max_size=5,
)


@given(PLAIN, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", ":\t")]))
def test_a_plain_message_is_counted_like_any_other(
    message: dict[str, str], escaped: bool, separators: tuple[str, str]
) -> None:
    raw = json.dumps(message, ensure_ascii=escaped, separators=separators).encode()
    plain = count_plain(raw, hashlib.sha256(raw).digest())
    if plain is not None:
        general = counted_slice(raw)
        assert plain == msgspec.structs.replace(general, comma_count=plain.comma_count)
        assert plain.comma_count >= len(message) - 1


@each("role", sorted(ROLES))
def test_usual_messages_are_plain(role: str) -> None:
    message = {"role": role, "content": 'é, "x"\n\t', "name": "n", "tool_call_id": "t"}
    for separators in ((",", ":"), (", ", ": ")):
        raw = json.dumps(message, ensure_ascii=False, separators=separators).encode()
        plain = count_plain(raw, hashlib.sha256(raw).digest())
        assert plain is not None
        assert plain == msgspec.structs.replace(counted_slice(raw), comma_count=plain.comma_count)
        assert plain.comma_count >= len(message) - 1


@each(
    "raw",
    [
        b'{"role":"user","role":"user","content":"x"}',
        b'{"role":"user","content":"x","content":"yy"}',
        b'{"role": "user", "content": "x", "content": "yy"}',
        b'{"role":"user","\\u0063ontent":"x","content":"yy"}',
        b'{"content":"x"}',
        b'{"role":"nobody","content":"x"}',
        b'{"role":"user","content":"x","cache_control":"1h"}',
        b'{"role":"assistant","content":"x","signature":"y"}',
        b'{"role":"user","type":"image","content":"x"}',
        b'{"role":"user","content":null}',
        b'{"role":"user","content":["x"]}',
        b'{"role":"user","content":1}',
        b'"x"',
    ],
)
def test_what_is_more_than_texts_or_has_a_key_twice_is_not_plain(raw: bytes) -> None:
    assert count_plain(raw, hashlib.sha256(raw).digest()) is None
