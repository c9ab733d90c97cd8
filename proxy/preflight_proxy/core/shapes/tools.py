"""Tools: which types a client runs itself, how many prompt tokens their declarations can become, and which are refused.

M3 (prompt bound), M8 (unbounded prices). Server tools run upstream in a loop that sends the growing prompt again. The output bound
holds per turn, so such a call is unbounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import msgspec

from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.body import BadRequest, Json, indented_bytes
from preflight_proxy.core.shapes.memo import Memo
from preflight_proxy.core.shapes.prompt_text import PromptText

TOOLS_MAX = 1000
ARRAYS_REMEMBERED = 256
"""Tool arrays whose counts are remembered from call to call."""

Api = Literal["chat", "messages", "responses"]
CLIENT_TOOLS: Mapping[Api, Mapping[str, int]] = {
    "messages": {
        **dict.fromkeys(["bash_20241022", "bash_20250124"], 1024),
        **dict.fromkeys(["text_editor_20241022", "text_editor_20250124"], 2048),
        **dict.fromkeys(["text_editor_20250429", "text_editor_20250728"], 2048),
        **dict.fromkeys(["computer_20241022", "computer_20250124", "computer_20251124"], 4096),
        "memory_20250818": 4096,
    },
    "responses": {"local_shell": 4096, "apply_patch": 4096, "shell": 4096},
}
"""Tools that the client runs and the provider declares to the model: by exact type, the most tokens of that declaration.

Source: docs.anthropic.com, bash tool (245 tokens), text editor tool (700), computer use tool (735, and 466 to 499 of system
prompt), read 2026-11. The figures are at least doubled: a tokenizer since Opus 4.7 makes up to 1.47 times as many tokens of a text.
For `memory` and for OpenAI's three no figure is published, so they count as the largest of the others.
"""


class Tools(msgspec.Struct, frozen=True):
    """The tools of one request.

    Attributes:
        size_bytes: Their declarations, written with indent 4, and those of the provider's own.
        declared_tokens: Of these, the most tokens of the provider's own declarations, which the request does not show.
        count: How many they are, those within namespaces included.
        marks: Their cache marks.
        kept: The positions of those that are sent; None if all are.
        dropped: Types that were removed.
    """

    size_bytes: int = 0
    count: int = 0
    marks: PromptText = msgspec.field(default_factory=PromptText)
    kept: tuple[int, ...] | None = None
    dropped: tuple[str, ...] = ()
    declared_tokens: int = 0

    def joined(self, other: Tools) -> Tools:
        """Return both together."""
        return Tools(
            self.size_bytes + other.size_bytes,
            self.count + other.count,
            PromptText(),
            other.kept,
            other.dropped,
            self.declared_tokens + other.declared_tokens,
        )


def read_tools(raw: bytes | None, text: PromptText, api: Api) -> Tools:
    """Read a tools array; cache marks on tools are noted in `text`.

    Args:
        raw: The array's slice; None if there is none.
        text: Takes note of cache marks.
        api: Decides which types the client runs. Clients of the responses API declare hosted tools that they can do without.

    Raises:
        BadRequest: A tool is refused.
    """
    if raw is None or raw == b"null":
        return Tools()
    tools = _readers[api](raw)
    text.add(tools.marks)
    return tools


def _read(raw: bytes, api: Api) -> Tools:
    slices = body.elements(raw)
    if len(slices) > TOOLS_MAX:
        raise BadRequest(f"More than {TOOLS_MAX} tools are refused.")
    marks = PromptText()
    kept: list[int] = []
    dropped: list[str] = []
    size_bytes = count = declared_tokens = 0
    for position, item in enumerate(slices):
        tool = body.value(bytes(item))
        if api == "responses" and (name := _expendable(tool)):
            dropped.append(f"tools.{name}")
            continue
        kept.append(position)
        count += _check(tool, marks, api)
        size_bytes += indented_bytes(tool)
        declared_tokens += _declared_tokens(tool, api)
    kept_places = tuple(kept) if dropped else None
    return Tools(size_bytes + declared_tokens, count, marks, kept_places, tuple(dropped), declared_tokens)


def kept_tools(raw: bytes, kept: Sequence[int]) -> bytes:
    """Return the array without the removed tools; the others byte for byte."""
    slices = body.elements(raw)
    return b"[" + b",".join(bytes(slices[position]) for position in kept) + b"]"


_APIS: tuple[Api, ...] = get_args(Api)
_readers: Mapping[Api, Memo[Tools]] = {api: Memo(partial(_read, api=api), ARRAYS_REMEMBERED) for api in _APIS}


def _expendable(tool: Json) -> str | None:
    """The type of a hosted tool that codex always declares and can work without; such a declaration is removed.

    Source: github.com/openai/codex, codex-rs tool specifications, 2026-09: web search is declared with
    `external_web_access`, true where the sandbox is off; image generation where the model could draw.
    """
    match tool:
        case {"type": "web_search", "external_web_access": bool()}:
            return "web_search"
        case {"type": "image_generation"}:
            return "image_generation"
    return None


def _declared_tokens(tool: Json, api: Api) -> int:
    """The most tokens of the provider's own declaration of a tool; 0 for a tool that the request declares."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    return CLIENT_TOOLS.get(api, {}).get(kind, 0) if isinstance(kind, str) else 0


def _check(tool: Json, marks: PromptText, api: Api) -> int:
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
        case "tool_search", {"execution": "client"} if api == "responses":
            return 1
        case "namespace", {"tools": list() as inner} if api == "responses":
            return 1 + sum(_check(item, marks, "chat") for item in inner)
        case "shell", _ if api == "responses" and not _is_local(tool.get("environment")):
            raise BadRequest(
                "Tools of type 'shell' run upstream, billed by time, unless environment.type is 'local': set it."
            )
        case str() as kind, _ if kind in CLIENT_TOOLS.get(api, {}):
            return 1
    raise BadRequest(f"Tools of type {str(tool.get('type'))[:60]!r} are refused: {_why_not(tool.get('type'))}")


def _is_local(environment: Json) -> bool:
    return isinstance(environment, dict) and environment.get("type") == "local"


_VERSIONED = re.compile(r"(bash|text_editor|computer|memory)(?:_\w*\d)?", re.ASCII | re.IGNORECASE)


def _why_not(kind: Json) -> str:
    """Why a type is refused, and what to do."""
    if kind is None:
        return "one without a type must have a name or a function. Name its type."
    if kind == "bash":
        return "without a date it runs in OpenRouter's sandbox, which is billed by time. Declare bash_20250124."
    homes = [api for api, kinds in CLIENT_TOOLS.items() if isinstance(kind, str) and kind in kinds]
    if homes:
        return f"they belong to the {homes[0]} API. Use that, or declare a function."
    if family := _VERSIONED.fullmatch(str(kind)):
        known = [tool for tool in CLIENT_TOOLS["messages"] if tool.startswith(family[1].lower())]
        return (
            f"only of {', '.join(known)} is known how many tokens they declare. Use one of these in the messages API."
        )
    return "they run upstream, and each of their turns is billed beside the bound. Take them out, or declare functions."
