"""Connections that were to be kept, and are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aiohttp import web

from openrouter_sim.calls.fault import Fault


@dataclass(frozen=True, slots=True)
class CloseKeepalive(Fault):
    """The answer is complete and promises a kept connection, which then closes."""

    name: ClassVar[str] = "close_keepalive"

    def end(self, request: web.Request) -> None:
        """Close it."""
        if request.transport is not None:
            request.transport.close()
