"""Embeddings."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.openrouter_sim.conftest import Answer, Caller

pytestmark = pytest.mark.wire


async def embed(caller: Caller, **fields: Any) -> Answer:
    body = {"model": "openai/text-embedding-3-small", "provider": {"only": ["openai"]}, "input": "abcdefgh", **fields}
    return await caller.call("/embeddings", body)


async def test_only_the_prompt_costs(caller: Caller) -> None:
    answer = (await embed(caller, input=["abcdefgh", "abcd"], dimensions=3)).json
    assert [len(row["embedding"]) for row in answer["data"]] == [3, 3]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == 3
    assert answer["usage"]["cost"] == Decimal("0.00000006") == caller.sim.bill().total_usd


async def test_vectors_can_be_packed(caller: Caller) -> None:
    answer = (await embed(caller, encoding_format="base64", stream=True)).json
    assert isinstance(answer["data"][0]["embedding"], str)


async def test_faults_strike_here_too(caller: Caller) -> None:
    caller.suffer("missing_usage")
    assert "usage" not in (await embed(caller)).json
    caller.suffer("error_first")
    assert "error" in (await embed(caller)).json
    assert (await embed(caller, input=[])).status == 400
