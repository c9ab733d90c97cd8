"""Builds the prompt of a request from its counted parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from preflight_proxy.core.shapes.body import indented_bytes
from preflight_proxy.core.shapes.memo import DIGEST_BYTES
from preflight_proxy.core.shapes.parsed_request import ParsedRequest
from preflight_proxy.core.shapes.prompt_text import PromptText
from preflight_proxy.core.shapes.shape import Message, Prompt
from preflight_proxy.core.shapes.tools import Tools

NOT_PROMPT = frozenset(
    {"model", "messages", "input", "prompt", "stream", "stream_options", "usage", "user", "session_id", "trace"}
    | {
        "metadata",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "top_a",
        "seed",
        "stop",
        "stop_sequences",
        "store",
        "include",
    }
    | {"frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs"}
    | {"prompt_cache_key", "safety_identifier", "service_tier", "max_tokens", "max_completion_tokens"}
    | {"max_output_tokens", "cache_control"}
)
"""Fields that cannot change the prompt; all others are part of its digest (M4 (calibration))."""
SPOKEN = frozenset({"reasoning", "reasoning_effort", "thinking", "verbosity"})
"""Fields whose text a template may write into the prompt, as harmony's does with the effort of reasoning."""


def build_prompt(
    parsed: ParsedRequest, text: PromptText, prompt_field: str, tools: Tools, formats: Sequence[str], *, shrinks: bool
) -> Prompt:
    """Return the prompt of a request that has no text yet. Unknown fields that are passed on count as text.

    Args:
        parsed: The request's top level.
        text: The counts of all text beside the messages; takes those of the fields.
        prompt_field: The field of the messages.
        tools: The tools.
        formats: Fields beside the tools that a template may write into the prompt.
        shrinks: True if upstream may shorten the prompt.

    Raises:
        BadRequest: A format is nested too deeply.
    """
    text.cache(parsed.decoded("cache_control"))
    for name in {*parsed.unread, *(parsed.raw.keys() & SPOKEN)} - {prompt_field}:
        text.plain(parsed.decoded(name))
    format_bytes = sum(indented_bytes(parsed.decoded(name)) for name in formats if name in parsed.raw)
    return Prompt(
        tool_bytes=tools.size_bytes + format_bytes,
        tool_count=tools.count,
        shrinks=shrinks or "transforms" in parsed.raw,
        fields_digest=_fields_digest(parsed.raw),
    )


def with_messages(prompt: Prompt, text: PromptText, messages: Sequence[Message], sequence_count: int) -> Prompt:
    """Return a prompt with its text.

    Args:
        prompt: As `build_prompt` returned it.
        text: The counts of all of it.
        messages: The messages that a later call may repeat.
        sequence_count: Separate prompts in this call.
    """
    return Prompt(
        ascii_bytes=text.ascii_bytes,
        other_bytes=text.other_bytes,
        tool_bytes=prompt.tool_bytes,
        message_count=text.wrap_count,
        tool_count=prompt.tool_count,
        image_count=text.image_count,
        sequence_count=sequence_count,
        opaque_media=text.media,
        remote_media=text.remote,
        cache_control=text.cache_control,
        cache_1h=text.cache_1h,
        shrinks=prompt.shrinks,
        messages=tuple(messages),
        digests=b"".join([message.digest for message in messages]),
        opaque_bytes=text.opaque_bytes,
        fields_digest=prompt.fields_digest,
    )


def _fields_digest(raw: Mapping[str, bytes]) -> bytes:
    """A digest of all fields that can change the prompt, without the messages."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for name in sorted(raw.keys() - NOT_PROMPT):
        digest.update(b"%d:%d:%b" % (len(name), len(raw[name]), name.encode("utf-8")))
        digest.update(raw[name])
    return digest.digest()
