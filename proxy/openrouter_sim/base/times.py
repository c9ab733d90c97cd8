"""Times as OpenRouter writes and reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from openrouter_sim.base.errors import bad_request


def iso(epoch_s: float | None) -> str | None:
    """Return `2026-10-01T10:30:00Z`; None for None."""
    return None if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: object) -> float:
    """Return the epoch second of an `expires_at`.

    Raises:
        ApiError: 400 unless it is a UTC time with seconds.
    """
    if not isinstance(text, str):
        raise bad_request("expires_at: expected a string")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_request("expires_at: expected an ISO 8601 moment") from None
    if moment.utcoffset() != timedelta(0) or text.count(":") < 2:
        raise bad_request("expires_at: expected UTC with seconds")
    return moment.timestamp()


def next_reset_s(window: str | None, now: float) -> float | None:
    """Return the epoch second at which a `daily`, `weekly` or `monthly` window ends; None without a window."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match window:
        case "daily":
            return (day + timedelta(days=1)).timestamp()
        case "weekly":
            return (day + timedelta(days=7 - day.weekday())).timestamp()
        case "monthly":
            return (day.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()
        case _:
            return None
