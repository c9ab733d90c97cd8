"""What the API shapes read: requests, their messages, and answers."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec

from preflight_proxy.core.shapes.memo import DIGEST_BYTES, digest16

if TYPE_CHECKING:
    from preflight_proxy.core.shapes.body import Slice
    from preflight_proxy.core.shapes.prompt_text import PromptText

PLAIN_PREFIX_MESSAGES_MAX = 4
"""Prefixes up to so many messages, such as most preambles, are recognised without a hash of their own."""
UnknownFields = Literal["drop", "refuse", "pass"]
"""What happens to a top-level field that no table names: it is removed, the call is refused, or it is sent without being read."""


class CallUsage(msgspec.Struct, frozen=True, gc=False):
    """What one generation used, as upstream reported it.

    Attributes:
        cost_pusd: What is billed in pico-USD; None if it was not reported. With a key of the caller's own provider account it
            includes that provider's bill.
        prompt_tokens: All tokens of the prompt, cached and written ones included, in every shape.
        cached_tokens: Those read from a cache.
        cache_write_tokens: Those written to one.
        completion_tokens: All tokens of the answer, reasoning included.
        reasoning_tokens: Those of reasoning.
        is_byok: True if the call ran on a provider key of the caller's own.
        prompt_tokens_less: `prompt_tokens`, if the tokens read from a cache and written to one are part of the others;
            None where the API leaves no doubt.
    """

    cost_pusd: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    is_byok: bool = False
    prompt_tokens_less: int | None = None


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one body or one event of a stream says; what it does not say is empty.

    Attributes:
        finish: Why the answer ended, in the words of chat (`stop`, `length`, `tool_calls`, ...) in every shape.
        error: True if it reports an error.
        terminal: True for the last event that matters.
        tool_names: Tools that the model calls in it.
    """

    generation_id: str | None = None
    model: str | None = None
    provider: str | None = None
    usage: CallUsage | None = None
    finish: str | None = None
    error: bool = False
    terminal: bool = False
    tool_names: tuple[str, ...] = ()

    def then(self, later: Reading) -> Reading:
        """Return what both say together: later facts win, what the later one leaves out stays (M16 (usage in an answer))."""
        return Reading(
            generation_id=later.generation_id or self.generation_id,
            model=later.model or self.model,
            provider=later.provider or self.provider,
            usage=_later_usage(self.usage, later.usage),
            finish=later.finish or self.finish,
            error=later.error or self.error,
            terminal=later.terminal or self.terminal,
            tool_names=self.tool_names + later.tool_names,
        )


def _later_usage(old: CallUsage | None, new: CallUsage | None) -> CallUsage | None:
    """The later of two usages; the earlier one if only that has a cost, on the same kind of key."""
    if new is None or old is None:
        return new or old
    lacks_cost = new.cost_pusd is None and old.cost_pusd is not None
    return old if lacks_cost and new.is_byok == old.is_byok else new


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message or item of the prompt, by what it counts.

    Attributes:
        digest: 16 bytes, different for every message; cache marks are left out.
        ascii_bytes: ASCII bytes of its decoded text, arguments re-serialised.
        other_bytes: All other bytes of its decoded text, as UTF-8.
        opaque_bytes: Those of `ascii_bytes` whose token count a provider may change from call to call (M4).
        wrap_count: What the template wraps: the message, its parts, its tool calls.
        media: True if it holds a part whose token count the request does not bound.
        is_preamble: True for text of the system or of the user, which can come before the first answer. No template leaves any of
            it out later.
        role: Its role; empty if it has none.
        comma_count: At least the commas between its values.
        more: What else is counted in it; None for text alone.
    """

    digest: bytes
    ascii_bytes: int
    other_bytes: int
    opaque_bytes: int = 0
    wrap_count: int = 1
    media: bool = False
    is_preamble: bool = False
    role: str = ""
    comma_count: int = 0
    more: PromptText | None = None


class Prompt(msgspec.Struct, frozen=True):
    """Everything that can become prompt tokens.

    Attributes:
        ascii_bytes: ASCII bytes of the decoded text of all messages and of the system prompt.
        other_bytes: All other bytes of that text, as UTF-8.
        tool_bytes: Tools and response format, re-serialised with indent 4 in ASCII.
        message_count: What the template wraps: messages, parts, tool calls.
        tool_count: Tools.
        image_count: Image parts.
        sequence_count: Separate prompts in one call (embeddings).
        opaque_media: True if a part's tokens are not bounded by the request: the endpoint's ceiling counts.
        remote_media: True if a part is fetched from an address.
        cache_control: True if the request asks for a cache write.
        cache_1h: True if it asks for one that lives an hour.
        shrinks: True if upstream may shorten the prompt, so that its bill says nothing about a prefix (M4).
        messages: The messages in order.
        digests: The digests of the messages, joined.
        opaque_bytes: The sum of those of the messages.
        fields_digest: 16 bytes over all other fields that can change the prompt.
    """

    ascii_bytes: int = 0
    other_bytes: int = 0
    tool_bytes: int = 0
    message_count: int = 0
    tool_count: int = 0
    image_count: int = 0
    sequence_count: int = 1
    opaque_media: bool = False
    remote_media: bool = False
    cache_control: bool = False
    cache_1h: bool = False
    shrinks: bool = False
    messages: tuple[Message, ...] = ()
    digests: bytes = b""
    opaque_bytes: int = 0
    fields_digest: bytes = b""

    def prefix_digest(self, count: int) -> bytes:
        """Return what recognises the first `count` messages: the digests of a few, a digest of those of more."""
        digests = self.digests[: count * DIGEST_BYTES]
        return digests if count <= PLAIN_PREFIX_MESSAGES_MAX else digest16(digests)


class Request(msgspec.Struct, frozen=True):
    """One request as read: what it asks for, and what of it may be sent.

    Attributes:
        shape: Name of its API shape.
        model: The model as asked for, with its suffix.
        stream: True if it asks for a stream.
        fields: The top-level slices that may be sent, in order, without the provider object. That of the prompt is a view of the
            body.
        dropped: Fields that are not sent.
        prompt: What can become prompt tokens.
        bound: The output tokens asked for at most; None if it says nothing.
        bound_fields: The fields to write it in; empty if there is no output.
        reasoning_bound: Its bound on reasoning tokens, inside the other.
        only: Providers the caller allows; None for all.
        ignore: Providers the caller excludes.
        max_price: The caller's own price caps, USD per million tokens.
        require_parameters: True if only endpoints that know every parameter may serve.
        provider: The rest of the provider object, as it was read.
        prompt_field: The field of the messages, the items or the texts.
        layouts: How it is written (see `request_writer`), by what is decided for the call. Requests that differ in their messages
            alone share them.
        digest: SHA-256, hexadecimal, over the fields that may be sent, in any order, and the messages; labels of the call are left
            out, so that a client's next try of the same request is recognised.
    """

    shape: str
    model: str
    stream: bool
    fields: Mapping[str, Slice]
    dropped: tuple[str, ...]
    prompt: Prompt
    bound: int | None
    bound_fields: tuple[str, ...]
    reasoning_bound: int | None
    only: tuple[str, ...] | None
    ignore: tuple[str, ...]
    max_price: Mapping[str, Decimal]
    require_parameters: bool
    digest: str
    provider: Mapping[str, bytes] = {}
    prompt_field: str = ""
    layouts: dict[tuple[object, ...], tuple[bytes | str, ...]] = {}
