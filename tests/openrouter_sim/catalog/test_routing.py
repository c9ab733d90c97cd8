"""Which endpoints may serve, and which does."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from openrouter_sim.base.errors import ApiError
from openrouter_sim.catalog.models import load_catalog
from openrouter_sim.catalog.routing import choose, eligible, find_model
from tests.support.cases import each

CATALOG = load_catalog()
LLAMA = CATALOG["meta-llama/llama-3.3-70b-instruct"]


def tags(provider: Any, bound: int | None = None, **body: Any) -> list[str]:
    return [e.tag for e in eligible(LLAMA, LLAMA.endpoints, {"provider": provider, **body}, bound)]


def test_suffixes_route_the_base_model_and_free_is_a_model_of_its_own() -> None:
    assert find_model(CATALOG, f"{LLAMA.id}:nitro") == (LLAMA, "nitro")
    assert find_model(CATALOG, f"{LLAMA.id}:free")[0].endpoints[0].pricing["prompt"] == "0"


@each("wanted", ["nope/nope", f"{LLAMA.id}:what", "@preset/x"])
def test_an_unknown_model_is_not_found(wanted: str) -> None:
    with pytest.raises(ApiError) as caught:
        find_model(CATALOG, wanted)
    assert caught.value.status == 404


def test_a_request_without_model_is_malformed() -> None:
    with pytest.raises(ApiError) as caught:
        find_model(CATALOG, None)
    assert caught.value.status == 400


def test_only_ignore_order_and_quantizations_are_honoured() -> None:
    assert tags({"only": ["groq", "Together"]}) == ["groq", "together"]
    assert tags({"ignore": ["deepinfra"]}) == ["novita/bf16", "groq", "together"]
    assert tags({"order": ["together", "groq"]})[:2] == ["together", "groq"]
    assert tags({"order": ["groq"], "allow_fallbacks": False}) == ["groq"]
    assert tags({"quantizations": ["bf16"]}) == ["novita/bf16"]


def test_prices_above_the_ceiling_are_left_out() -> None:
    assert tags({"max_price": {"prompt": 0.13, "completion": "0.395"}}) == ["deepinfra/turbo"]


def test_a_bound_above_an_endpoints_own_skips_it() -> None:
    assert tags({}, 20_000) == ["novita/bf16", "groq"]


def test_required_parameters_must_be_supported() -> None:
    with pytest.raises(ApiError) as caught:
        tags({"require_parameters": True}, reasoning={"effort": "high"})
    assert caught.value.extra["availability"]["constraint"] == "require_parameters"
    assert len(tags({"require_parameters": True}, tools=[])) == 4


@pytest.mark.parametrize("provider", ["x", {"max_price": {"prompt": "dear"}}])
def test_a_malformed_preference_is_a_400(provider: Any) -> None:
    with pytest.raises(ApiError) as caught:
        tags(provider)
    assert caught.value.status == 400


def test_the_dearest_endpoint_serves_too_and_the_cheapest_most() -> None:
    random = Random(0)
    served = Counter(choose(LLAMA.endpoints, {}, "", random).tag for _ in range(2000))
    assert set(served) == {e.tag for e in LLAMA.endpoints}
    assert served["deepinfra/turbo"] > served["together"]


def test_floor_takes_the_cheapest_and_an_order_the_first() -> None:
    random = Random(0)
    assert choose(LLAMA.endpoints, {}, "floor", random).tag == "deepinfra/turbo"
    assert choose(LLAMA.endpoints[::-1], {"provider": {"order": ["together"]}}, "", random).tag == "together"
    assert choose(LLAMA.endpoints, {"tools": [1]}, "", random) in LLAMA.endpoints
