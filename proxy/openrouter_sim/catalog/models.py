"""The models and endpoints, and how the API lists them."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from enum import Enum
from importlib import resources
from typing import Any

import msgspec

from openrouter_sim.base.jsonio import JsonObject, plain

_MILLION = Decimal(1_000_000)
_RATES = {
    "prompt": "prompt",
    "completion": "completion",
    "cache_read": "input_cache_read",
    "cache_write": "input_cache_write",
    "cache_write_1h": "input_cache_write_1h",
    "internal_reasoning": "internal_reasoning",
}


class CacheMode(Enum):
    """How a model family caches prompts."""

    NONE = "none"
    AUTOMATIC = "automatic"
    EXPLICIT = "explicit"


class SimEndpoint(msgspec.Struct, frozen=True):
    """A provider of one model.

    Attributes:
        tag: Provider slug, with the variant after a slash.
        pricing: As the API shows it: strings, USD per token.
        max_completion_tokens: None for the context length.
        honours_bound: The endpoint keeps the request's output bound.
        stops_on_disconnect: The endpoint stops generating, and charging, when the client of a stream disconnects.
    """

    tag: str
    provider: str
    context_length: int
    pricing: JsonObject
    supported_parameters: tuple[str, ...]
    max_completion_tokens: int | None = None
    max_prompt_tokens: int | None = None
    quantization: str = "unknown"
    honours_bound: bool = True
    stops_on_disconnect: bool = False

    @property
    def output_tokens_max(self) -> int:
        """The longest completion: the endpoint's own maximum, else its context length."""
        return self.max_completion_tokens or self.context_length


class SimModel(msgspec.Struct, frozen=True):
    """A model id with its endpoints; the first endpoint is the top provider.

    Attributes:
        tokenizer: The family, as the API shows it.
        vocabulary: Which of the family's tokenizers the model has; empty for the usual one. The API does not show it.
        reasoning_mandatory: The model always reasons.
    """

    id: str
    canonical_slug: str
    name: str
    created: int
    tokenizer: str
    context_length: int
    endpoints: tuple[SimEndpoint, ...]
    cache_mode: CacheMode = CacheMode.NONE
    cache_min_tokens: int = 1024
    output: str = "text"
    vocabulary: str = ""
    reasoning_mandatory: bool = False

    @property
    def family(self) -> str:
        """By what its texts are counted (see `base.tokens`)."""
        return self.vocabulary or self.tokenizer


Catalog = dict[str, SimModel]


def load_catalog() -> Catalog:
    """Return the models of `models.toml` by id."""
    text = resources.files("openrouter_sim.catalog").joinpath("models.toml").read_text("utf-8")
    data = tomllib.loads(text, parse_float=Decimal)
    stops = frozenset(data["stops_on_disconnect"])
    return {row["id"]: _model(row, stops) for row in data["models"]}


def show_model(model: SimModel) -> JsonObject:
    """Return the model as `GET /models` lists it. Source: openrouter.ai/docs/guides/overview/models, 2026."""
    top = model.endpoints[0]
    parameters = sorted({name for endpoint in model.endpoints for name in endpoint.supported_parameters})
    return {
        "id": model.id,
        "canonical_slug": model.canonical_slug,
        "name": model.name,
        "created": model.created,
        "description": "Simulated.",
        "context_length": model.context_length,
        "hugging_face_id": None,
        "expiration_date": None,
        "architecture": show_architecture(model),
        "pricing": top.pricing,
        "top_provider": {
            "context_length": top.context_length,
            "max_completion_tokens": top.max_completion_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": parameters,
        "default_parameters": {},
        "reasoning": {"mandatory": model.reasoning_mandatory} if "reasoning" in parameters else None,
        "links": {"details": f"/api/v1/models/{model.canonical_slug}/endpoints"},
    }


def show_architecture(model: SimModel) -> JsonObject:
    """Return the `architecture` object."""
    return {
        "modality": f"text->{model.output}",
        "input_modalities": ["text"],
        "output_modalities": [model.output],
        "tokenizer": model.tokenizer,
        "instruct_type": None,
    }


def show_endpoint(model: SimModel, endpoint: SimEndpoint) -> JsonObject:
    """Return the endpoint as `GET /models/{author}/{slug}/endpoints` lists it."""
    return {
        "name": f"{endpoint.provider} | {model.id}",
        "model_id": model.id,
        "model_name": model.name,
        "provider_name": endpoint.provider,
        "tag": endpoint.tag,
        "pricing": endpoint.pricing,
        "context_length": endpoint.context_length,
        "max_completion_tokens": endpoint.max_completion_tokens,
        "max_prompt_tokens": endpoint.max_prompt_tokens,
        "quantization": endpoint.quantization,
        "status": 0,
        "supported_parameters": list(endpoint.supported_parameters),
        "supports_implicit_caching": model.cache_mode is CacheMode.AUTOMATIC,
        "uptime_last_30m": 100,
        "latency_last_30m": None,
        "throughput_last_30m": None,
    }


def pricing(rates: dict[str, Any]) -> JsonObject:
    """Return the `pricing` object for rates in USD per million tokens, named as in `models.toml`."""
    shown: JsonObject = {
        wire: plain(Decimal(str(rates[name])) / _MILLION) for name, wire in _RATES.items() if name in rates
    }
    if "discount" in rates:
        shown["discount"] = rates["discount"]
    if "overrides" in rates:
        shown["overrides"] = [
            {**pricing(row), **{k: v for k, v in row.items() if k not in _RATES}} for row in rates["overrides"]
        ]
    return shown


def _model(row: dict[str, Any], stops: frozenset[str]) -> SimModel:
    shared = {"context_length": row["context_length"], "supported_parameters": row["parameters"]}
    endpoints = [
        {**shared, **entry, "pricing": pricing(entry), "stops_on_disconnect": entry["provider"] in stops}
        for entry in row["endpoints"]
    ]
    return msgspec.convert({**row, "endpoints": endpoints}, SimModel)
