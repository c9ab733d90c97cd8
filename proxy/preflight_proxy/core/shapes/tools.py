"""Tools: which types a client runs itself, how many prompt tokens their declarations can become, and which are refused (M3, M8).

Server tools run upstream in a loop that re-sends the growing prompt: the output bound holds per turn, so such a call has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from preflight_proxy.core import body
from preflight_proxy.core.body import BadRequest, Json
from preflight_proxy.core.json_size import indented_bytes
from preflight_proxy.core.shapes.prompt_text import PromptText

CLIENT_TYPES = frozenset({None, "function", "custom"})
"""Types that the client runs. Anthropic's own tools have none."""
TOOLS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of one request.

    Attributes:
        size_bytes: Their declarations, written with indent 4.
        count: How many they are, those within namespaces included.
        raw: The array that leaves; None if it is the one that came.
        dropped: Types that were taken out.
    """

    size_bytes: int = 0
    count: int = 0
    raw: bytes | None = None
    dropped: tuple[str, ...] = ()


def read_tools(raw: bytes | None, text: PromptText, *, responses: bool = False) -> Tools:
    """Read the tools array; cache marks on tools are noted in `text`.

    Args:
        raw: The array's slice.
        text: Takes note of cache marks.
        responses: True for the responses API, whose clients declare hosted tools that they can do without.

    Raises:
        BadRequest: A tool is refused.
    """
    if raw is None or raw == b"null":
        return Tools()
    slices = body.elements(raw)
    if len(slices) > TOOLS_MAX:
        raise BadRequest(f"More than {TOOLS_MAX} tools are refused.")
    kept: list[bytes] = []
    dropped: list[str] = []
    size_bytes = count = 0
    for item in slices:
        tool = body.value(item)
        if responses and (name := _expendable(tool)):
            dropped.append(f"tools.{name}")
            continue
        kept.append(item)
        count += _check(tool, text, responses=responses)
        size_bytes += indented_bytes(tool)
    return Tools(size_bytes, count, b"[" + b",".join(kept) + b"]" if dropped else None, tuple(dropped))


def _expendable(tool: Json) -> str | None:
    """The type of a hosted tool that codex declares unasked and works without; such a declaration stays here.

    Source: github.com/openai/codex, codex-rs tool specifications, 2026-09: web search is declared with
    `external_web_access: false` unless the user turns it on; image generation where the model could draw.
    """
    match tool:
        case {"type": "web_search", "external_web_access": False}:
            return "web_search"
        case {"type": "image_generation"}:
            return "image_generation"
    return None


def _check(tool: Json, text: PromptText, *, responses: bool, inner: bool = False) -> int:
    """Count one declaration: 1, or more for a namespace."""
    if not isinstance(tool, dict):
        raise BadRequest("A tool must be an object.")
    text.cache(tool.get("cache_control"))
    function = tool.get("function")
    if isinstance(function, dict):
        text.cache(function.get("cache_control"))
    kind = tool.get("type")
    tools = tool.get("tools")
    if responses and kind == "namespace" and isinstance(tools, list) and not inner:
        return 1 + sum(_check(item, text, responses=responses, inner=True) for item in tools)
    client_search = responses and kind == "tool_search" and tool.get("execution") == "client"
    if client_search or (not isinstance(kind, (list, dict)) and kind in CLIENT_TYPES):
        return 1
    raise BadRequest(
        f"Tools of type {str(kind)[:60]!r} are refused: they run upstream, and each of their turns is billed beside the bound."
    )
