"""What became of an account's calls: how many were served, and why the others were not.

Whoever runs an agent learns from this whether it had a model at all, lost it, or spent its budget: no exit code tells that.
Every text here is one line, cut, and free of control characters: parts of it come from upstream and from agents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.secret import Redaction
from preflight_proxy.core.shapes.error_body import read_error

CAUSES_MAX = 20
"""Causes that are told apart for one account; an agent can word any number of wrong requests."""
TEXT_CHARS_MAX = 200
MODEL_CHARS_MAX = 80


class Source(StrEnum):
    """Whose doing it is that a call was not served."""

    BUDGET = "budget"
    """This run's budget does not cover it."""
    UPSTREAM = "upstream"
    """OpenRouter refused it, failed, or could not be reached."""
    PROXY = "proxy"
    """A rule or a failure of the proxy's."""
    REQUEST = "request"
    """The request itself: it cannot be read, or asks for something whose price has no bound."""
    CLIENT = "client"
    """Its sender hung up before an answer."""
    END = "end"
    """The account was frozen, by an operator or because the trial had ended."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why calls were not served.

    Attributes:
        code: One word for it; of our refusals the name of `Code` in lower case.
        source: Whose doing it is.
        text: A sentence; it and the code tell causes apart.
        model: What the first of these calls asked for; empty where that was not read.
        detail: What upstream said to the first of them.
        count: How many calls.
        limit_needed_pusd: The least limit under which the first of these calls would have been admitted; 0 if money is not the
            reason, or that is not known.
    """

    code: str
    source: Source
    text: str
    model: str = ""
    detail: str = ""
    count: int = 1
    limit_needed_pusd: int = 0


_SOURCES = {
    Code.SPENT: Source.BUDGET,
    Code.DOES_NOT_FIT: Source.BUDGET,
    Code.FROZEN: Source.END,
    Code.UNREACHABLE: Source.UPSTREAM,
    Code.PRICE_STALE: Source.UPSTREAM,
    Code.KEY_LIMIT: Source.UPSTREAM,
    Code.TRIAL_KEY_LIMIT: Source.UPSTREAM,
    Code.ACCOUNT_CREDIT: Source.UPSTREAM,
    Code.ACCOUNT_AFFORDS: Source.UPSTREAM,
    Code.DAILY_LIMIT: Source.UPSTREAM,
    Code.HELD: Source.UPSTREAM,
}
"""All other codes are a rule of the proxy's."""

LEFT = Cause("left", Source.CLIENT, "The client hung up before it was answered.")

_OTHER = Cause("other", Source.PROXY, "Further reasons are not told apart.")


def code_of(code: Code) -> str:
    """Return the word for one of our refusals."""
    return code.name.lower()


def refused(code: Code, model: str, limit_needed_pusd: int = 0) -> Cause:
    """Return the cause that is one of our fixed sentences."""
    source, asked = _SOURCES.get(code, Source.PROXY), _line(model)[:MODEL_CHARS_MAX]
    return Cause(code_of(code), source, code.sentence, asked, limit_needed_pusd=limit_needed_pusd)


def bad_request(text: str) -> Cause:
    """Return the cause of a call that was refused because of its content."""
    return Cause("bad_request", Source.REQUEST, _line(text))


def not_open(text: str) -> Cause:
    """Return the cause of a call that came before its account was open again."""
    return Cause("not_open", Source.PROXY, _line(text))


def failed_upstream(text: str, model: str) -> Cause:
    """Return the cause of a call that OpenRouter did not serve, in a sentence of ours."""
    return Cause("upstream_failed", Source.UPSTREAM, _line(text), _line(model)[:MODEL_CHARS_MAX])


def ended_in_error(model: str) -> Cause:
    """Return the cause of a call whose answer began well and ended in an error."""
    return Cause("error_in_answer", Source.UPSTREAM, "The answer ended in an error.", _line(model)[:MODEL_CHARS_MAX])


def answered_upstream(status: int, body: bytes, redaction: Redaction, model: str) -> Cause:
    """Return the cause of a call that OpenRouter answered with an error document.

    Args:
        status: Its status.
        body: Its body; the message in it becomes the detail.
        redaction: Finds the real key. A message that repeats it is left out.
        model: What the call asked for.
    """
    document = read_error(body)
    message = document.error.message if document else ""
    detail = "" if redaction.found_in(message.encode(errors="replace")) else _line(message)
    text = f"OpenRouter answered with status {status}"
    return Cause(f"upstream_{status}", Source.UPSTREAM, text, _line(model)[:MODEL_CHARS_MAX], detail)


def _line(text: str) -> str:
    """One line without control characters and lone surrogates, cut."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 10 * TEXT_CHARS_MAX])
    return " ".join(printable.split())[:TEXT_CHARS_MAX]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of an account's calls, in the order in which they ended.

    Attributes:
        served: Calls that were answered.
        causes: Why the others were not, in the order of their first call.
        last: Why the last call was not served; None if it was, or if there was none. Calls of clients that hung up and calls to a
            frozen account do not count here.
        since_served: Calls that were not served since the last that was, or since the first; such calls do not count here either.
        since_served_upstream: Those of them that upstream did not serve.
    """

    served: int = 0
    causes: tuple[Cause, ...] = ()
    last: Cause | None = None
    since_served: int = 0
    since_served_upstream: int = 0

    @property
    def unserved(self) -> int:
        """Calls that were not served."""
        return sum(cause.count for cause in self.causes)

    def with_served(self, *, overtaken: bool = False) -> Outcomes:
        """Return what is known after a call that was served.

        Args:
            overtaken: The budget refused another call after this one had been admitted: that refusal stays the last word.
        """
        last = self.last if overtaken and _is_budget(self.last) else None
        return replace(self, served=self.served + 1, last=last, since_served=0, since_served_upstream=0)

    def with_unserved(self, cause: Cause, *, overtaken: bool = False) -> Outcomes:
        """Return what is known after a call that was not served; see `with_served`."""
        counted = replace(self, causes=_counted(self.causes, cause))
        if cause.source in (Source.CLIENT, Source.END):
            return counted
        return replace(
            counted,
            last=self.last if overtaken and _is_budget(self.last) else cause,
            since_served=self.since_served + 1,
            since_served_upstream=self.since_served_upstream + (cause.source is Source.UPSTREAM),
        )


NONE_YET = Outcomes()


def _is_budget(cause: Cause | None) -> bool:
    return cause is not None and cause.source is Source.BUDGET


def _counted(causes: tuple[Cause, ...], cause: Cause) -> tuple[Cause, ...]:
    for index, known in enumerate(causes):
        if (known.code, known.text) == (cause.code, cause.text):
            return (*causes[:index], replace(known, count=known.count + 1), *causes[index + 1 :])
    if len(causes) >= CAUSES_MAX and cause is not _OTHER:
        return _counted(causes, _OTHER)
    return (*causes, cause)


def outcomes_text(outcomes: Outcomes) -> str:
    """Return the JSON text that the ledger keeps."""
    return msgspec.json.encode(outcomes).decode()


def read_outcomes(document: object) -> Outcomes:
    """Read them from JSON text, or from what JSON made of it; whatever is of another shape reads as none."""
    try:
        if isinstance(document, str | bytes):
            return msgspec.json.decode(document, type=Outcomes)
        return msgspec.convert(document, Outcomes)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NONE_YET
