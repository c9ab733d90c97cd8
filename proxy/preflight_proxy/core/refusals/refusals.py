"""Why a call is refused, and the answer to it: one table from (code, shape, repeated) to status and sentence.

Clients decide by the status and by the text whether they retry. Each sentence is fixed and has no amounts, because digits that look
like a status code make some clients retry. The amounts are in headers.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from preflight_proxy.core.money import usd_text
from preflight_proxy.core.pricing.fits import PromptRate, fits_tokens
from preflight_proxy.core.shapes.error_body import RETRIED_DIGITS, envelope_body

if TYPE_CHECKING:
    from preflight_proxy.core.shapes.reading import Shape


PAYMENT_REQUIRED = 402


class Source(StrEnum):
    """Who is the reason that a call was not served."""

    BUDGET = "budget"
    """This run's budget does not cover it."""
    UPSTREAM = "upstream"
    """OpenRouter refused it, failed, or could not be reached."""
    PROXY = "proxy"
    """A rule or a failure of the proxy."""
    REQUEST = "request"
    """The request itself: it cannot be read, or asks for something whose price has no bound."""
    CLIENT = "client"
    """The client closed the connection before it was answered."""
    END = "end"
    """The account was frozen, by an operator or because the trial had ended."""


_SMALLER = "Ask for fewer output tokens or send less. Do not repeat it unchanged."


class Code(Enum):
    """Why a call is refused, in order of precedence: the fixed sentence of the answer, who is the reason, and the status."""

    STORE = "The ledger of this run cannot be written, so no call is sent. Do not retry."
    FROZEN = "This run was ended by its operator. Do not retry.", Source.END
    MODEL_NOT_ALLOWED = "This model is not allowed in this run.", Source.PROXY, 403
    UNPRICED = "This model has no known price, so its cost has no bound.", Source.PROXY, 403
    UNREACHABLE = "OpenRouter cannot be reached.", Source.UPSTREAM, 503
    PRICE_STALE = "OpenRouter's price list cannot be read.", Source.UPSTREAM, 503
    QUARANTINED = (
        "All endpoints of this model are disabled, because they billed more than their listed price. Do not retry.",
        Source.PROXY,
        403,
    )
    SPENT = "Budget spent. This run has used its whole allowance. Do not retry.", Source.BUDGET
    DOES_NOT_FIT = f"This call could cost more than this run has left. {_SMALLER}", Source.BUDGET
    KEY_LIMIT = "The key's limit at OpenRouter is reached. Do not repeat this call unchanged.", Source.UPSTREAM
    TRIAL_KEY_LIMIT = "The limit of this run's key at OpenRouter is reached. Do not retry.", Source.UPSTREAM
    ACCOUNT_CREDIT = "The OpenRouter account has no credit left. Do not retry.", Source.UPSTREAM
    ACCOUNT_AFFORDS = (
        f"The credit of the OpenRouter account does not cover a call of this size. {_SMALLER}",
        Source.UPSTREAM,
    )
    DAILY_LIMIT = "The daily limit at OpenRouter for this model is reached. Do not retry.", Source.UPSTREAM, 429
    HELD = (
        "OpenRouter takes no such call for now, and for longer than a client waits. Nothing is charged. Do not retry.",
        Source.UPSTREAM,
        429,
    )

    def __init__(self, sentence: str, source: Source = Source.PROXY, status: int = PAYMENT_REQUIRED) -> None:
        self.sentence, self.source, self.status = sentence, source, status

    @property
    def is_budget(self) -> bool:
        """True if the reason is this run's budget or its end."""
        return self in (Code.SPENT, Code.DOES_NOT_FIT, Code.FROZEN)

    @property
    def escalates(self) -> bool:
        """True if the reason is money, here or at OpenRouter: a repetition gets a final status (M19 (repeated refusal))."""
        of_openrouter = (Code.KEY_LIMIT, Code.TRIAL_KEY_LIMIT, Code.ACCOUNT_CREDIT, Code.ACCOUNT_AFFORDS)
        return self.is_budget or self in of_openrouter


OVERDUE = "This call took longer than a call may take here, so it was ended. Its cost is charged once it is known. Do not retry."
"""Ends an answer that a time limit of the proxy cuts (M17 (longest call)). Upstream may bill all of it; a retry costs extra."""
BROKEN = "Provider returned error"
"""Ends an answer that upstream broke off, in upstream's own words: clients retry, which is a new call."""

_ERROR_TYPE = {
    402: "payment_required",
    403: "permission_denied",
    429: "rate_limit_exceeded",
    503: "provider_overloaded",
}
_ESCALATED_STATUS = {"responses": 400, "messages": 402}
ESCALATED_STATUS = 401
"""The only status on which every chat client stops."""


class Refusal(msgspec.Struct, frozen=True):
    """One refused call, with the account's balance at that moment.

    Attributes:
        code: Why.
        needed_pusd: The least available amount with which this call is admitted, with the shortest answer; 0 if money is not the
            reason, or the call was not read.
        rate: What a new prompt is reserved at; None if it is not known.
    """

    code: Code
    limit_pusd: int = 0
    posted_pusd: int = 0
    pending_pusd: int = 0
    available_pusd: int = 0
    needed_pusd: int = 0
    rate: PromptRate | None = None

    @property
    def limit_needed_pusd(self) -> int:
        """The least limit with which this call could have been admitted; 0 if money is not the reason."""
        return self.posted_pusd + self.needed_pusd if self.needed_pusd else 0


class LimitFigures(Protocol):
    """The balance of an account, in pico-USD."""

    @property
    def limit_pusd(self) -> int:
        """The limit."""

    @property
    def posted_pusd(self) -> int:
        """What is spent."""

    @property
    def pending_pusd(self) -> int:
        """What calls in flight reserve."""

    @property
    def available_pusd(self) -> int:
        """What is left."""

    @property
    def rate(self) -> PromptRate | None:
        """What a new prompt is reserved at; None if it is not known."""


def answer(shape: Shape, refusal: Refusal, escalated: bool, detail: str = "") -> tuple[int, bytes]:
    """Return status and body of a refusal, in the caller's API shape.

    Args:
        shape: The caller's API.
        refusal: Why, and the balance.
        escalated: True for a repetition (M19): its status is one on which all clients stop.
        detail: A further sentence without digits that look like a status, such as that of `allowed_detail`.
    """
    code = refusal.code
    status, error_type = code.status, _ERROR_TYPE[code.status]
    if escalated and code.escalates:
        status = _ESCALATED_STATUS.get(shape.name, ESCALATED_STATUS)
    message = f"{code.sentence} {detail}" if detail else code.sentence
    return status, shape.refusal(status, message, error_type)


def allowed_detail(models: Iterable[str]) -> str:
    """Return the sentence that names the allowed models, without names that would make a client retry."""
    names = [model for model in models if not any(digits in model for digits in RETRIED_DIGITS)]
    return f"Allowed: {', '.join(names)}." if names else ""


def budget_headers(balance: LimitFigures) -> list[tuple[str, str]]:
    """Return the `X-Budget-*` headers: amounts in exact decimal dollars, and the largest new prompt that fits, in tokens.

    A refusal also has what was needed, and `x-should-retry: false`.

    Args:
        balance: An account as it stands, this call's own reservation included; or a refusal.
    """
    headers = [
        ("X-Budget-Limit", usd_text(balance.limit_pusd)),
        ("X-Budget-Spent", usd_text(balance.posted_pusd)),
        ("X-Budget-Reserved", usd_text(balance.pending_pusd)),
        ("X-Budget-Available", usd_text(balance.available_pusd)),
    ]
    if balance.rate is not None:
        headers.append(("X-Budget-Fits-Tokens", str(fits_tokens(balance.rate, balance.available_pusd))))
    if isinstance(balance, Refusal):
        headers += [("X-Budget-Needed", usd_text(balance.needed_pusd)), ("x-should-retry", "false")]
    return headers


def error_body(shape: Shape | None, status: int, message: str, error_type: str) -> bytes:
    """Return an error body that is not about the budget, in the caller's shape; in OpenRouter's envelope if that is not known."""
    return (
        shape.refusal(status, message, error_type) if shape is not None else envelope_body(status, message, error_type)
    )
