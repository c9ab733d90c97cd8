"""Which headers are passed on, in both directions: an allow-list, because an unknown header can mean anything to the receiver.

Source: RFC 9110, section 7.6.1 (hop-by-hop headers); openrouter.ai/docs/api_reference/overview, 2026-10 (optional headers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

TO_UPSTREAM = frozenset(
    {"accept", "content-type", "user-agent", "http-referer", "referer", "x-title", "x-session-id"}
    | {"x-openrouter-title", "x-openrouter-categories", "x-openrouter-metadata", "x-openrouter-experimental-metadata"}
    | {"x-openrouter-cache", "x-openrouter-cache-ttl", "x-openrouter-cache-clear"}
)
TO_UPSTREAM_MESSAGES = TO_UPSTREAM | {"anthropic-version", "anthropic-beta", "x-anthropic-beta"}
_READ = TO_UPSTREAM_MESSAGES | {"connection"}
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

NAMES_MAX = 512
NAME_CHARS_MAX = 64
"""So many names, of this length at most, are kept in lower case."""

_BETA_DATE = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})$")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class LowerNames(dict[str, str]):
    """Header names in lower case, by their usual spelling; a few are kept, because all clients send the same ones."""

    def __missing__(self, name: str) -> str:
        """Return a name in lower case."""
        lower = name.lower()
        if len(self) < NAMES_MAX and len(name) <= NAME_CHARS_MAX:
            self[name] = lower
        return lower


LOWER_NAMES = LowerNames()


class Headers(dict[str, str]):
    """The headers of a request: the first value of each, by its name in lower case.

    Attributes:
        pairs: All of them, as they were sent: names in any case, and values without the white space around them.
    """

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def all(self, name: str) -> list[str]:
        """Return all values of a header whose name is given in lower case."""
        return [value for each, value in self.pairs if each.lower() == name]


def upstream_headers(incoming: Iterable[tuple[str, str]], key: str, shape_name: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of the call to upstream.

    Args:
        incoming: The client's headers.
        key: The real key, which takes the place of the client's token.
        shape_name: The API shape; Anthropic's own headers go with `messages` only.

    Returns:
        Allowed headers in their order, then ours. `Accept-Encoding` is `identity`, so that the usage can be read (M16).
    """
    read = tuple([header for header in incoming if LOWER_NAMES[header[0]] in _READ])
    return _upstream_headers(read, key, shape_name)


@lru_cache(maxsize=64)  # the calls of one client differ in headers that are not read
def _upstream_headers(incoming: tuple[tuple[str, str], ...], key: str, shape_name: str) -> tuple[tuple[str, str], ...]:
    out, has_type = [], False
    for name, value in _allowed(incoming, TO_UPSTREAM_MESSAGES if shape_name == "messages" else TO_UPSTREAM):
        lower = LOWER_NAMES[name]
        if lower == "content-type":
            has_type = True
        if "anthropic-beta" not in lower:
            out.append((name, value))
        elif betas := _free_betas(value):
            out.append((name, betas))
    if not has_type:
        out.append(("Content-Type", "application/json"))
    return *out, ("Authorization", f"Bearer {key}"), ("Accept-Encoding", "identity")


def downstream_headers(upstream: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of the answer to the client: never `Retry-After`, `Set-Cookie`, `Location` or a hop-by-hop header."""
    return _allowed(upstream, TO_DOWNSTREAM)


def _allowed(headers: Iterable[tuple[str, str]], names: frozenset[str]) -> list[tuple[str, str]]:
    """The headers on a list; none that `Connection` names."""
    passing: list[tuple[str, str]] = []
    ended_here: list[str] = []
    for header in headers:
        name, value = header
        lower = LOWER_NAMES[name]
        if lower == "connection":
            ended_here += [token.strip().lower() for token in value.split(",")]
        elif lower in names and ((value.isascii() and value.isprintable()) or _VALUE.fullmatch(value)):
            passing.append(header)
    return [header for header in passing if LOWER_NAMES[header[0]] not in ended_here] if ended_here else passing


def _free_betas(value: str) -> str:
    betas = [beta.strip() for beta in value.split(",")]
    return ",".join(beta for beta in betas if _BETA_DATE.sub("", beta) in FREE_BETAS)
