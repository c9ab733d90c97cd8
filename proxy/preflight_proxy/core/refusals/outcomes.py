"""Counts how an account's calls ended: how many were served, and why the others were not.

It shows whether an agent had a model at all, lost it, or spent its budget, which no exit code shows. Parts of the texts come from
upstream and from agents, so every text is one line, cut, and without control characters.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from preflight_proxy.core.refusals.refusals import Code, Source
from preflight_proxy.core.secret import Secret
from preflight_proxy.core.shapes.error_body import read_error

CAUSES_MAX = 20
"""Different causes counted per account. An agent can make any number of different wrong requests."""
TEXT_CHARS_MAX = 200
MODEL_CHARS_MAX = 80


class Cause(msgspec.Struct, frozen=True):
    """Why calls were not served.

    Attributes:
        code: One word for it; for a refusal of the proxy the name of `Code` in lower case.
        source: Who is the reason.
        text: A sentence. Calls with the same code and text have the same cause.
        model: What the first of these calls asked for; empty if it was not read.
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


LEFT = Cause("left", Source.CLIENT, "The client hung up before it was answered.")

_OTHER = Cause("other", Source.PROXY, "Further reasons are not told apart.")


def code_of(code: Code) -> str:
    """Return the word for a refusal of the proxy."""
    return code.name.lower()


def refused(code: Code, model: str, limit_needed_pusd: int = 0) -> Cause:
    """Return the cause of a call that the proxy refused with a fixed sentence."""
    name = _line(model)[:MODEL_CHARS_MAX]
    return Cause(code_of(code), code.source, code.sentence, name, limit_needed_pusd=limit_needed_pusd)


def bad_request(text: str) -> Cause:
    """Return the cause of a call that was refused because of its content."""
    return Cause("bad_request", Source.REQUEST, _line(text))


def not_open(text: str) -> Cause:
    """Return the cause of a call that arrived before its account was open again."""
    return Cause("not_open", Source.PROXY, _line(text))


def failed_upstream(text: str, model: str) -> Cause:
    """Return the cause of a call that OpenRouter did not serve, in a sentence of the proxy."""
    return Cause("upstream_failed", Source.UPSTREAM, _line(text), _line(model)[:MODEL_CHARS_MAX])


def ended_in_error(model: str) -> Cause:
    """Return the cause of a call whose answer began with a 2xx and ended in an error."""
    return Cause("error_in_answer", Source.UPSTREAM, "The answer ended in an error.", _line(model)[:MODEL_CHARS_MAX])


def answered_upstream(status: int, body: bytes, key: Secret, model: str) -> Cause:
    """Return the cause of a call that OpenRouter answered with an error document.

    Args:
        status: Its status.
        body: Its body; the message in it becomes the detail.
        key: The real one. A message that repeats it is left out.
        model: What the call asked for.
    """
    document = read_error(body)
    message = document.error.message if document else ""
    detail = "" if key.is_in(message.encode(errors="replace")) else _line(message)
    text = f"OpenRouter answered with status {status}"
    return Cause(f"upstream_{status}", Source.UPSTREAM, text, _line(model)[:MODEL_CHARS_MAX], detail)


def _line(text: str) -> str:
    """One line without control characters and lone surrogates, cut."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 10 * TEXT_CHARS_MAX])
    return " ".join(printable.split())[:TEXT_CHARS_MAX]


class Outcomes(msgspec.Struct, frozen=True, gc=False):
    """How an account's calls ended, in that order.

    Attributes:
        served: Calls that were answered.
        causes: Why the others were not, in the order of their first call.
        last: Why the last call was not served; None if it was served, or there was none. Calls whose client closed the connection
            and calls to a frozen account are ignored.
        since_served: Calls that were not served since the last one that was, or since the first; the same calls are ignored.
        since_served_upstream: How many of these upstream did not serve.
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
        """Return the outcomes after a call that was served.

        Args:
            overtaken: The budget refused another call after this one was admitted: that refusal stays `last`.
        """
        last = self.last if overtaken and _is_budget(self.last) else None
        return Outcomes(self.served + 1, self.causes, last)

    def with_unserved(self, cause: Cause, *, overtaken: bool = False) -> Outcomes:
        """Return the outcomes after a call that was not served; see `with_served`."""
        causes = _counted(self.causes, cause)
        if cause.source in (Source.CLIENT, Source.END):
            return Outcomes(self.served, causes, self.last, self.since_served, self.since_served_upstream)
        last = self.last if overtaken and _is_budget(self.last) else cause
        upstream = self.since_served_upstream + (cause.source is Source.UPSTREAM)
        return Outcomes(self.served, causes, last, self.since_served + 1, upstream)


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
