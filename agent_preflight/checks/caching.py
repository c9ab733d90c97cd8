"""Whether prompt caching works for the Anthropic models of the field."""

import time
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from agent_preflight.caching import min_cache_tokens
from agent_preflight.checks import smoke
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine, failed, passed, skipped, warned
from agent_preflight.checks.models import find_model, price_per_m
from agent_preflight.usage import TokenUsage, read_usage

NAME = "Prompt caching"

LINE_TOKENS = 13
"""About what one filler line comes to, on all tokenisers."""

PAUSE_S = 1.0
"""Between the two calls: a cache entry can be read once the first answer has begun."""

LIMIT_USD_MIN = Decimal("0.02")
PRICE_PER_M_UNKNOWN = Decimal(20)
OUTPUT_USD = Decimal("0.01")
"""Room for what the model says in both answers."""
MARGIN = Decimal("1.25")
"""Cache writes cost a quarter more than plain prompt tokens."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What two equal calls told, and what is left of their key."""

    first: TokenUsage | None
    second: TokenUsage | None
    leftover: str


def check_cache_smoke(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Send one long prompt twice; the second answer must tell tokens read from a cache."""
    model = next((m for m in inputs.models if "anthropic/" in m or "claude" in m), None)
    if model is None:
        return [skipped(NAME, "skipped: no Anthropic model in the list")]
    try:
        return [_verdict(model, _send_twice(inputs, facts, model))]
    except Exception as exc:  # whatever goes wrong here is the finding
        return [failed(NAME, f"{model}: {exc}", f"Cache smoke failed: {exc}")]


def smoke_limit_usd(lines: int, price: Decimal | None) -> Decimal:
    """Return the limit of the test key: two prompts of that many lines, nothing cached, and some room.

    Args:
        lines: filler lines in the prompt.
        price: dollars per million prompt tokens; None where unknown.
    """
    per_m = PRICE_PER_M_UNKNOWN if price is None else price
    needed = MARGIN * 2 * lines * LINE_TOKENS * per_m / 1_000_000 + OUTPUT_USD
    return max(LIMIT_USD_MIN, needed.quantize(Decimal("0.01"), ROUND_CEILING))


def smoke_prompt(lines: int) -> str:
    """Return a system text of that many numbered lines."""
    return "\n".join(f"Rule {number}: answer in plain words and keep to the point." for number in range(1, lines + 1))


def _send_twice(inputs: Inputs, facts: Facts, model: str) -> _Sent:
    lines = max(100, min_cache_tokens(model) // LINE_TOKENS + 50)
    info = find_model(facts.models() or {}, model)
    limit_usd = smoke_limit_usd(lines, None if info is None else price_per_m(info, "prompt"))
    block = {"type": "text", "text": smoke_prompt(lines), "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "system", "content": [block]}, {"role": "user", "content": "Say OK"}]
    body = {"model": model, "messages": messages, "max_tokens": 4}
    with smoke.temporary_key(inputs, "cache-smoke", limit_usd) as temporary:
        first = smoke.chat(inputs, temporary.key, body).get("usage")
        time.sleep(PAUSE_S)
        second = smoke.chat(inputs, temporary.key, body).get("usage")
    return _Sent(read_usage(first), read_usage(second), temporary.leftover)


def _verdict(model: str, sent: _Sent) -> CheckLine:
    if sent.leftover:
        return warned(NAME, sent.leftover)
    if sent.second is not None and sent.second.cached_tokens:
        share = f"{sent.second.cached_tokens:,} of {sent.second.prompt_tokens:,} tokens"
        return passed(NAME, f"{model}: {share} read from the cache")
    if any(usage is not None and usage.cache_write_tokens for usage in (sent.first, sent.second)):
        return warned(NAME, f"{model}: written to a cache, but not read from it yet")
    failure = f"Cache smoke failed for {model}: no cache tokens in response"
    return failed(NAME, f"{model}: no cache tokens in the answers", failure)
