"""The estimate of a text's tokens: which family a model belongs to, and what holds for every text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.pricing.token_estimate import (
    CLASSES,
    UNKNOWN,
    WEIGHTS,
    WEIGHTS_FILE,
    family_of,
    likely_family,
    millitokens,
    pairs,
    tokens_at_most,
)

FAMILIES = tuple(WEIGHTS)
A_CUT_MILLITOKENS = 2550
"""The largest weight: a cut changes only what is before the byte behind it."""
texts = st.text(max_size=300).map(str.encode)


@pytest.mark.parametrize(
    ("tokenizer", "models", "family"),
    [
        (
            "GPT",
            ("openai/gpt-4o-mini", "openai/gpt-4.1", "openai/gpt-5.2-codex", "openai/o3", "openai/gpt-oss-120b"),
            "o200k",
        ),
        ("GPT", ("openai/gpt-4", "openai/gpt-4-turbo", "openai/gpt-3.5-turbo-0613"), "cl100k"),
        (
            "Claude",
            ("anthropic/claude-3-haiku", "anthropic/claude-3.5-sonnet", "anthropic/claude-3.7-sonnet"),
            "claude3",
        ),
        ("Claude", ("anthropic/claude-sonnet-4", "anthropic/claude-4-sonnet-20250522"), "claude3"),
        (
            "Claude",
            ("anthropic/claude-sonnet-4.5", "anthropic/claude-opus-4.6", "anthropic/claude-4.5-haiku"),
            "claude3",
        ),
        (
            "Claude",
            ("anthropic/claude-opus-4.7", "anthropic/claude-opus-4-7", "anthropic/claude-sonnet-5"),
            "claude4.7",
        ),
        (
            "Claude",
            ("anthropic/claude-opus-5.1", "~anthropic/claude-opus-latest", "anthropic/claude-opus-4.12"),
            "claude",
        ),
        ("Gemini", ("google/gemini-2.5-flash", "google/gemini-3-pro-preview", "google/gemma-3-27b-it"), "gemma3"),
        ("Llama4", ("meta-llama/llama-4-maverick",), "llama4"),
        ("Llama3", ("meta-llama/llama-3.3-70b-instruct", "nousresearch/hermes-3-llama-3.1-405b"), "llama3"),
        ("Qwen", ("qwen/qwen-2.5-72b-instruct", "qwen/qwen3-32b"), "qwen3"),
        ("Qwen3", ("qwen/qwen3-coder", "qwen/qwen3-235b-a22b"), "qwen3"),
        ("DeepSeek", ("deepseek/deepseek-chat-v3.1", "deepseek/deepseek-r1", "deepseek/deepseek-v3.2"), "deepseek3"),
        ("Mistral", ("mistralai/mistral-nemo", "mistralai/mistral-small-3.2-24b-instruct"), "tekken"),
        ("GPT", ("openai/gpt-6", "openai/o5", "microsoft/phi-4", "openai/gpt-4.7"), UNKNOWN),
        ("Claude", ("anthropic/claude-2.1", "anthropic/claude-instant-1"), UNKNOWN),
        ("Gemini", ("google/gemini-4-pro", "google/gemma-2-9b-it"), UNKNOWN),
        ("Qwen", ("qwen/qwen-max", "qwen/qwen3.5-plus", "someone/other-model"), UNKNOWN),
        ("Mistral", ("mistralai/mistral-large-2411", "mistralai/mixtral-8x7b-instruct"), UNKNOWN),
        ("DeepSeek", ("deepseek/deepseek-v4",), UNKNOWN),
        ("Grok", ("x-ai/grok-4", "openai/gpt-4o"), UNKNOWN),
    ],
)
def test_a_model_has_the_family_of_its_vocabulary_and_none_where_it_is_not_certain(
    tokenizer: str, models: tuple[str, ...], family: str
) -> None:
    assert {model: family_of(model, tokenizer) for model in models} == dict.fromkeys(models, family)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        *(("anthropic/claude-sonnet-4.5", "claude3"), ("claude-opus-4-7-20260115", "claude4.7")),
        *(("openai/gpt-4.1-nano", "o200k"), ("meta-llama/llama-3.3-70b-instruct", "llama3"), ("nobody/x", UNKNOWN)),
    ],
)
def test_the_id_alone_suggests_a_family_for_a_count(model: str, family: str) -> None:
    assert likely_family(model) == family


@pytest.mark.parametrize("family", FAMILIES)
def test_no_text_has_no_tokens_and_each_pair_of_classes_has_a_weight(family: str) -> None:
    assert millitokens(b"", family) == tokens_at_most(0, family) == 0
    assert len(WEIGHTS[family]) == 256


@given(st.binary(max_size=50))
def test_a_pair_holds_the_class_of_a_byte_and_of_the_one_before_it(text: bytes) -> None:
    alone = [pairs(bytes([before, byte]))[1] for before, byte in zip(b" " + text, text, strict=False)]
    assert list(pairs(text)) == alone


@pytest.mark.parametrize("family", FAMILIES)
def test_the_weight_of_a_pair_is_in_the_row_of_the_byte_before_and_the_column_of_the_byte(family: str) -> None:
    digit = CLASSES.index("0123456789")
    rows = json.loads(WEIGHTS_FILE.read_bytes())["families"][family]["weights"]
    for before, row in zip((" ", "a", "t", "b", "A", "1", ".", "\x01"), rows, strict=True):
        added = millitokens(f"{before}7".encode(), family) - millitokens(before.encode(), family)
        assert added == 10 * bytes.fromhex(row)[digit]


def test_what_tokenizers_treat_alike_is_a_class() -> None:
    assert pairs(b"nt") == pairs(b"rs") != pairs(b"rz")
    assert pairs("я".encode()) == pairs("ж".encode()) != pairs("的".encode())
    assert pairs(b"a") == pairs(b" a")[1:] == pairs(b"\na")[1:] != pairs(b"ba")[1:]


@pytest.mark.parametrize("family", ["gemma3", "qwen3", "tekken", UNKNOWN])
def test_a_digit_weighs_a_token_where_the_tokenizer_splits_numbers(family: str) -> None:
    assert millitokens(b"1234567 89,0", family) >= 10_000


@given(texts, texts, st.sampled_from(FAMILIES))
def test_the_estimates_of_two_texts_add_up_to_that_of_both(one: bytes, other: bytes, family: str) -> None:
    apart = millitokens(one, family) + millitokens(other, family)
    assert abs(millitokens(one + other, family) - apart) <= A_CUT_MILLITOKENS


@given(texts, texts, st.sampled_from(FAMILIES))
def test_more_text_is_never_estimated_lower(one: bytes, other: bytes, family: str) -> None:
    assert millitokens(one + other, family) >= millitokens(one, family)


def test_the_margin_is_added_and_the_sum_rounded_up() -> None:
    assert (tokens_at_most(1, "o200k"), tokens_at_most(100_000, "o200k"), tokens_at_most(100_001, "o200k")) == (
        1,
        115,
        116,
    )
    assert tokens_at_most(100_000, UNKNOWN) == 140


def test_the_larger_of_both_tables_counts_for_an_unknown_claude() -> None:
    text = "Words, 123 Figures\n\tand Ωmega {}".encode() * 9
    assert millitokens(text, "claude") >= max(millitokens(text, "claude3"), millitokens(text, "claude4.7"))
