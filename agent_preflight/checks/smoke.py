"""Checks that make calls with a test key: `key_smoke`, `cache_smoke`, `bound_smoke`. The key is deleted afterwards."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

import httpx

from agent_preflight import provision
from agent_preflight.caching import min_cache_tokens
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.models import find_model, price_per_m
from agent_preflight.checks.report import CheckLine, failed, passed, skipped, warned
from agent_preflight.estimates.price_list import read_endpoints
from agent_preflight.openrouter import http
from agent_preflight.openrouter.reachable import refusal_of
from agent_preflight.usage import read_usage
from preflight_proxy.base.config import origin, user_quarantine_file
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.core.pricing.endpoint import BOUND_PARAMETERS, Endpoint
from preflight_proxy.core.secret import Secret
from preflight_proxy.core.shapes.model_name import bare_model, split_model
from preflight_proxy.ledger.quarantine_file import QuarantineFile

KEYS, CACHING, BOUND = "Key provisioning (1¢ smoke)", "Prompt caching", "Output bound"

CALL_TIMEOUT_S = 30.0
KEY_LIFETIME = timedelta(hours=1)
"""A test key that could not be deleted expires by itself."""

MODEL = "openai/gpt-4.1-nano"
"""About the cheapest model: the call costs less than a thousandth of a cent."""
KEY_LIMIT_USD = Decimal("0.01")

LINE_TOKENS = 13
"""About the tokens of one filler line, with all tokenizers."""
CACHE_PAUSE_S = 1.0
"""Between the two calls: a cache entry can be read once the first answer has begun."""
CACHE_LIMIT_USD_MIN = Decimal("0.02")
PRICE_PER_M_UNKNOWN = Decimal(20)
OUTPUT_USD = Decimal("0.01")
"""For the output tokens of both answers."""
MARGIN = Decimal("1.25")
"""Cache writes cost a quarter more than plain prompt tokens."""

BOUND_TOKENS = 16
"""Some providers take no smaller bound."""
PROMPT = "Write 500 words about the history of paper. Do not stop before you have written all of them."
BOUND_LIMIT_USD = Decimal("0.05")
"""Of the test key, for each endpoint: 700 tokens of the most expensive models, if it ignores the bound."""
CALLS_AT_ONCE = 8
"""With as many, the endpoints of a long list of models are called within the time of a check."""


def with_test_key(
    inputs: Inputs, name: str, purpose: str, limit_usd: Decimal, use: Callable[[Secret], Iterable[CheckLine]]
) -> list[CheckLine]:
    """Make a test key, return the findings of its use, and delete the key, also if its use fails.

    If the deletion is not confirmed, the last line is a warning that names the key. After a failed use the error names it.

    Raises:
        UpstreamError: No key could be made, or a call was refused.
        httpx.HTTPError: A call was not answered.
    """
    expires_at = (datetime.now(UTC) + KEY_LIFETIME).strftime("%Y-%m-%dT%H:%M:%SZ")
    label = f"{inputs.site_name}:{purpose}"
    key = provision.create_sub_key(inputs.admin_key, label, limit_usd, expires_at, inputs.base_url, attempts=1)

    def delete() -> str:
        """Return what is left; empty if the key is gone."""
        is_gone = provision.delete_sub_key(inputs.admin_key, key.hash, inputs.base_url)
        return "" if is_gone else f"the test key {label!r} could not be deleted; it expires at {expires_at}"

    try:
        lines = list(use(key.key))
    except BaseException as exc:
        if (leftover := delete()) and isinstance(exc, Exception):
            raise UpstreamError(f"{exc}; {leftover}") from exc
        raise
    leftover = delete()
    return [*lines, warned(name, leftover)] if leftover else lines


def chat(inputs: Inputs, key: Secret, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make one chat call and return the answer.

    Raises:
        httpx.HTTPError: No answer came.
        UpstreamError: It was refused, or is no completion.
    """
    answer = http.call(
        "POST",
        "/chat/completions",
        key,
        timeout_s=CALL_TIMEOUT_S,
        base_url=inputs.base_url,
        body=body,
        headers={"HTTP-Referer": f"https://{inputs.site_name}", "X-Title": inputs.site_name},
    )
    if answer.status != 200:
        raise UpstreamError(f"the call was answered with HTTP {refusal_of(answer)}")
    if not isinstance(answer.body, Mapping) or not isinstance(answer.body.get("choices"), list):
        raise UpstreamError(f"the answer is no completion: {refusal_of(answer)}")
    return answer.body


def check_key_smoke(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Make a key with a limit of one cent, make one call with it, delete it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say OK"}], "max_tokens": 16}

    def use(key: Secret) -> Iterator[CheckLine]:
        chat(inputs, key, body)
        yield passed(KEYS, "a test key was made and used for one call")

    try:
        return with_test_key(inputs, KEYS, "preflight-smoke", KEY_LIMIT_USD, use)
    except Exception as exc:  # whatever goes wrong here is the finding
        return [failed(KEYS, str(exc), f"Key provisioning failed: {exc}")]


def check_cache_smoke(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Send one long prompt to the first Anthropic model twice; the second answer must report tokens read from a cache."""
    model = next((m for m in inputs.models if "anthropic/" in m or "claude" in m), None)
    if model is None:
        return [skipped(CACHING, "skipped: no Anthropic model in the list")]
    lines = max(100, min_cache_tokens(model) // LINE_TOKENS + 50)
    info = find_model(facts.models() or {}, model)
    limit_usd = cache_limit_usd(lines, None if info is None else price_per_m(info, "prompt"))
    try:
        return with_test_key(
            inputs, CACHING, "cache-smoke", limit_usd, lambda key: [_send_twice(inputs, key, model, lines)]
        )
    except Exception as exc:  # whatever goes wrong here is the finding
        return [failed(CACHING, f"{model}: {exc}", f"Cache smoke failed: {exc}")]


def cache_limit_usd(lines: int, price: Decimal | None) -> Decimal:
    """Return the limit of the test key: two prompts of that many lines, none of them cached, and both answers.

    Args:
        lines: Filler lines in the prompt.
        price: Dollars per million prompt tokens; None if unknown.
    """
    per_m = PRICE_PER_M_UNKNOWN if price is None else price
    needed = MARGIN * 2 * lines * LINE_TOKENS * per_m / 1_000_000 + OUTPUT_USD
    return max(CACHE_LIMIT_USD_MIN, needed.quantize(Decimal("0.01"), ROUND_CEILING))


def cache_prompt(lines: int) -> str:
    """Return a system text of that many numbered lines."""
    return "\n".join(f"Rule {number}: answer in plain words and keep to the point." for number in range(1, lines + 1))


def _send_twice(inputs: Inputs, key: Secret, model: str, lines: int) -> CheckLine:
    block = {"type": "text", "text": cache_prompt(lines), "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "system", "content": [block]}, {"role": "user", "content": "Say OK"}]
    body = {"model": model, "messages": messages, "max_tokens": 4}
    first = read_usage(chat(inputs, key, body).get("usage"))
    time.sleep(CACHE_PAUSE_S)
    second = read_usage(chat(inputs, key, body).get("usage"))
    if second is not None and second.cached_tokens:
        share = f"{second.cached_tokens:,} of {second.prompt_tokens:,} tokens"
        return passed(CACHING, f"{model}: {share} read from the cache")
    if any(usage is not None and usage.cache_write_tokens for usage in (first, second)):
        return warned(CACHING, f"{model}: written to a cache, but not read from it yet")
    failure = f"Cache smoke failed for {model}: no cache tokens in response"
    return failed(CACHING, f"{model}: no cache tokens in the answers", failure)


def check_bound_smoke(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Ask each endpoint that lists the output bound for 500 words within 16 tokens, and quarantine those that exceed it.

    Such an endpoint would bill more than the proxy has reserved, against M5 (bound on output tokens). It stays on the user's
    list of quarantined endpoints, which every proxy reads at its start, until a person clears it. Endpoints on that list are not
    called again.
    """

    def use(key: Secret) -> Iterator[CheckLine]:
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            answers = dict(zip(calls, pool.map(lambda call: _answer_tokens(inputs, key, *call), calls), strict=True))
        _quarantine(inputs, answers)
        for model in inputs.models:
            yield from _bound_lines(model, {call[1].tag: answers[call] for call in calls if call[0] == model})

    try:
        calls = [(model, endpoint) for model in inputs.models for endpoint in _bounded_endpoints(inputs, model)]
        if not calls:
            return [line for model in inputs.models for line in _bound_lines(model, {})]
        return with_test_key(inputs, BOUND, "bound-smoke", BOUND_LIMIT_USD * len(calls), use)
    except UpstreamError as exc:
        return [failed(BOUND, str(exc), f"Output bound not checked: {exc}")]


def _bounded_endpoints(inputs: Inputs, model: str) -> list[Endpoint]:
    endpoints = read_endpoints(model, inputs.or_key or None, inputs.base_url)
    if not endpoints:
        raise UpstreamError(
            f"{model} has no endpoint that is in use; `agent-preflight quarantine` lists those that are not. No call was made."
        )
    return [endpoint for endpoint in endpoints if endpoint.supported_parameters & BOUND_PARAMETERS]


def _answer_tokens(inputs: Inputs, key: Secret, model: str, endpoint: Endpoint) -> int | str:
    """Call one endpoint and return the tokens of its answer, or why they are not known."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": BOUND_TOKENS,
        "provider": {"only": [endpoint.tag], "allow_fallbacks": False},
        "usage": {"include": True},
    }
    try:
        usage = chat(inputs, key, body).get("usage")
    except (httpx.HTTPError, UpstreamError) as exc:
        return str(exc)
    match usage:
        case {"completion_tokens": int(tokens)}:
            return tokens
    return "the answer reports no tokens"


def _quarantine(inputs: Inputs, answers: Mapping[tuple[str, Endpoint], int | str]) -> None:
    file, at_s = QuarantineFile(user_quarantine_file()), datetime.now(UTC).timestamp()
    upstream = origin(http.resolve_base_url(inputs.base_url))
    for (_, endpoint), tokens in answers.items():
        if isinstance(tokens, int) and tokens > BOUND_TOKENS:
            file.add(QuarantinedEndpoint(endpoint.model, endpoint.tag, _excess(tokens), at_s, upstream))


def _excess(tokens: int) -> str:
    return f"answered with {tokens} tokens to a bound of {BOUND_TOKENS}"


def _bound_lines(model: str, answers: Mapping[str, int | str]) -> Iterator[CheckLine]:
    """Yield which endpoints of a model exceeded the bound, which kept it, and which could not be called.

    Args:
        model: The model.
        answers: By the endpoint's tag: tokens, or why they are not known.
    """
    name = f"{BOUND} {model}"
    if not answers:
        yield warned(name, "no endpoint lists it: the most that an endpoint can make is reserved for each call")
    tokens = {tag: answer for tag, answer in answers.items() if isinstance(answer, int)}
    exceeding = [f"{tag} {_excess(count)}" for tag, count in tokens.items() if count > BOUND_TOKENS]
    if exceeding:
        listed = split_model(bare_model(model))[0]
        detail = f"{', '.join(exceeding)}; not used until: agent-preflight quarantine --clear {listed} TAG"
        if len(exceeding) == len(answers):
            yield failed(name, detail, f"No endpoint of {model} keeps the output bound")
        else:
            yield warned(name, detail)
    if kept := [tag for tag, count in tokens.items() if count <= BOUND_TOKENS]:
        yield passed(name, f"kept by {', '.join(kept)}")
    for tag, answer in answers.items():
        if isinstance(answer, str):
            yield warned(name, f"{tag} could not be called: {answer}")
