"""Logging of both halves: flat JSON lines on stderr, secrets redacted by pattern as the last line of defence.

Secrets are redacted first of all by type (`core.secret.Secret`); the pattern here catches what a library put into a message.
Event names are dotted, `ledger.reserved`, `stream.cut`; fields never hold a prompt or an answer.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

_KEY = re.compile(r"sk-or-[A-Za-z0-9_-]{6,}|\bpf-[A-Za-z0-9_-]{16,}")
REDACTED = "[redacted]"


def redact(text: str) -> str:
    """`text` with everything that looks like an OpenRouter key or a trial token replaced."""
    return _KEY.sub(REDACTED, text)


def _redact_fields(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(value)
        elif not isinstance(value, bool | int | float | type(None)):
            event[name] = redact(str(value))
    return event


class _Lossy:
    """A text stream that drops what it cannot write: a full disk must not fail the caller."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Send structlog's events, as JSON lines, to `stream` (stderr by default); a line that cannot be written is dropped."""
    import structlog  # slow to load, and the host redacts only

    out = stream if stream is not None else sys.stderr
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact_fields,
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Lossy(out))),
        cache_logger_on_first_use=False,
    )
