"""The events of a whole stream, read."""

from __future__ import annotations

from preflight_proxy.core.sse import Decoder, Event, parse


def events(stream: bytes) -> list[Event]:
    """Read the events of a stream that ends with the end of its last event."""
    return [parse(event.raw) for event in Decoder().feed(stream)]
