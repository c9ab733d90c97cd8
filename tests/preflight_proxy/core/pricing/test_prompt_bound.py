"""The bound on prompt tokens holds for text that grows under normalisation and for tools that grow when indented."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.pricing.prompt_bound import (
    TEMPLATE_TOKENS,
    TOOL_TOKENS,
    TOOL_USE_TOKENS,
    WRAP_TOKENS,
    prompt_bound,
)
from preflight_proxy.core.shapes.shape import Prompt
from tests.support.quote_cases import CHAT, EMBEDDINGS, USER_BYTES, chat, endpoint, read

GPT, QWEN = endpoint("openai/gpt-4.1-nano", "GPT"), endpoint("qwen/qwen3-32b", "Qwen")


@pytest.mark.parametrize("raw", ["x" * 1000, "\\u0078" * 1000])
def test_an_ascii_byte_is_at_most_one_token_however_it_is_escaped(raw: str) -> None:
    body = f'{{"model":"a/b","messages":[{{"role":"user","content":"{raw}"}}]}}'.encode()
    prompt = read(CHAT, body).prompt
    assert prompt_bound(prompt, QWEN) == 1000 + USER_BYTES + WRAP_TOKENS + TEMPLATE_TOKENS


def test_other_bytes_count_once_without_a_normaliser_and_threefold_where_none_is_known_to_be_absent() -> None:
    prompt = chat("\U0001d160").prompt
    assert (prompt.ascii_bytes, prompt.other_bytes) == (USER_BYTES, 4)
    assert prompt_bound(prompt, GPT) == 4 + USER_BYTES + WRAP_TOKENS + TEMPLATE_TOKENS
    assert prompt_bound(prompt, QWEN) == 12 + USER_BYTES + WRAP_TOKENS + TEMPLATE_TOKENS


def test_an_escaped_pair_counts_as_the_text_that_it_is() -> None:
    raw = b'{"model":"a/b","messages":[{"role":"user","content":"\\ud834\\udd60"}]}'
    assert read(CHAT, raw).prompt.other_bytes == 4


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_text_has_more_bytes_after_nfc_than_are_counted(text: str) -> None:
    grown = len(unicodedata.normalize("NFC", text).encode())
    assert grown <= prompt_bound(chat(text).prompt, QWEN) - USER_BYTES - WRAP_TOKENS - TEMPLATE_TOKENS


def test_no_character_grows_more_under_a_normaliser_than_its_factor() -> None:
    for text in ("\U0001d160", "\ufdfa", "\u0390", "\ufb2c", "\u1f82"):
        size = len(text.encode())
        assert len(unicodedata.normalize("NFC", text).encode()) <= 3 * size
        assert len(unicodedata.normalize("NFKC", text).encode()) <= 11 * size


def test_models_that_normalise_by_compatibility_count_elevenfold() -> None:
    prompt = read(EMBEDDINGS, {"model": "baai/bge-m3", "input": "\ufdfa"}).prompt
    for model in ("baai/bge-m3", "BAAI/bge-m3", "~baai/bge-latest"):
        assert prompt_bound(prompt, endpoint(model, "Other")) == 33 + WRAP_TOKENS + TEMPLATE_TOKENS


def test_tools_count_as_they_are_written_with_indent_4() -> None:
    schema: object = {"type": "string"}
    for _ in range(29):
        schema = {"type": "object", "properties": {"é": schema}}
    tool = {"type": "function", "function": {"name": "t", "parameters": schema}}
    prompt = chat("", tools=[tool]).prompt
    assert prompt.tool_bytes >= len(json.dumps(tool, indent=4))
    assert prompt_bound(prompt, GPT) >= prompt.tool_bytes + TOOL_USE_TOKENS + TOOL_TOKENS


def test_the_ceiling_is_never_passed() -> None:
    small = endpoint(context_length=100)
    assert prompt_bound(chat("x" * 1000).prompt, small) == 100
    assert prompt_bound(Prompt(sequence_count=3, ascii_bytes=10**6), small) == 300


def test_media_leave_only_the_ceiling() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert prompt_bound(chat([part]).prompt, endpoint()) == 1_000_000


def test_ascii_of_claudes_tokenizers_counts_two_tokens_a_byte_and_tools_as_text_does() -> None:
    """Crafted text reaches 1.7 there. Either the listed tokenizer or the maker's name tells; any other model has one a byte."""
    plain = Prompt(ascii_bytes=1000, tool_bytes=100)
    for model, tokenizer, factor in (("anthropic/x", "Other", 2), ("x/y", "Claude", 2), ("openai/x", "GPT", 1)):
        bound = prompt_bound(plain, endpoint(model, tokenizer))
        assert bound == factor * 1100 + TEMPLATE_TOKENS
