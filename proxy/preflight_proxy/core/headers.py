"""Which headers are passed on, in both directions: an allow-list, because an unknown header can mean anything to the receiver.

Source: RFC 9110, section 7.6.1 (hop-by-hop headers); openrouter.ai/docs/api_reference/overview, 2026-10 (optional headers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "expect", "host", "content-length", "accept-encoding", "authorization"}
)
"""Headers that end at each connection, and those that the proxy sets itself."""

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


def upstream_headers(incoming: Iterable[tuple[str, str]], key: str, shape_name: str) -> list[tuple[str, str]]:
    """Return the headers of the call to upstream.

    Args:
        incoming: The client's headers.
        key: The real key, which takes the place of the client's token.
        shape_name: The API shape; Anthropic's own headers go with `messages` only.

    Returns:
        Allowed headers in their order, then ours. `Accept-Encoding` is `identity`, so that the usage can be read (M16).
    """
    allowed = TO_UPSTREAM_MESSAGES if shape_name == "messages" else TO_UPSTREAM
    out = [(name, _free_betas(value) if _is_beta(name) else value) for name, value in _allowed(incoming, allowed)]
    out = [(name, value) for name, value in out if value or not _is_beta(name)]
    if not any(name.lower() == "content-type" for name, _ in out):
        out.append(("Content-Type", "application/json"))
    return [*out, ("Authorization", f"Bearer {key}"), ("Accept-Encoding", "identity")]


def downstream_headers(upstream: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of the answer to the client: never `Retry-After`, `Set-Cookie`, `Location` or a hop-by-hop header."""
    return list(_allowed(upstream, TO_DOWNSTREAM))


def _allowed(headers: Iterable[tuple[str, str]], names: frozenset[str]) -> Iterable[tuple[str, str]]:
    headers = list(headers)
    named = {
        token.strip().lower() for name, value in headers if name.lower() == "connection" for token in value.split(",")
    }
    passing = names - HOP_BY_HOP - named
    return ((name, value) for name, value in headers if name.lower() in passing and _VALUE.fullmatch(value))


def _is_beta(name: str) -> bool:
    return name.lower().endswith("anthropic-beta")


def _free_betas(value: str) -> str:
    betas = [beta.strip() for beta in value.split(",")]
    return ",".join(beta for beta in betas if _BETA_DATE.sub("", beta) in FREE_BETAS)
