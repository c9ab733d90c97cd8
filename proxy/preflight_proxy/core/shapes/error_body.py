"""Writes and reads error bodies: OpenRouter's envelope, and Anthropic's dialect of it.

Source: openrouter.ai/docs/api_reference/errors-and-debugging, 2026-10.
"""

from __future__ import annotations

import msgspec

RETRIED_DIGITS = ("429", "500", "502", "503", "504", "524")
"""Some clients take these anywhere in a body for a status, and retry."""

ERROR_TYPE_BY_STATUS = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    413: "payload_too_large",
    429: "rate_limit_exceeded",
}
STATUS_BY_ERROR_TYPE = {"payment_required": 402, "permission_denied": 403, "provider_unavailable": 502, "server": 500}

ANTHROPIC_TYPES = {
    "authentication": "authentication_error",
    "permission_denied": "permission_error",
    "payment_required": "billing_error",
    "not_found": "not_found_error",
    "payload_too_large": "request_too_large",
    "rate_limit_exceeded": "rate_limit_error",
    "provider_overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "provider_unavailable": "api_error",
    "server": "api_error",
    "unmapped": "api_error",
}
"""Everything else, which is about the request itself, is an `invalid_request_error`."""


def envelope(status: int, message: str, error_type: str) -> dict[str, object]:
    """The `error` object of OpenRouter."""
    return {"code": status, "message": message, "metadata": {"error_type": error_type}}


def envelope_body(status: int, message: str, error_type: str) -> bytes:
    """A whole error body of OpenRouter."""
    return msgspec.json.encode({"error": envelope(status, message, error_type)})


def anthropic_body(message: str, error_type: str) -> bytes:
    """A whole error body of the messages API; `request_id` is null, as for every refusal before routing."""
    kind = ANTHROPIC_TYPES.get(error_type, "invalid_request_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": None})


class ErrorDetail(msgspec.Struct):
    """The `error` object of an error body. Only the message is required; everything else may be anything.

    Attributes:
        metadata: What the refusal is about.
        availability: Why no endpoint can serve.
        previous_errors: What other endpoints answered.
    """

    message: str
    metadata: object = None
    availability: object = None
    provider_name: object = None
    previous_errors: object = None


class ErrorBody(msgspec.Struct):
    """An error body, in either dialect."""

    error: ErrorDetail
    id: object = None
    request_id: object = None


def read_error(body: bytes) -> ErrorBody | None:
    """Return an error body; None if the text is none. Never raises."""
    try:
        return msgspec.json.decode(body, type=ErrorBody)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
