"""Which headers are passed on, in both directions: an allow-list, because an unknown header can mean anything to the receiver.

Source: RFC 9110, section 7.6.1 (hop-by-hop headers); openrouter.ai/docs/api_reference/overview, 2026-10 (optional headers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

TO_UPSTREAM = frozenset(
    {"accept", "content-type", "user-agent", "http-referer", "referer", "x-title", "x-session-id"}
    | {"x-openrouter-title", "x-openrouter-categories", "x-openrouter-metadata", "x-openrouter-experimental-metadata"}
    | {"x-openrouter-cache", "x-openrouter-cache-ttl", "x-openrouter-cache-clear"}
)
TO_UPSTREAM_MESSAGES = TO_UPSTREAM | {"anthropic-version", "anthropic-beta", "x-anthropic-beta"}
TO_DOWNSTREAM = frozenset(
    {"content-type", "content-encoding", "cache-control", "x-generation-id", "request-id"}
    | {"x-openrouter-cache-status", "x-openrouter-cache-age", "x-openrouter-cache-ttl"}
)
"""Without `Retry-After` and rate-limit headers: several clients sleep on them and log nothing."""

FREE_BETAS = frozenset(
    {"claude-code", "oauth", "interleaved-thinking", "fine-grained-tool-streaming", "context-management"}
    | {"extended-cache-ttl", "prompt-caching", "prompt-caching-scope", "token-efficient-tools", "output-128k"}
    | {"structured-outputs", "effort", "adaptive-thinking", "redact-thinking", "advanced-tool-use", "tool-examples"}
    | {"max-tokens-3-5-sonnet", "pdfs", "dev-full-thinking", "computer-use"}
)
"""Anthropic betas that do not change the price; all others are removed (M8 (unbounded prices)).

Long context ("context-1m") would lift the context length that the price list states, and with it the bound on the prompt;
fast mode multiplies the price.
Source: docs.anthropic.com/en/api/beta-headers, 2026-10.
"""

_BETA_DATE = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})$")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Headers:
    """The headers of a request, as they were sent.

    Args:
        pairs: Names in any case, and values without the white space around them.
    """

    __slots__ = ("_by_name", "_pairs")

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)
        self._by_name: dict[str, list[str]] = {}
        for name, value in pairs:
            self._by_name.setdefault(name.lower(), []).append(value)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def get(self, name: str) -> str | None:
        """Return the first value of a header whose name is given in lower case; None if there is none."""
        values = self._by_name.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Return all values of a header whose name is given in lower case."""
        return self._by_name.get(name, [])


def upstream_headers(incoming: Iterable[tuple[str, str]], key: str, shape_name: str) -> list[tuple[str, str]]:
    """Return the headers of the call to upstream.

    Args:
        incoming: The client's headers.
        key: The real key, which takes the place of the client's token.
        shape_name: The API shape; Anthropic's own headers go with `messages` only.

    Returns:
        Allowed headers in their order, then ours. `Accept-Encoding` is `identity`, so that the usage can be read (M16).
    """
    out, has_type = [], False
    for name, lower, value in _allowed(incoming, TO_UPSTREAM_MESSAGES if shape_name == "messages" else TO_UPSTREAM):
        has_type = has_type or lower == "content-type"
        if not lower.endswith("anthropic-beta"):
            out.append((name, value))
        elif betas := _free_betas(value):
            out.append((name, betas))
    if not has_type:
        out.append(("Content-Type", "application/json"))
    out += [("Authorization", f"Bearer {key}"), ("Accept-Encoding", "identity")]
    return out


def downstream_headers(upstream: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of the answer to the client: never `Retry-After`, `Set-Cookie`, `Location` or a hop-by-hop header."""
    return [(name, value) for name, _lower, value in _allowed(upstream, TO_DOWNSTREAM)]


def _allowed(headers: Iterable[tuple[str, str]], names: frozenset[str]) -> list[tuple[str, str, str]]:
    """The headers on a list, each as its name, its name in lower case, and its value; none that `Connection` names."""
    passing: list[tuple[str, str, str]] = []
    ended_here: set[str] = set()
    for name, value in headers:
        lower = name.lower()
        if lower == "connection":
            ended_here.update(token.strip().lower() for token in value.split(","))
        elif lower in names and ((value.isascii() and value.isprintable()) or _VALUE.fullmatch(value)):
            passing.append((name, lower, value))
    if ended_here.isdisjoint(names):
        return passing
    return [header for header in passing if header[1] not in ended_here]


def _free_betas(value: str) -> str:
    betas = [beta.strip() for beta in value.split(",")]
    return ",".join(beta for beta in betas if _BETA_DATE.sub("", beta) in FREE_BETAS)
