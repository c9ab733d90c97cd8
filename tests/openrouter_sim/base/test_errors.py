"""Refusals as values."""

from openrouter_sim.base.errors import ApiError, bad_request, envelope


def test_an_envelope_has_code_sentence_and_type() -> None:
    shown = envelope(ApiError(402, "No.", metadata={"limit_source": "openrouter_credits"}))
    assert shown["error"]["code"] == 402
    assert shown["error"]["metadata"] == {"error_type": "payment_required", "limit_source": "openrouter_credits"}


def test_a_named_type_wins_and_extra_fields_stand_beside_the_code() -> None:
    error = ApiError(400, "x", metadata={"error_type": "context_length_exceeded"}, extra={"availability": {}})
    assert error.error_type == "context_length_exceeded"
    assert envelope(error)["error"]["availability"] == {}
    assert ApiError(418, "x").error_type == "unmapped"
    assert bad_request("x").status == 400
