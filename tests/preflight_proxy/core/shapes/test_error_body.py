"""Error bodies are OpenRouter's, in both dialects."""

import json

from preflight_proxy.core.shapes.error_body import anthropic_body, envelope_body
from tests.support.cases import each


def test_the_envelope_repeats_the_status_and_names_the_kind() -> None:
    assert json.loads(envelope_body(402, "no", "payment_required")) == {
        "error": {"code": 402, "message": "no", "metadata": {"error_type": "payment_required"}}
    }


@each(
    "error_type, kind",
    [
        ("payment_required", "billing_error"),
        ("permission_denied", "permission_error"),
        ("authentication", "authentication_error"),
        ("server", "api_error"),
        ("invalid_request", "invalid_request_error"),
        ("something_new", "invalid_request_error"),
    ],
)
def test_kinds_are_translated_for_anthropics_clients(error_type: str, kind: str) -> None:
    assert json.loads(anthropic_body("no", error_type)) == {
        "type": "error",
        "error": {"type": kind, "message": "no"},
        "request_id": None,
    }
