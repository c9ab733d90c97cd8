"""OpenRouter's errors. Each API writes them in its own form."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from openrouter_sim.base.jsonio import JsonObject, loads

USER_ID = "user_2simulated"

ERROR_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    500: "server",
    502: "provider_unavailable",
    503: "provider_unavailable",
    504: "timeout",
    524: "timeout",
    529: "provider_overloaded",
}
"""HTTP status to `error_type`. Source: openrouter.ai/docs/api_reference/errors-and-debugging, 2026."""


@dataclass(slots=True)
class ApiError(Exception):
    """An error as an answer.

    Attributes:
        status: The HTTP status, which is `error.code` too.
        message: The sentence.
        metadata: Fields of `error.metadata` besides the type.
        extra: More fields of `error`.
        headers: Headers of the answer.
        is_page: The body is an HTML page instead of JSON.
    """

    status: int
    message: str
    metadata: JsonObject = field(default_factory=dict)
    extra: JsonObject = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    is_page: bool = False

    @property
    def error_type(self) -> str:
        """The `error_type`: the one in the metadata, else the status's usual one."""
        named = self.metadata.get("error_type")
        return named if isinstance(named, str) else ERROR_TYPES.get(self.status, "unmapped")


class StreamError(msgspec.Struct, frozen=True):
    """An error inside a stream that began with status 200.

    Attributes:
        code: The code as the stream states it.
        choice_only: Only the finish reason is `error`.
        bare: The event has the error and no other field.
    """

    code: int | str
    message: str
    error_type: str = "provider_unavailable"
    choice_only: bool = False
    bare: bool = False


def envelope(error: ApiError) -> JsonObject:
    """Return the error body of every API except `/messages`.

    Source: openrouter.ai/docs/api_reference/errors-and-debugging, 2026.
    """
    metadata = {"error_type": error.error_type, **error.metadata}
    inner = {"code": error.status, "message": error.message, "metadata": metadata, **error.extra}
    return {"error": inner, "user_id": USER_ID}


def bad_request(message: str) -> ApiError:
    """Return a 400."""
    return ApiError(400, message)


def read_object(raw: bytes) -> JsonObject:
    """Return the JSON object of a request.

    Raises:
        ApiError: 400 for anything else.
    """
    try:
        body = loads(raw)
    except ValueError as exc:
        raise bad_request("Request body is not valid JSON") from exc
    if not isinstance(body, dict):
        raise bad_request("Request body is not a JSON object")
    return body
