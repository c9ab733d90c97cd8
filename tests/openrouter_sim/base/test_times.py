"""Moments on the wire."""

from datetime import UTC, datetime

import pytest

from openrouter_sim.base.errors import ApiError
from openrouter_sim.base.times import iso, next_reset_s, parse_utc
from tests.support.cases import each


def test_a_moment_is_utc_with_seconds() -> None:
    assert iso(parse_utc("2027-01-31T23:59:59Z")) == "2027-01-31T23:59:59Z"
    assert iso(None) is None


@each("text", ["2027-01-31T23:59:59+02:00", "2027-01-31", "2027-01-31T23:59Z", "soon", 5])
def test_any_other_form_is_refused(text: object) -> None:
    with pytest.raises(ApiError):
        parse_utc(text)


@each(
    "window, expected",
    [("daily", "2026-12-31T00:00:00Z"), ("weekly", "2027-01-04T00:00:00Z"), ("monthly", "2027-01-01T00:00:00Z")],
)
def test_windows_end_at_midnight(window: str, expected: str) -> None:
    now = datetime(2026, 12, 30, 15, tzinfo=UTC).timestamp()
    assert iso(next_reset_s(window, now)) == expected
    assert next_reset_s(None, now) is None
