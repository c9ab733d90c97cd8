"""The request path, on the wire."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from openrouter_sim import Scenario, Tokenizer
from openrouter_sim.base.tokens import MESSAGE_TOKENS, count

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Caller

pytestmark = pytest.mark.wire


async def test_the_bound_is_respected_and_the_served_endpoint_named(caller: Caller) -> None:
    answer = (await caller.chat("[[sim tokens=500]]", max_tokens=20)).json
    assert answer["usage"]["completion_tokens"] == 20
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["provider"] == "OpenAI"


async def test_an_endpoint_can_ignore_the_bound(caller: Caller) -> None:
    model = caller.sim.catalog["openai/gpt-4.1-nano"]
    endpoints = tuple(replace(endpoint, honours_bound=False) for endpoint in model.endpoints)
    caller.sim.catalog[model.id] = replace(model, endpoints=endpoints)
    assert (await caller.chat("[[sim tokens=500]]", max_tokens=20)).json["usage"]["completion_tokens"] == 500


async def test_a_prompt_that_does_not_fit_is_refused(caller: Caller) -> None:
    refused = await caller.chat("x" * 600_000, model="mistralai/mistral-small-3.2-24b-instruct", provider=None)
    assert refused.status == 400
    assert refused.json["error"]["metadata"]["error_type"] == "context_length_exceeded"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": NaN}', b"\xff", b"[" * 99_999])
async def test_what_is_no_json_object_is_a_400(caller: Caller, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {caller.sim.inference_key}"}
    async with caller.session.post(f"{caller.sim.base_url}/chat/completions", data=body, headers=headers) as answer:
        assert answer.status == 400
    assert caller.sim.requests[-1].body == body


async def test_requests_are_kept_as_they_came(caller: Caller) -> None:
    raw = b'{ "model":"openai/gpt-4.1-nano",\n "messages":[{"role":"user","content":"\\u00e9"}],"odd":1.50}'
    headers = {"Authorization": f"Bearer {caller.sim.inference_key}", "X-Odd": "1"}
    url = f"{caller.sim.base_url}/chat/completions?beta=true"
    async with caller.session.post(url, data=raw, headers=headers) as answer:
        assert answer.status == 200
    kept = caller.sim.requests[-1]
    assert (kept.method, kept.path, kept.body) == ("POST", "/api/v1/chat/completions?beta=true", raw)
    assert kept.headers["X-Odd"] == "1"


async def test_a_conversation_is_cached_and_billed_at_the_cached_rate(caller: Caller) -> None:
    first = (await caller.chat("x" * 8000, max_tokens=10)).json["usage"]
    again = (await caller.chat("x" * 8000, max_tokens=10)).json["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert again["prompt_tokens_details"]["cached_tokens"] == 1920
    saved = 1920 * (Decimal("0.0000001") - Decimal("0.000000025"))
    assert first["cost"] - again["cost"] == saved
    caller.sim.scenario = Scenario(caching=False)
    assert (await caller.chat("x" * 8000, max_tokens=10)).json["usage"]["cost"] == first["cost"]


async def test_a_cached_conversation_stays_with_its_endpoint(caller: Caller) -> None:
    served = {(await caller.chat("x" * 8000, provider={}, max_tokens=10)).json["provider"] for _ in range(12)}
    assert len(served) == 1


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("openai/gpt-4.1-nano", "GPT"),
        ("anthropic/claude-sonnet-4.5", "Claude"),
        ("anthropic/claude-opus-4.7", "Claude 4.7"),
        ("qwen/qwen3-coder", "Qwen3"),
    ],
)
@pytest.mark.parametrize("tokenizer", [Tokenizer.USUAL, Tokenizer.REALISTIC, Tokenizer.DENSE])
async def test_a_prompt_is_counted_as_the_model_counts(
    caller: Caller, model: str, family: str, tokenizer: Tokenizer
) -> None:
    caller.sim.scenario = Scenario(tokenizer=tokenizer)
    text = "Größere Änderungen, 1,204 lines: checked before release. " * 9
    usage = (await caller.chat(text, model=model, provider=None, max_tokens=10)).json["usage"]
    assert usage["prompt_tokens"] == count(f"user\n{text}", tokenizer, family) + MESSAGE_TOKENS
