"""Reads answers: whatever upstream sends, what is there is taken and what is not is missing; nothing raises (M2, M16)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from preflight_proxy.core.money import cost_pusd, number
from preflight_proxy.core.shapes.shape import CallUsage

NAME_CHARS_MAX = 128
"""Names of models, providers and tools are kept this long; an answer must not fill the memory."""
TOKENS_MAX = 10**12
VALUES_MAX = 1_000_000
"""Commas in an answer; one with more is no answer of a model, and reading it would fill the memory."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])
_str = msgspec.json.Decoder(str)
_MALFORMED = (msgspec.DecodeError, RecursionError)
_CREATED = re.compile(r"gen-(\d{1,12})-")
_GENERATION_ID = re.compile(r"gen-[A-Za-z0-9_.:-]{1,120}")

Slices = Mapping[str, bytes]


def slices(raw: bytes | None) -> Slices:
    """The slices of an object; empty if it is none."""
    if raw is None or raw.count(b",") > VALUES_MAX:
        return {}
    try:
        return {key: bytes(item) for key, item in _object.decode(raw).items()}
    except _MALFORMED:
        return {}


def items(raw: bytes | None) -> Sequence[bytes]:
    """The slices of an array; empty if it is none."""
    if raw is None or raw.count(b",") > VALUES_MAX:
        return ()
    try:
        return [bytes(item) for item in _list.decode(raw)]
    except _MALFORMED:
        return ()


def text(raw: bytes | None) -> str | None:
    """A string, shortened to a name's length; None if it is none, or empty."""
    if raw is None:
        return None
    try:
        return _str.decode(raw)[:NAME_CHARS_MAX] or None
    except _MALFORMED:
        return None


def present(raw: bytes | None) -> bool:
    """True if the field is there and not null."""
    return raw is not None and raw != b"null"


def count(raw: bytes | None) -> int:
    """A number of tokens; 0 if it is none."""
    worth = number(raw) if raw is not None else None
    if worth is None or not 0 <= worth <= TOKENS_MAX or worth != worth.to_integral_value():
        return 0
    return int(worth)


def cost(usage: Slices) -> int | None:
    """The cost in pico-USD; None if it is missing.

    On a provider key of the caller's own, `cost` is OpenRouter's fee alone, so the provider's bill is added; without it the
    cost is missing.

    Source: openrouter.ai/docs/guides/overview/auth/byok, 2026-10.
    """
    told = cost_pusd(usage.get("cost", b""))
    if told is None or usage.get("is_byok") != b"true":
        return told
    bill = cost_pusd(slices(usage.get("cost_details")).get("upstream_inference_cost", b""))
    return None if bill is None else told + bill


def chat_usage(raw: bytes | None) -> CallUsage | None:
    """Usage in the words of chat (completions and embeddings too); None if there is none.

    Source: openrouter.ai/docs/cookbook/administration/usage-accounting, 2026-10: `prompt_tokens` includes cached tokens.
    """
    if not present(raw):
        return None
    usage = slices(raw)
    prompt, completion = slices(usage.get("prompt_tokens_details")), slices(usage.get("completion_tokens_details"))
    return CallUsage(
        cost_pusd=cost(usage),
        prompt_tokens=count(usage.get("prompt_tokens")),
        cached_tokens=count(prompt.get("cached_tokens")),
        cache_write_tokens=count(prompt.get("cache_write_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        reasoning_tokens=count(completion.get("reasoning_tokens")),
        is_byok=usage.get("is_byok") == b"true",
    )


def generation_id(told: str | None) -> str | None:
    """An `id` in a body where it is a generation's; other ids (`resp_...`, `chatcmpl-...`) cannot be asked for."""
    return told if told is not None and _GENERATION_ID.fullmatch(told) else None


def created(generation_id: str | None) -> int:
    """The time in a generation id (`gen-<epoch seconds>-...`); 0 if it shows none."""
    match = _CREATED.match(generation_id or "")
    return int(match[1]) if match else 0


def names(found: Iterable[str | None]) -> tuple[str, ...]:
    """The names that are there."""
    return tuple(name for name in found if name)
