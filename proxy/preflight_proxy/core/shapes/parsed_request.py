"""Reads the top level of a request, as all shapes do: fields, model, provider, output bound, digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from preflight_proxy.core.shapes import body as bodies
from preflight_proxy.core.shapes import fields as tables
from preflight_proxy.core.shapes.body import BadRequest, Json, Slice
from preflight_proxy.core.shapes.fields import REASONING_BUDGETS, Rule, bounds_output, whole, whole_value
from preflight_proxy.core.shapes.model_name import bare_model, check_model
from preflight_proxy.core.shapes.provider import ProviderPreferences, read_provider
from preflight_proxy.core.shapes.shape import Prompt, Request, UnknownFields

COMMON_FIELDS = frozenset(
    {"model", "stream", "provider", "user", "session_id", "trace", "metadata", "temperature", "top_p", "top_k"}
    | {"service_tier", "plugins", "models", "cache_control", "tools", "tool_choice", "transforms"}
)

_MODEL_LISTS = ("models", "fallbacks")
LABELS = frozenset({"user", "session_id", "trace", "metadata", "client_metadata"})
"""Fields that only label a call. Codex writes them anew for each try, in another order, so the digest leaves them out."""


class ParsedRequest(msgspec.Struct, frozen=True):
    """A request's top level.

    Attributes:
        raw: The slices that may be sent, without `provider`.
        rules: The decoded values of the fields that a rule has checked.
        dropped: Fields that are not sent.
        unread: Fields that are sent although no table names them.
        bounds: The slices of all fields that some server could read as the bound on the output.
        model: The model asked for.
        stream: True if a stream is asked for.
        provider: The caller's routing preferences.
        digested: The fields that `Request.digest` is made of.
    """

    raw: dict[str, bytes]
    rules: Mapping[str, Json]
    dropped: tuple[str, ...]
    unread: tuple[str, ...]
    bounds: Mapping[str, bytes]
    model: str
    stream: bool
    provider: ProviderPreferences
    digested: tuple[str, ...]

    def decoded(self, name: str) -> Json:
        """The decoded value of a field; None if it is absent."""
        if name in self.rules:
            return self.rules[name]
        return bodies.value(self.raw[name]) if name in self.raw else None


def parse_request(
    slices: Mapping[str, bytes],
    unknown: UnknownFields,
    *,
    known: frozenset[str],
    rules: Mapping[str, Rule] | None = None,
) -> ParsedRequest:
    """Check the top level of a request by the tables.

    Args:
        slices: Its fields. That of the messages may be empty: it is not read.
        unknown: What happens to fields that no table names.
        known: The fields that the API knows.
        rules: Rules for fields besides those of all APIs.

    Raises:
        BadRequest: A field is refused.
    """
    model = _model(slices)
    decoded = tables.check(slices, {**dict.fromkeys(_MODEL_LISTS, tables.same_model(model)), **(rules or {})})
    stray = tuple(name for name in slices if name not in known)
    if stray and unknown == "refuse":
        raise BadRequest(f"The field {stray[0][:60]!r} is not known here, and unknown fields are refused.")
    bounds = {name: raw for name, raw in slices.items() if bounds_output(name)}
    passing = tuple(name for name in stray if name not in bounds) if unknown == "pass" else ()
    if passing:
        own = {tables.spelling(name) for name in known}
        passing = tuple(name for name in passing if tables.spelling(name) not in own)
    leaving = {name: raw for name, raw in slices.items() if (name in known or name in passing) and name != "provider"}
    model, wish = _model(slices), read_provider(slices.get("provider"))
    if (bare := bare_model(model)) != model:
        model, leaving["model"] = bare, bodies.encode(bare)
    check_model(model)
    return ParsedRequest(
        raw=leaving,
        rules=decoded,
        dropped=(*(name for name in stray if name not in passing), *wish.dropped),
        unread=passing,
        bounds=bounds,
        model=model,
        stream=_stream(slices),
        provider=wish,
        digested=tuple(name for name in slices if name in leaving or name in (*bounds, "provider")),
    )


def build_request(parsed: ParsedRequest, shape: str, own: tuple[str, ...], prompt: Prompt) -> Request:
    """Return the request with its counted prompt.

    Of all spellings of the output bound the lowest counts. All of the API's own spellings leave with the same bound, and no
    other. With `require_parameters` only those leave that the caller wrote: another one could exclude the endpoint that it meant.

    Args:
        parsed: The request's top level.
        shape: The API's name.
        own: The API's own spellings of the output bound; empty if there is no output.
        prompt: The counted prompt.

    Raises:
        BadRequest: A bound is no whole number, or the output bound is zero.
    """
    has_output, spellings = bool(own), parsed.bounds if own else {}
    bounds = {name: bound for name in spellings if (bound := whole(spellings, name)) is not None}
    if 0 in bounds.values():
        raise BadRequest("An output bound of 0 asks for nothing.")
    preferences = parsed.provider
    if preferences.require_parameters:
        own = tuple(name for name in own if name in bounds) or own[-1:]
    return Request(
        shape=shape,
        model=parsed.model,
        stream=parsed.stream,
        fields={name: raw for name, raw in parsed.raw.items() if name in own or name not in parsed.bounds},
        dropped=parsed.dropped,
        prompt=prompt,
        bound=min(bounds.values(), default=None),
        bound_fields=own,
        reasoning_bound=_reasoning_bound(parsed) if has_output else None,
        only=preferences.only,
        ignore=preferences.ignore,
        max_price=preferences.max_price,
        require_parameters=preferences.require_parameters,
        digest="",
        provider=preferences.rest,
    )


def _reasoning_bound(parsed: ParsedRequest) -> int | None:
    """The bound on reasoning tokens that the request asks for; the larger one if it has two."""
    settings = {name: parsed.decoded(name) for name in REASONING_BUDGETS}
    budgets = [
        whole_value(value.get(key := REASONING_BUDGETS[name]), f"{name}.{key}")
        for name, value in settings.items()
        if isinstance(value, dict)
    ]
    return max((budget for budget in budgets if budget is not None), default=None)


def fields_hash(slices: Mapping[str, Slice], prompt_field: str) -> hashlib._Hash:
    """Return a running SHA-256 over fields in any order, without labels, and without the prompt field."""
    digest = hashlib.sha256(prompt_field.encode())
    for name in sorted(slices.keys() - LABELS - {prompt_field}):
        raw = bytes(slices[name])
        digest.update(b"%d:%d:%b%b" % (len(name), len(raw), name.encode("utf-8"), raw))
    return digest


def _model(slices: Mapping[str, bytes]) -> str:
    model = bodies.value(slices["model"]) if "model" in slices else ""
    if not isinstance(model, str) or isinstance(model, bodies.Number):
        raise BadRequest("The field 'model' must be a name.")
    return model


def _stream(slices: Mapping[str, bytes]) -> bool:
    stream = bodies.value(slices["stream"]) if "stream" in slices else False
    if stream not in (True, False, None):
        raise BadRequest("The field 'stream' must be true or false.")
    return stream is True
