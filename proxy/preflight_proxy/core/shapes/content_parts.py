"""The types of messages, items and content parts of all shapes, and their effect on the price (M8 (unbounded prices)).

Source: openrouter.ai/openapi.yaml, 2026-10; docs.anthropic.com/en/api/messages, 2026-10; platform.openai.com, responses
input items, 2026-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from preflight_proxy.core.shapes.body import BadRequest, Json


class Part(Enum):
    """The effect of a part on the price."""

    TEXT = auto()
    """Its strings count as text."""
    MEDIA = auto()
    """Its bytes do not bound its tokens: the endpoint's ceiling counts."""
    AUDIO = auto()
    """Like media, at the price of audio."""
    REFUSED = auto()
    """Its price has no bound at all, or it refers to something that the request does not show."""
    UNKNOWN = auto()
    """In no table."""


_TEXT = [
    "text",
    "input_text",
    "output_text",
    "refusal",
    "thinking",
    "redacted_thinking",
    "reasoning",
    "reasoning_text",
    "summary_text",
    "reasoning.text",
    "reasoning.summary",
    "reasoning.encrypted",
    "tool_use",
    "tool_result",
    "tool_reference",
    "search_result",
    "document",
    "message",
    "function",
    "function_call",
    "function_call_output",
    "custom",
    "custom_tool_call",
    "custom_tool_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
    "server_tool_use",
    "web_search_tool_result",
    "web_search_result",
    "compaction",
    "compaction_summary",
    "context_compaction",
    "tool_search_tool_result",
    "tool_search_tool_search_result",
]
_MEDIA = ["image", "image_url", "input_image"]
_REFUSED = [
    "file",
    "input_file",
    "video_url",
    "input_video",
    "container_upload",
    "item_reference",
    "mcp_call",
    "mcp_list_tools",
    "mcp_tool_use",
    "mcp_tool_result",
    "mcp_approval_request",
    "mcp_approval_response",
    "code_interpreter_call",
    "computer_call",
    "computer_call_output",
    "file_search_call",
    "image_generation_call",
    "compaction_trigger",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "web_fetch_tool_result",
]

PARTS: dict[str, Part] = {
    **dict.fromkeys(_TEXT, Part.TEXT),
    **dict.fromkeys(_MEDIA, Part.MEDIA),
    "input_audio": Part.AUDIO,
    **dict.fromkeys(_REFUSED, Part.REFUSED),
}
"""Files are refused because a PDF is billed by pages, and only its content shows how many it has."""


def part_of(decoded: Mapping[str, Json], *, inside: bool) -> Part:
    """Return what an object is, by its type. Without a type it is a message, which is inside no other object.

    Raises:
        BadRequest: It has no type and is no message, or a type that is refused or in no table.
    """
    name = decoded.get("type")
    if name is None:
        if inside or not decoded.keys() & {"role", "content"}:
            raise BadRequest(
                "A part without a type is refused: what it costs is not known. Name its type, such as text."
            )
        return Part.TEXT
    part = PARTS.get(name, Part.UNKNOWN) if isinstance(name, str) else Part.UNKNOWN
    if part is Part.UNKNOWN:
        raise BadRequest(f"Parts of type {str(name)[:40]!r} are refused: what they cost is not known.")
    if part is Part.REFUSED:
        raise BadRequest(f"Parts of type {str(name)[:40]!r} are refused: the request does not bound what they cost.")
    return part


def costs_more_than_its_text(decoded: Mapping[str, Json]) -> bool:
    """Return True for a part that is not plain text, wherever it is."""
    name = decoded.get("type")
    return isinstance(name, str) and (name == "document" or PARTS.get(name, Part.TEXT) is not Part.TEXT)
