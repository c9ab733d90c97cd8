"""What reading a request has in common in every shape: slices, tables, model, provider, digest; and writing it out again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from preflight_proxy.core.shapes import body as bodies
from preflight_proxy.core.shapes import fields as tables
from preflight_proxy.core.shapes.body import BadRequest, Json
from preflight_proxy.core.shapes.fields import Rule, bounds_output, whole
from preflight_proxy.core.shapes.model_name import bare_model, check_model
from preflight_proxy.core.shapes.provider import ProviderPreferences, provider_bytes, read_provider
from preflight_proxy.core.shapes.shape import Prompt, Request, UnknownFields

COMMON_FIELDS = frozenset(
    {"model", "stream", "provider", "user", "session_id", "trace", "metadata", "temperature", "top_p", "top_k"}
    | {"service_tier", "plugins", "models", "cache_control", "tools", "tool_choice", "transforms"}
)

_MODEL_LISTS = ("models", "fallbacks")
LABELS = frozenset({"user", "session_id", "trace", "metadata", "client_metadata"})
"""Fields that only label a call. Codex writes them anew for each try, in another order, so they make no other request of it."""


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request's top level.

    Attributes:
        raw: The slices that may leave, `provider` excepted.
        rules: The decoded values of the fields that a rule has passed.
        dropped: Fields that stay here.
        unread: Fields that leave although no table names them.
        bounds: The slices of all fields that some server could read as the bound on the output.
        model: The model asked for.
        stream: True if a stream is asked for.
        provider: What is asked of routing.
        digest: See `Request.digest`.
    """

    raw: dict[str, bytes]
    rules: Mapping[str, Json]
    dropped: tuple[str, ...]
    unread: tuple[str, ...]
    bounds: Mapping[str, bytes]
    model: str
    stream: bool
    provider: ProviderPreferences
    digest: str

    def decoded(self, name: str) -> Json:
        """The decoded value of a field; None if it is absent."""
        if name in self.rules:
            return self.rules[name]
        return bodies.value(self.raw[name]) if name in self.raw else None


def parse_request(
    body: bytes,
    headers: Mapping[str, str],
    unknown: UnknownFields,
    *,
    known: frozenset[str],
    rules: Mapping[str, Rule] | None = None,
    values_max: int = bodies.VALUES_MAX,
) -> ParsedRequest:
    """Cut a body into slices and pass its top level through the tables.

    Raises:
        BadRequest: It is no JSON object, is encoded, or a field is refused.
    """
    if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise BadRequest("Send the request body uncompressed.", 415)
    slices = bodies.top_level(body, values_max)
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
        digest=_digest({name: raw for name, raw in slices.items() if name in leaving or name in (*bounds, "provider")}),
    )


def build_request(
    opened: ParsedRequest, shape: str, prompt: Prompt, bound_fields: Sequence[str], reasoning_bound: int | None = None
) -> Request:
    """Put a request together from its opened top level and its counted prompt.

    Of all spellings of the output bound the lowest counts, and none leaves but those in `Request.bound_fields`: every one of
    the API's own. Where the caller wants endpoints that know every parameter, another one could exclude the endpoint that it
    meant: then those that it wrote.

    Raises:
        BadRequest: Its output bound is no whole number, or zero.
    """
    spelled = opened.bounds if bound_fields else {}
    asked = {name: bound for name in spelled if (bound := whole(spelled, name)) is not None}
    if 0 in asked.values():
        raise BadRequest("An output bound of 0 asks for nothing.")
    wish = opened.provider
    own = tuple(bound_fields)
    if wish.require_parameters:
        own = tuple(name for name in own if name in asked) or own[-1:]
    return Request(
        shape=shape,
        model=opened.model,
        stream=opened.stream,
        fields={name: raw for name, raw in opened.raw.items() if name in own or name not in opened.bounds},
        dropped=opened.dropped,
        prompt=prompt,
        bound=min(asked.values(), default=None),
        bound_fields=own,
        reasoning_bound=reasoning_bound,
        only=wish.only,
        ignore=wish.ignore,
        max_price=wish.max_price,
        require_parameters=wish.require_parameters,
        digest=opened.digest,
        provider=wish.rest,
    )


def write(
    request: Request, changed: Mapping[str, bytes], only: Sequence[str], max_price: Mapping[str, Decimal]
) -> bytes:
    """The body that leaves: the request's slices with those in `changed` instead, or added; then the provider object."""
    fields = {**request.fields, **changed}
    provider = provider_bytes(request, only, max_price)
    if provider != b"{}":
        fields["provider"] = provider
    return b"{" + b",".join(bodies.encode(name) + b":" + raw for name, raw in fields.items()) + b"}"


def bound_slices(request: Request, bound: int | None) -> dict[str, bytes]:
    """The slices that write the bound, equal in every spelling that leaves (M9); none if there is no bound."""
    return {} if bound is None else dict.fromkeys(request.bound_fields, b"%d" % bound)


def _digest(slices: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(slices.keys() - LABELS):
        digest.update(b"%d:%d:%b%b" % (len(name), len(slices[name]), name.encode("utf-8"), slices[name]))
    return digest.hexdigest()


UNREAD_BYTES_MAX = 2**20
"""Up to this size the top level of a body is cut within a few milliseconds."""


def unread_digest(body: bytes) -> str:
    """What stands for a body that is refused unread, so that its repetition is known (M19); labels are left out if it is small."""
    if len(body) <= UNREAD_BYTES_MAX:
        with contextlib.suppress(BadRequest):
            return _digest(bodies.top_level(body))
    return hashlib.sha256(body).hexdigest()


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
