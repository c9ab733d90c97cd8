"""What reading a request has in common in every shape: slices, tables, model, provider, digest; and writing it out again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from preflight_proxy.core import body as bodies
from preflight_proxy.core.body import BadRequest, Json
from preflight_proxy.core.model_name import check_model
from preflight_proxy.core.shapes import fields as tables
from preflight_proxy.core.shapes.fields import Rule, whole
from preflight_proxy.core.shapes.provider import ProviderWish, provider_bytes, read_provider
from preflight_proxy.core.shapes.shape import Prompt, Request, UnknownFields

COMMON_FIELDS = frozenset(
    {"model", "stream", "provider", "user", "session_id", "trace", "metadata", "temperature", "top_p", "top_k"}
    | {"service_tier", "plugins", "models", "cache_control", "tools", "tool_choice", "transforms"}
)

LABELS = frozenset({"user", "session_id", "trace", "metadata", "client_metadata"})
"""Fields that only label a call. Codex writes them anew for each try, in another order, so they make no other request of it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A request's top level.

    Attributes:
        raw: The slices that may leave, `provider` excepted.
        rules: The decoded values of the fields that a rule has passed.
        dropped: Fields that stay here.
        unread: Fields that leave although no table names them.
        model: The model asked for.
        stream: True if a stream is asked for.
        provider: What is asked of routing.
        digest: See `Request.digest`.
    """

    raw: dict[str, bytes]
    rules: Mapping[str, Json]
    dropped: tuple[str, ...]
    unread: tuple[str, ...]
    model: str
    stream: bool
    provider: ProviderWish
    digest: str

    def decoded(self, name: str) -> Json:
        """The decoded value of a field; None if it is absent."""
        if name in self.rules:
            return self.rules[name]
        return bodies.value(self.raw[name]) if name in self.raw else None


def open_request(
    body: bytes,
    headers: Mapping[str, str],
    unknown: UnknownFields,
    *,
    known: frozenset[str],
    rules: Mapping[str, Rule] | None = None,
    values_max: int = bodies.VALUES_MAX,
) -> Opened:
    """Cut a body into slices and pass its top level through the tables.

    Raises:
        BadRequest: It is no JSON object, is encoded, or a field is refused.
    """
    if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise BadRequest("Send the request body uncompressed.", 415)
    slices = bodies.top_level(body, values_max)
    decoded = tables.check(slices, rules or {})
    stray = tuple(name for name in slices if name not in known)
    if stray and unknown == "refuse":
        raise BadRequest(f"The field {stray[0][:60]!r} is not known here, and unknown fields are refused.")
    leaving = {name: raw for name, raw in slices.items() if (name in known or unknown == "pass") and name != "provider"}
    wish = read_provider(slices.get("provider"))
    return Opened(
        raw=leaving,
        rules=decoded,
        dropped=(*(stray if unknown == "drop" else ()), *wish.dropped),
        unread=stray if unknown == "pass" else (),
        model=_model(slices),
        stream=_stream(slices),
        provider=wish,
        digest=_digest({name: raw for name, raw in slices.items() if name in leaving or name == "provider"}),
    )


def close_request(
    opened: Opened, shape: str, prompt: Prompt, bound_fields: Sequence[str], reasoning_bound: int | None = None
) -> Request:
    """Put a request together from its opened top level and its counted prompt.

    Raises:
        BadRequest: Its output bound is no whole number, or zero.
    """
    asked = {name: bound for name in bound_fields if (bound := whole(opened.raw, name)) is not None}
    if 0 in asked.values():
        raise BadRequest("An output bound of 0 asks for nothing.")
    wish = opened.provider
    return Request(
        shape=shape,
        model=opened.model,
        stream=opened.stream,
        fields=opened.raw,
        dropped=opened.dropped,
        prompt=prompt,
        bound=min(asked.values(), default=None),
        bound_field=next(iter(asked), bound_fields[0] if bound_fields else ""),
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


def bound_slices(request: Request, spellings: Sequence[str], bound: int | None) -> dict[str, bytes]:
    """The slices that write the bound: every spelling, equal (M9).

    Where the caller wants endpoints that know every parameter, a second spelling could exclude the one it meant: then its own.
    """
    if bound is None:
        return {}
    names = [request.bound_field] if request.require_parameters else spellings
    return dict.fromkeys(names, b"%d" % bound)


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
    check_model(model)
    return model


def _stream(slices: Mapping[str, bytes]) -> bool:
    stream = bodies.value(slices["stream"]) if "stream" in slices else False
    if stream not in (True, False, None):
        raise BadRequest("The field 'stream' must be true or false.")
    return stream is True
