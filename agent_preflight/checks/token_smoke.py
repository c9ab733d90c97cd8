"""Weighs three texts with each model whose tokenizer is unknown: what its prompts count is then known before a run (M3, M24)."""

import base64
import inspect
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from random import Random
from typing import Any
from uuid import uuid4

from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.models import find_model
from agent_preflight.checks.report import CheckLine, failed, passed, skipped, warned
from agent_preflight.checks.smoke import chat, with_test_key
from agent_preflight.estimates.price_list import read_endpoints
from agent_preflight.openrouter import http
from agent_preflight.usage import read_usage
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.config import origin, user_counts_file
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.money import PUSD_PER_USD, TOKENS_PER_MTOK
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.prompt_bound import prompt_bound
from preflight_proxy.core.pricing.text_sizes import text_sizes
from preflight_proxy.core.pricing.token_estimate import UNKNOWN, family_of
from preflight_proxy.core.pricing.token_factors import AS_ESTIMATED, BY_BYTES, TokenFactors
from preflight_proxy.core.pricing.weighing import SLICE_BYTES, SLICES, is_weighable, output_tokens
from preflight_proxy.core.secret import Secret
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.model_name import bare_model, split_model
from preflight_proxy.core.shapes.steps import run_steps
from preflight_proxy.ledger.shared_counts_file import SharedCountsFile

TOKENS = "Unknown tokenizer"
SAMPLE_BYTES = SLICES * SLICE_BYTES
OUTPUT_TOKENS_MAX = 100
"""More than the answers have together."""
RAISED = "Estimates for this endpoint are raised once two runs saw that; `agent-preflight quarantine` lists it"
_PROSE = (
    "The committee met on Thursday to discuss the repair of the old bridge. Several members asked whether the work could wait "
    "until spring, when the river is lower and the stone easier to reach. The engineer's report, which nobody had read to the "
    "end, warned that two of the arches had moved by almost an inch since the last inspection. "
)
_CHAT = SHAPES["/chat/completions"]


def samples() -> Mapping[str, str]:
    """Return the texts that are weighed, of 2,400 bytes each, by their kinds."""
    opaque = base64.b64encode(Random(0).randbytes(SAMPLE_BYTES)).decode()
    texts = {
        "prose": _PROSE * (1 + SAMPLE_BYTES // len(_PROSE)),
        "code": inspect.getsource(json.decoder),
        "opaque": opaque,
    }
    return {kind: text[:SAMPLE_BYTES] for kind, text in texts.items()}


def check_token_smoke(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Weigh three texts with each model whose tokenizer is unknown, and say what that cost; nothing where all are known.

    A text that makes more tokens than its estimate counts for the user's runs as a bill of a run does: the estimates of that
    endpoint are raised once two of them saw it.
    """
    lines = []
    for model in inputs.models:
        listed = find_model(facts.models() or {}, model) or {}
        tokenizer = (listed.get("architecture") or {}).get("tokenizer") or ""
        if listed and family_of(split_model(bare_model(model))[0], tokenizer) == UNKNOWN:
            try:
                lines += _weigh(inputs, model)
            except Exception as exc:  # whatever goes wrong here is the finding
                lines.append(failed(f"{TOKENS} {model}", str(exc), f"Texts not weighed with {model}: {exc}"))
    return lines


def _weigh(inputs: Inputs, model: str) -> list[CheckLine]:
    name = f"{TOKENS} {model}"
    endpoints = read_endpoints(model, inputs.or_key or None, inputs.base_url)
    weighable = [each for each in endpoints if is_weighable(each, _CHAT.name)]
    if not weighable:
        return [skipped(name, "skipped: no endpoint of it keeps an answer to one token")]
    endpoint = min(weighable, key=lambda each: each.prices.prompt)
    bodies = {kind: _body(model, endpoint, text) for kind, text in samples().items()}
    requests = {kind: _CHAT.read(json.dumps(body).encode(), "drop") for kind, body in bodies.items()}
    most_tokens = sum(prompt_bound(request.prompt, endpoint) for request in requests.values())
    most_pusd = (
        most_tokens * endpoint.prices.prompt + OUTPUT_TOKENS_MAX * endpoint.prices.completion
    ) // TOKENS_PER_MTOK
    limit_usd = Decimal(1 + most_pusd * 100 // PUSD_PER_USD) / 100

    def use(key: Secret) -> Iterator[CheckLine]:
        cost_usd, parts, largest = Decimal(0), [], AS_ESTIMATED
        for kind, request in requests.items():
            answer = chat(inputs, key, bodies[kind])
            usage = read_usage(answer.get("usage"))
            if usage is None:
                raise UpstreamError("an answer reports no tokens")
            cost_usd += Decimal(str(answer["usage"].get("cost") or 0))
            sizes = run_steps(text_sizes(_CHAT, request, UNKNOWN))
            factor = TokenFactors().see("", endpoint, request.prompt, sizes, None, usage.prompt_tokens)
            largest = max(largest, factor)
            parts.append(f"{kind} {usage.prompt_tokens * 1000 / sizes.after(None):.2f}")
        if largest > AS_ESTIMATED:
            _hand_on(inputs, endpoint, largest)
        result = f"tokens billed, divided by their estimate: {', '.join(parts)}. It cost ${cost_usd.normalize():f}"
        yield passed(name, result) if largest == AS_ESTIMATED else warned(name, f"{result}. {RAISED}")

    return with_test_key(inputs, name, "token-smoke", limit_usd, use)


def _body(model: str, endpoint: Endpoint, text: str) -> Mapping[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": output_tokens(_CHAT.name, model),
        "provider": {"only": [endpoint.tag], "allow_fallbacks": False},
        "usage": {"include": True},
    }


def _hand_on(inputs: Inputs, endpoint: Endpoint, factor: int) -> None:
    """Write what an endpoint counted above its estimate into the user's file. A failure is logged, and loses nothing else."""
    upstream = origin(http.resolve_base_url(inputs.base_url))
    file = SharedCountsFile(user_counts_file(), upstream, f"preflight {uuid4()}")
    file.exchange([((endpoint.model, endpoint.tag), min(factor, BY_BYTES))], SystemClock().epoch_s())
    file.close()
