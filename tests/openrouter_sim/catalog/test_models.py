"""The catalogue is complete and shows itself as the API does."""

from decimal import Decimal

from openrouter_sim.catalog.models import CacheMode, load_catalog, pricing, show_endpoint, show_model

CATALOG = load_catalog()


def test_every_paid_text_model_has_several_endpoints_with_prices() -> None:
    paid = [m for m in CATALOG.values() if not m.id.endswith(":free")]
    assert len(paid) >= 10
    for model in paid:
        assert 2 <= len(model.endpoints) <= 4
        assert len({endpoint.tag for endpoint in model.endpoints}) == len(model.endpoints)
        assert all(Decimal(endpoint.pricing["prompt"]) > 0 for endpoint in model.endpoints)


def test_sonnet_has_its_list_price_per_token() -> None:
    shown = show_model(CATALOG["anthropic/claude-sonnet-4.5"])["pricing"]
    assert shown["prompt"] == "0.000003"
    assert shown["completion"] == "0.000015"
    assert shown["input_cache_write_1h"] == "0.000006"
    assert shown["overrides"][0]["min_prompt_tokens"] == 200_000
    assert CATALOG["anthropic/claude-sonnet-4.5"].cache_mode is CacheMode.EXPLICIT


def test_an_endpoint_shows_what_bounds_a_call() -> None:
    model = CATALOG["deepseek/deepseek-chat-v3.1"]
    shown = show_endpoint(model, model.endpoints[1])
    assert (shown["tag"], shown["quantization"]) == ("deepinfra/fp4", "fp4")
    assert shown["max_completion_tokens"] is None
    assert "max_tokens" in shown["supported_parameters"]
    assert model.endpoints[1].output_tokens_max == model.context_length


def test_the_list_says_which_models_always_reason() -> None:
    shown = {name: show_model(model)["reasoning"] for name, model in CATALOG.items()}
    assert shown["openai/gpt-5-mini"] == {"mandatory": True}
    assert shown["anthropic/claude-sonnet-4.5"] == {"mandatory": False}
    assert shown["openai/gpt-4.1-nano"] is None


def test_a_newer_model_of_a_family_is_listed_alike_and_counted_otherwise() -> None:
    old, new = CATALOG["anthropic/claude-sonnet-4.5"], CATALOG["anthropic/claude-opus-4.7"]
    assert show_model(old)["architecture"] == show_model(new)["architecture"]
    assert (old.family, new.family) == ("Claude", "Claude 4.7")


def test_providers_differ_in_what_a_lost_client_means() -> None:
    tags = {e.tag: e.stops_on_disconnect for e in CATALOG["anthropic/claude-sonnet-4.5"].endpoints}
    assert tags == {"anthropic": True, "google-vertex": False, "amazon-bedrock": False}


def test_pricing_is_written_per_token() -> None:
    assert pricing({"prompt": "0.10", "completion": 2, "discount": 0.5}) == {
        "prompt": "0.0000001",
        "completion": "0.000002",
        "discount": 0.5,
    }
