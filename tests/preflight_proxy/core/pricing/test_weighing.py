"""What a weighing says: the text that is sent, what it may cost, and a bound that real tokenizers keep to."""

import base64
import json
import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_sim.base.tokens import MESSAGE_TOKENS, Tokenizer, count
from preflight_proxy.core.pricing.prompt_bound import TEMPLATE_TOKENS, WRAP_TOKENS
from preflight_proxy.core.pricing.text_sizes import TextSizes, text_sizes
from preflight_proxy.core.pricing.token_estimate import WEIGHTS, family_of, millitokens, tokens_at_most
from preflight_proxy.core.pricing.weighing import (
    HOPE_PERCENT,
    SLICE_BYTES,
    SLICES,
    Weighing,
    expected_pusd,
    hope_factor,
    is_weighable,
    output_tokens,
    slices,
    weighing_body,
)
from preflight_proxy.core.shapes.shape import Request
from preflight_proxy.core.shapes.steps import run_steps
from tests.support.cases import each
from tests.support.quote_cases import CHAT, MESSAGES, RESPONSES, SONNET, chat, endpoint, read

ROOT = Path(__file__).parents[4]
DRAWS = 10
VOCABULARIES = (
    ("openai/gpt-4.1", "GPT", "GPT"),
    ("anthropic/claude-sonnet-4.5", "Claude", "Claude"),
    ("anthropic/claude-opus-4.7", "Claude", "Claude 4.7"),
    ("meta-llama/llama-3.3-70b-instruct", "Llama3", "Llama3"),
    ("someone/new-model", "Other", "Mistral"),
)
"""Model, tokenizer as listed, and what the simulator counts by."""


@cache
def kinds() -> Mapping[str, str]:
    """Texts of 30 kB and more, of different kinds. The last ones join kinds whose estimates are off by different factors."""
    draw = random.Random(15)
    code = "\n".join(path.read_text() for path in sorted((ROOT / "proxy/preflight_proxy/core").rglob("*.py"))[:12])
    prose = "\n".join((ROOT / "docs" / name).read_text() for name in ("money.md", "glossary.md", "files.md"))
    opaque = base64.b64encode(draw.randbytes(30_000)).decode()
    table = "\n".join(",".join(f"{draw.random() * 10**4:.3f}" for _ in range(8)) for _ in range(500))
    russian = "Счёт оплачен, остаток на балансе меньше, чем стоит следующий вызов. " * 400
    chinese = "代理在转发之前先预留一次调用的最高费用，超出预算的调用不会被发送。" * 500
    log = "\n".join(f'{{"at":"2026-11-{day % 28 + 1:02}T0{day % 10}:00:00Z","id":{day * 7919}}}' for day in range(700))
    texts = {"code": code, "prose": prose, "base64": opaque, "table": table, "log": log}
    texts |= {"russian": russian, "chinese": chinese, "prose and base64": prose[:20_000] + opaque[:20_000]}
    return texts | {"code, chinese and a table": code[:15_000] + chinese[:5_000] + table[:15_000]}


def sizes_of(request: Request, family: str) -> TextSizes:
    """The estimates of a chat request."""
    return run_steps(text_sizes(CHAT, request, family))


@each("kind", kinds())
def test_no_weighing_says_less_than_a_tokenizer_counts_and_few_say_much_more(kind: str) -> None:
    """Not more than by a half, where the text is long; the constants are no part of that."""
    text, draw = kinds()[kind], random.Random(kind)
    for model, tokenizer, vocabulary in VOCABULARIES:
        family = family_of(model, tokenizer)
        request = read(CHAT, {"model": model, "messages": [{"role": "user", "content": text}]})
        sizes, actual = sizes_of(request, family), count(text, Tokenizer.REALISTIC, vocabulary) + MESSAGE_TOKENS
        for _ in range(DRAWS):
            sample = slices(text.encode(), draw.randrange)
            small = read(CHAT, weighing_body(request, "tag", sample))
            billed = count(sample, Tokenizer.REALISTIC, vocabulary) + MESSAGE_TOKENS
            bound = Weighing(sizes_of(small, family), billed, None, 0).tokens(request.prompt, sizes)
            assert actual <= bound <= actual * 1.5 + TEMPLATE_TOKENS + WRAP_TOKENS, (model, actual, bound)


@given(st.text(min_size=2000, max_size=8000).map(str.encode), st.integers(0, 2**32))
def test_slices_are_pieces_of_the_text_with_whole_characters(text: bytes, seed: int) -> None:
    pieces = slices(text, random.Random(seed).randrange)
    if len(text) <= SLICES * SLICE_BYTES:
        assert pieces == text.decode()
    else:
        assert len(pieces.encode()) <= SLICES * (SLICE_BYTES + 1)
        assert all(piece in text.decode() for piece in pieces.split("\n"))


def test_every_byte_of_a_text_can_be_in_a_slice() -> None:
    text = bytes(range(32, 127)) * 40
    assert slices(text, lambda below: below - 1).endswith(text[-SLICE_BYTES:].decode())
    assert slices(text, lambda _below: 0).startswith(text[:SLICE_BYTES].decode())


def test_two_weighings_of_a_text_take_other_slices() -> None:
    text = kinds()["code"].encode()
    assert slices(text, random.SystemRandom().randrange) != slices(text, random.SystemRandom().randrange)


WISHES = {"only": ["anthropic", "google-vertex"], "data_collection": "deny", "max_price": {"prompt": 4}}


@pytest.mark.parametrize("shape", [CHAT, MESSAGES, RESPONSES])
def test_a_weighing_has_the_wishes_of_its_call_about_providers_and_one_endpoint(shape: object) -> None:
    assert shape in (CHAT, MESSAGES, RESPONSES)
    field = "input" if shape is RESPONSES else "messages"
    body = {"model": "anthropic/claude-sonnet-4.5", field: [{"role": "user", "content": "hi"}], "provider": WISHES}
    request = read(shape, {**body, "temperature": 0.5})
    small = json.loads(weighing_body(request, "google-vertex", "some text"))
    assert small["provider"] == {**WISHES, "only": ["google-vertex"]}
    assert small.keys() == {"model", field, "provider", "max_output_tokens" if shape is RESPONSES else "max_tokens"}


@each(
    "api, model, tokens",
    [
        ("chat", "anthropic/claude-sonnet-4.5", 1),
        ("messages", "anthropic/claude-sonnet-4.5", 1),
        ("responses", "anthropic/claude-sonnet-4.5", 16),
        ("chat", "openai/gpt-4.1:nitro", 16),
        ("messages", "~OpenAI/gpt-latest", 16),
    ],
)
def test_a_weighing_asks_for_the_least_output_that_its_api_takes(api: str, model: str, tokens: int) -> None:
    assert output_tokens(api, model) == tokens


def test_the_cost_of_a_weighing_is_estimated_at_the_listed_prices() -> None:
    """$3 for a million tokens of the prompt, $15 of the answer."""
    sizes = TextSizes("claude3", 0, (700_000,))
    assert expected_pusd(endpoint(), sizes, "chat") == 700 * 3_000_000 + 15_000_000
    assert expected_pusd(endpoint(), sizes, "responses") == 700 * 3_000_000 + 16 * 15_000_000


@each(
    "model, api, is_weighed",
    [
        ("anthropic/claude-sonnet-4.5", "chat", True),
        ("anthropic/claude-sonnet-4.5", "completions", False),
        ("anthropic/claude-sonnet-4.5", "embeddings", False),
        ("anthropic/claude-3.7-sonnet:thinking", "chat", False),
        ("openai/gpt-4.1", "responses", True),
        ("openai/gpt-5-mini", "chat", False),
        ("openai/o3", "chat", False),
        ("google/gemini-2.5-pro", "chat", False),
        ("google/gemini-2.5-flash", "chat", True),
    ],
)
def test_no_weighing_where_the_model_always_reasons_or_the_api_has_no_messages(
    model: str, api: str, is_weighed: bool
) -> None:
    assert is_weighable(endpoint(model), api) is is_weighed


def test_no_weighing_where_the_endpoint_ignores_output_bounds() -> None:
    assert SONNET["supported_parameters"] == ["max_tokens", "tools"]
    assert not is_weighable(endpoint(supported_parameters=["tools"]), "chat")


@each("family", WEIGHTS)
def test_hope_is_the_estimate_divided_by_1_8_whatever_the_margin_of_the_family(family: str) -> None:
    estimate = 10**9
    hoped = tokens_at_most(estimate * hope_factor(family) // 1000, family)
    assert hoped == pytest.approx(estimate * 100 / HOPE_PERCENT / 1000, rel=0.01)


def test_what_is_known_by_bills_is_added_and_only_the_rest_is_scaled() -> None:
    """The slices were billed at twice their estimate. 1.15 x 2 x 1,000 tokens are added to those known, and the constants."""
    prompt = chat("hi").prompt
    sizes = TextSizes("claude3", 500_000, (400_000, 600_000))
    slices_of_rest = TextSizes("claude3", 0, (100_000,))
    constants = WRAP_TOKENS * prompt.message_count + TEMPLATE_TOKENS
    assert Weighing(slices_of_rest, 200, None, 0).tokens(prompt, sizes) == 3450 + constants
    assert Weighing(slices_of_rest, 200, 1, 5000).tokens(prompt, sizes) == 5000 + 1380 + constants
    assert Weighing(slices_of_rest, 200, 0, 5000).tokens(prompt, sizes) == 5000 + 2300 + constants


def test_the_estimate_of_slices_is_that_of_their_text() -> None:
    """So that the ratio of bill and estimate is the text's, not that of the fields around it."""
    sample = slices(kinds()["prose"].encode(), random.Random(1).randrange)
    small = read(CHAT, weighing_body(chat("hi"), "anthropic", sample))
    extra = sizes_of(small, "claude3").after(None) - millitokens(sample.encode(), "claude3")
    assert 0 <= extra <= 8_000
