"""Whether the endpoints of the models keep the output bound: asked of each, with real calls (M5).

An endpoint that answers with more than it was allowed would bill above what the proxy has reserved. It is put on the user's list of
quarantined endpoints, which every proxy reads at its start, and stays there until a person takes it off.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx

from agent_preflight.checks import smoke
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine, failed, passed, warned
from agent_preflight.openrouter import http
from preflight_proxy.base.config import origin, user_quarantine_file
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.core.secret import Secret
from preflight_proxy.ledger.quarantine_file import QuarantineFile

NAME = "Output bound"

BOUND_TOKENS = 16
"""Some providers take no smaller bound."""
PROMPT = "Write 500 words about the history of paper. Do not stop before you have written all of them."
BOUND_PARAMETERS = ("max_tokens", "max_completion_tokens")

LIMIT_USD_EACH = Decimal("0.05")
"""Of the test key, for each endpoint: 700 tokens of the dearest models, should it ignore the bound."""
LIST_TIMEOUT_S = 15.0
CALLS_AT_ONCE = 8
"""So that a field of models is through within the time of a check."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one call.

    Attributes:
        tokens: What it answered with; None if it could not be asked.
        why: Why it could not.
    """

    model: str
    tag: str
    tokens: int | None = None
    why: str = ""

    @property
    def breaks_bound(self) -> bool:
        """Whether it answered with more than it was allowed."""
        return self.tokens is not None and self.tokens > BOUND_TOKENS


def check_bound_smoke(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Ask each endpoint that lists the output bound for 500 words within 16 tokens; quarantine those that answer with more."""
    tags = {model: _tags(inputs, model) for model in inputs.models}
    asked = [(model, tag) for model, listed in tags.items() for tag in listed or ()]
    if not asked:
        return [line for model, listed in tags.items() for line in _lines(model, listed, ())]
    try:
        with smoke.temporary_key(inputs, "bound-smoke", LIMIT_USD_EACH * len(asked)) as temporary:
            ask = partial(_ask, inputs, temporary.key)
            with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
                probes = list(pool.map(lambda pair: ask(*pair), asked))
    except UpstreamError as exc:
        return [failed(NAME, str(exc), f"Output bound not checked: {exc}")]
    _quarantine([probe for probe in probes if probe.breaks_bound], origin(http.resolve_base_url(inputs.base_url)))
    found = [line for model, listed in tags.items() for line in _lines(model, listed, probes)]
    return [*found, warned(NAME, temporary.leftover)] if temporary.leftover else found


def _tags(inputs: Inputs, model: str) -> list[str] | None:
    """The endpoints of a model that list the bound, by tag; None if the list cannot be read."""
    for name in dict.fromkeys((model, model.partition(":")[0])):
        path = f"/models/{quote(name, safe='/:')}/endpoints"
        answer = http.get(path, inputs.or_key, timeout_s=LIST_TIMEOUT_S, base_url=inputs.base_url)
        match None if answer is None else answer.data:
            case {"endpoints": list(endpoints)}:
                return [str(each["tag"]) for each in endpoints if _lists_bound(each)]
    return None


def _lists_bound(endpoint: object) -> bool:
    match endpoint:
        case {"tag": str(), "supported_parameters": list(supported)}:
            return any(name in supported for name in BOUND_PARAMETERS)
    return False


def _ask(inputs: Inputs, key: Secret, model: str, tag: str) -> Probe:
    body: Mapping[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": BOUND_TOKENS,
        "provider": {"only": [tag], "allow_fallbacks": False},
        "usage": {"include": True},
    }
    try:
        usage = smoke.chat(inputs, key, body).get("usage")
    except (httpx.HTTPError, UpstreamError) as exc:
        return Probe(model, tag, why=str(exc))
    match usage:
        case {"completion_tokens": int(tokens)}:
            return Probe(model, tag, tokens)
    return Probe(model, tag, why="the answer tells no tokens")


def _quarantine(broken: Sequence[Probe], upstream: str) -> None:
    listed, at_s = QuarantineFile(user_quarantine_file()), datetime.now(UTC).timestamp()
    for probe in broken:
        listed.add(QuarantinedEndpoint(probe.model.partition(":")[0], probe.tag, _reason(probe), at_s, upstream))


def _reason(probe: Probe) -> str:
    return f"answered with {probe.tokens} tokens to a bound of {BOUND_TOKENS}"


def _lines(model: str, listed: Sequence[str] | None, probes: Sequence[Probe]) -> Iterator[CheckLine]:
    """What a person is told of one model: what it kept, what it broke, what could not be asked."""
    name = f"{NAME} {model}"
    if listed is None:
        yield failed(name, "its endpoints cannot be read", f"Output bound of {model} not checked: no list of endpoints")
        return
    if not listed:
        yield warned(name, "no endpoint lists it: the most that an endpoint can make is reserved for each call")
        return
    mine = [probe for probe in probes if probe.model == model]
    broken = [probe for probe in mine if probe.breaks_bound]
    kept = [probe for probe in mine if probe.tokens is not None and not probe.breaks_bound]
    if broken:
        told = ", ".join(f"{probe.tag} {_reason(probe)}" for probe in broken)
        quarantined = f"{told}; not used until: agent-preflight quarantine --clear {model} TAG"
        if len(broken) == len(mine):
            yield failed(name, quarantined, f"No endpoint of {model} keeps the output bound")
        else:
            yield warned(name, quarantined)
    if kept:
        yield passed(name, f"kept by {', '.join(probe.tag for probe in kept)}")
    for probe in mine:
        if probe.tokens is None:
            yield warned(name, f"{probe.tag} could not be asked: {probe.why}")
