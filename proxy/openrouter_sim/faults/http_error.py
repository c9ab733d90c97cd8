"""An HTTP error in place of the completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from openrouter_sim.base.errors import ApiError
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.fault import Fault

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall


@dataclass(frozen=True, slots=True)
class HttpError(Fault):
    """The call is answered with a status, and charged only if `charge` says so.

    Attributes:
        status: The HTTP status.
        message: The error's sentence.
        envelope: The body is OpenRouter's; else it is a web server's page.
        retry_after: The `Retry-After` header, as text.
        resets_at: The `X-RateLimit-Reset` header, as text: epoch milliseconds.
        error_type: `error.metadata.error_type`; empty for the status's usual one.
        limit_source: `error.metadata.limit_source`, as on money refusals; empty for none.
        reason: `error.metadata.reason`; empty for none.
        provider_name: `error.metadata.provider_name`: whose refusal it is; empty for none.
        edge: Cloudflare answers in place of OpenRouter, with its headers.
        availability: `error.availability.code`; empty for no `error.availability`.
        charge: The provider had generated everything, and it is billed.
        shows_id: `X-Generation-Id` is sent.
    """

    name: ClassVar[str] = "http_error"
    status: int = 500
    message: str = "Internal Server Error"
    envelope: bool = True
    retry_after: str = ""
    resets_at: str = ""
    error_type: str = ""
    limit_source: str = ""
    reason: str = ""
    provider_name: str = ""
    edge: bool = False
    availability: str = ""
    charge: bool = False
    shows_id: bool = True

    def refuse(self, call: SimCall) -> ApiError | None:
        """Return the error."""
        named = {
            "error_type": self.error_type,
            "limit_source": self.limit_source,
            "reason": self.reason,
            "provider_name": self.provider_name,
        }
        metadata = {name: value for name, value in named.items() if value}
        times = {"Retry-After": self.retry_after, "X-RateLimit-Reset": self.resets_at}
        headers = {name: value for name, value in times.items() if value}
        if self.edge:
            headers |= {"Server": "cloudflare", "CF-RAY": "8f00aa11bb22cc33-FRA"}
        extra: JsonObject = {"availability": {"code": self.availability}} if self.availability else {}
        call.shows_id = self.shows_id
        call.charges_errors = self.charge
        is_page = not self.envelope
        return ApiError(self.status, self.message, metadata=metadata, extra=extra, headers=headers, is_page=is_page)
