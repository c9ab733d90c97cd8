"""The price list of one model, as the proxy reads and uses it: endpoints with a price, without the user's quarantined ones.

`read_estimate` reads it and estimates how many calls a budget pays for.

Source: openrouter.ai/docs/guides/overview/models and `GET /models/{author}/{slug}/endpoints`, 2026-10. The list is public.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote as url_quote

from agent_preflight.estimates.calls_that_fit import Estimate, estimate
from agent_preflight.openrouter import http
from agent_preflight.openrouter.http import Key
from preflight_proxy.base.config import Bound, origin, user_quarantine_file
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.money import PUSD_PER_USD, TOKENS_PER_MTOK
from preflight_proxy.core.pricing.endpoint import Endpoint, endpoint_from_json
from preflight_proxy.core.shapes.model_name import bare_model, split_model
from preflight_proxy.core.shapes.paths import MODEL_NAME
from preflight_proxy.ledger.quarantine_file import QuarantineFile

PRICE_LIST_S_MAX = 15.0
CENT_PUSD = PUSD_PER_USD // 100
OTHER_TOKENIZER = "Other"
"""The tokenizer, if the list names none."""

_is_model_name = re.compile(MODEL_NAME, re.ASCII).fullmatch


def read_estimate(
    model: str,
    budget_pusd: int,
    key: Key | None,
    base_url: str | None = None,
    *,
    expect_tokens: int,
    max_tokens: int | None = None,
    byok: bool = False,
    bound: Bound = "measured",
) -> Estimate:
    """Read a model's prices and return what a budget pays for; the arguments are those of `read_endpoints` and `estimate`.

    If the prices cannot be read, the estimate's `why_unread` says why.
    """
    try:
        endpoints = read_endpoints(model, key, base_url)
    except UpstreamError as exc:
        return Estimate(model, budget_pusd, expect_tokens, why_unread=str(exc))
    return estimate(
        model, budget_pusd, endpoints, expect_tokens=expect_tokens, max_tokens=max_tokens, byok=byok, bound=bound
    )


def read_endpoints(model: str, key: Key | None, base_url: str | None = None) -> tuple[Endpoint, ...]:
    """Return the endpoints of a model that the proxy would use; empty if OpenRouter has no such model.

    Args:
        model: Its id; a suffix that only steers routing is left out.
        key: Any key, or None.
        base_url: The API's base, if not the usual one.

    Raises:
        UpstreamError: The list cannot be read.
    """
    name = split_model(bare_model(model))[0]
    if not _is_model_name(name):
        return ()
    path = f"/models/{url_quote(name, safe='/:@~')}/endpoints"
    answer = http.get(path, key, timeout_s=PRICE_LIST_S_MAX, base_url=base_url)
    if answer is None:
        raise UpstreamError(f"the prices of {model} cannot be read from {http.resolve_base_url(base_url)}")
    if answer.status in (400, 404):
        return ()
    if answer.status != 200 or not isinstance(answer.data, Mapping):
        raise UpstreamError(f"OpenRouter answered {answer.status} for the prices of {model}")
    return _usable(name, answer.data, origin(http.resolve_base_url(base_url)))


def widest_prompt_pusd(model: str, key: Key | None, base_url: str | None = None) -> int:
    """Return what the longest prompt of any endpoint of a model costs at its list price, rounded up to a cent.

    OpenRouter compares the prompt of a call, at this price, with what a key has left: M20 (refusals by OpenRouter).
    The arguments are those of `read_endpoints`.

    Raises:
        UpstreamError: The list cannot be read, or has no endpoint with a price.
    """
    costs_pusd = [
        (each.max_prompt_tokens or each.context_length) * each.prices.prompt // TOKENS_PER_MTOK
        for each in read_endpoints(model, key, base_url)
    ]
    if not costs_pusd:
        raise UpstreamError(f"OpenRouter lists no endpoint of {model} that has a price and may be used")
    return -(-max(costs_pusd) // CENT_PUSD) * CENT_PUSD


def _usable(name: str, listed: Mapping[str, object], upstream: str) -> tuple[Endpoint, ...]:
    architecture, endpoints = listed.get("architecture"), listed.get("endpoints")
    tokenizer = architecture.get("tokenizer") if isinstance(architecture, Mapping) else None
    priced = [
        endpoint_from_json(name, tokenizer if isinstance(tokenizer, str) and tokenizer else OTHER_TOKENIZER, each)
        for each in (endpoints if isinstance(endpoints, list) else ())
        if isinstance(each, Mapping)
    ]
    quarantined = QuarantineFile(user_quarantine_file()).read(quiet=True)
    out_of_use = {(row.model, row.tag) for row in quarantined if row.upstream == upstream}
    return tuple(each for each in priced if each is not None and (each.model, each.tag) not in out_of_use)
