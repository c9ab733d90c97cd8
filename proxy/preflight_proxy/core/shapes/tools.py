"""Tools: which types a client runs itself, how many prompt tokens their declarations can become, and which are refused (M3, M8).

Server tools run upstream in a loop that re-sends the growing prompt: the output bound holds per turn, so such a call has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from preflight_proxy.core import body
from preflight_proxy.core.body import BadRequest, Json
from preflight_proxy.core.json_size import indented_bytes
from preflight_proxy.core.memo import Memo
from preflight_proxy.core.shapes.prompt_text import PromptText

TOOLS_MAX = 1000
ARRAYS_REMEMBERED = 256
"""Readings of whole tool arrays kept from call to call."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of one request.

    Attributes:
        size_bytes: Their declarations, written with indent 4.
        count: How many they are, those within namespaces included.
        marks: Their cache marks.
        kept: The positions of those that leave; None if all do.
        dropped: Types that were taken out.
    """

    size_bytes: int = 0
    count: int = 0
    marks: PromptText = field(default_factory=PromptText)
    kept: tuple[int, ...] | None = None
    dropped: tuple[str, ...] = ()


def read_tools(raw: bytes | None, text: PromptText, *, responses: bool = False) -> Tools:
    """Read a tools array; cache marks on tools are noted in `text`.

    Args:
        raw: The array's slice; None if there is none.
        text: Takes note of cache marks.
        responses: True for the responses API, whose clients declare hosted tools that they can do without.

    Raises:
        BadRequest: A tool is refused.
    """
    if raw is None or raw == b"null":
        return Tools()
    tools = (_read_responses if responses else _read_plain)(raw)
    text.add(tools.marks)
    return tools


def _read(raw: bytes, *, responses: bool) -> Tools:
    slices = body.elements(raw)
    if len(slices) > TOOLS_MAX:
        raise BadRequest(f"More than {TOOLS_MAX} tools are refused.")
    marks = PromptText()
    kept: list[int] = []
    dropped: list[str] = []
    size_bytes = count = 0
    for position, item in enumerate(slices):
        tool = body.value(item)
        if responses and (name := _expendable(tool)):
            dropped.append(f"tools.{name}")
            continue
        kept.append(position)
        count += _check(tool, marks, responses=responses)
        size_bytes += indented_bytes(tool)
    return Tools(size_bytes, count, marks, tuple(kept) if dropped else None, tuple(dropped))


def kept_tools(raw: bytes, kept: Sequence[int]) -> bytes:
    """The array without the tools that were taken out; the others byte for byte."""
    slices = body.elements(raw)
    return b"[" + b",".join(slices[position] for position in kept) + b"]"


_read_plain = Memo(lambda raw: _read(raw, responses=False), ARRAYS_REMEMBERED)
_read_responses = Memo(lambda raw: _read(raw, responses=True), ARRAYS_REMEMBERED)


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


def _check(tool: Json, marks: PromptText, *, responses: bool) -> int:
    """Count one declaration: 1, or more for a namespace of them."""
    if not isinstance(tool, dict):
        raise BadRequest("A tool must be an object.")
    marks.cache(tool.get("cache_control"))
    function = tool.get("function")
    if isinstance(function, dict):
        marks.cache(function.get("cache_control"))
    match tool.get("type"), tool:
        case None, {"name": str()} | {"function": dict()}:
            return 1
        case "function" | "custom", _:
            return 1
        case "tool_search", {"execution": "client"} if responses:
            return 1
        case "namespace", {"tools": list() as inner} if responses:
            return 1 + sum(_check_inner(item, marks) for item in inner)
    raise BadRequest(
        f"Tools of type {str(tool.get('type'))[:60]!r} are refused: "
        "they run upstream, and each of their turns is billed beside the bound."
    )


def _check_inner(tool: Json, marks: PromptText) -> int:
    return _check(tool, marks, responses=False)
