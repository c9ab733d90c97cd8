"""The estimated tokens of the texts of a request (M3 (measured bound)). Each text is estimated once and remembered by its digest.

A conversation repeats its messages with every call, so a call estimates only what is new in it.
"""

from __future__ import annotations

from functools import partial

import msgspec

from preflight_proxy.core.pricing.token_estimate import millitokens
from preflight_proxy.core.recent import Recent
from preflight_proxy.core.shapes.counted_text import declared_tokens, fields_text, message_slices, message_text
from preflight_proxy.core.shapes.reading import MESSAGES_MAX, Shape
from preflight_proxy.core.shapes.shape import Request
from preflight_proxy.core.shapes.steps import NEW_MESSAGE_COST, STEP_COST, Steps, apart, text_cost

ESTIMATE_COST = 4
"""To estimate a byte takes about four times as long as to decode it."""

_sizes: Recent[tuple[str, bytes], int] = Recent(2 * MESSAGES_MAX)
"""Thousandths of a token, by the family of the tokenizer and the digest of a message; by the API too, of the other fields."""


class TextSizes(msgspec.Struct, frozen=True):
    """The estimated tokens of a request's texts, in thousandths.

    Attributes:
        family: The family of the tokenizer that they are estimated for.
        fields: Of the text beside the messages: system text, tools, formats; with the provider's own declarations of tools.
        messages: Of each message.
    """

    family: str
    fields: int
    messages: tuple[int, ...]

    def after(self, count: int | None) -> int:
        """Of all that is not in the first `count` messages; None: of everything. With 0 the fields are left out."""
        if count is None:
            return self.fields + sum(self.messages)
        return sum(self.messages[count:])


def text_sizes(shape: Shape, request: Request, family: str) -> Steps[TextSizes]:
    """Estimate the texts of a request of messages.

    Args:
        shape: Its API.
        request: As read; its body must still be there.
        family: The family of the tokenizer.

    Raises:
        BadRequest: A text cannot be read.
    """
    prompt = request.prompt
    key = (f"{shape.name} {family}", prompt.fields_digest)
    fields = _sizes.get(key)
    if fields is None:
        raw_bytes = sum(memoryview(raw).nbytes for name, raw in request.fields.items() if name != request.prompt_field)
        work = partial(_fields_size, shape, request, family)
        fields = yield from apart(work, ESTIMATE_COST * (raw_bytes + prompt.tool_bytes))
        _sizes.put(key, fields)
    keys = [(family, message.digest) for message in prompt.messages]
    sizes = _sizes.get_all(keys)
    if None not in sizes:
        return TextSizes(family, fields, tuple(size or 0 for size in sizes))
    slices = message_slices(shape, request)
    messages, cost = [], 0
    for key, raw, size in zip(keys, slices, sizes, strict=True):
        if size is None:
            text = bytes(raw)
            new_cost = NEW_MESSAGE_COST + text_cost(text) + ESTIMATE_COST * len(text)
            cost += new_cost
            if cost > STEP_COST:
                yield None
                cost = new_cost
            size = yield from apart(partial(_message_size, text, family), new_cost)
            _sizes.put(key, size)
        messages.append(size)
    return TextSizes(family, fields, tuple(messages))


def _fields_size(shape: Shape, request: Request, family: str) -> int:
    declared = 1000 * declared_tokens(shape, request)
    return 1 + millitokens(fields_text(shape, request), family) + declared  # no item of `Recent` may be false


def _message_size(raw: bytes, family: str) -> int:
    return 1 + millitokens(message_text(raw), family)
