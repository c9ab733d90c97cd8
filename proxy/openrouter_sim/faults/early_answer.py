"""Servers that answer before they have read the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aiohttp import web

from openrouter_sim.base.errors import ApiError, envelope
from openrouter_sim.base.jsonio import encode
from openrouter_sim.calls.fault import Fault


@dataclass(frozen=True, slots=True)
class EarlyAnswer(Fault):
    """The answer comes before the body is read, and the connection closes; nothing is charged.

    Attributes:
        status: The HTTP status.
        retry_after: The `Retry-After` header, as text.
    """

    name: ClassVar[str] = "early_answer"
    is_early: ClassVar[bool] = True
    status: int = 503
    retry_after: str = ""

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Return the answer."""
        error = ApiError(self.status, "Service unavailable")
        response = web.Response(status=self.status, body=encode(envelope(error)), content_type="application/json")
        if self.retry_after:
            response.headers["Retry-After"] = self.retry_after
        response.force_close()
        return response


@dataclass(frozen=True, slots=True)
class CloseOnRequest(Fault):
    """The connection is gone when the request arrives, as an idle one that was closed just now."""

    name: ClassVar[str] = "close_on_request"
    is_early: ClassVar[bool] = True

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Reset the connection."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)
