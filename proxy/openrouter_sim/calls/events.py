"""Server-sent events as bytes."""

from __future__ import annotations

from openrouter_sim.base.jsonio import JsonObject, encode

DONE = b"data: [DONE]\n\n"
COMMENT = b": OPENROUTER PROCESSING\n\n"


def event(data: JsonObject, name: str | None = None) -> bytes:
    """Return one event, with an `event:` line if it has a name."""
    head = b"" if name is None else f"event: {name}\n".encode()
    return head + b"data: " + encode(data) + b"\n\n"


def spread(pieces: int, total: int) -> list[int]:
    """Return the tokens generated up to each of `pieces` events; up to the last it is `total`."""
    return [total * (i + 1) // pieces for i in range(pieces)]
