"""Relays a 2xx answer byte for byte, reads its usage, and posts its cost before its last bytes go down (M10, M16 metering, M17)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import structlog

from preflight_proxy.base.clock import Clock
from preflight_proxy.calls.settlement import Settlement
from preflight_proxy.core import sse
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.evidence.evidence import CALL_S_MAX
from preflight_proxy.core.refusals.refusals import BROKEN, OVERDUE
from preflight_proxy.core.secret import Secret
from preflight_proxy.core.shapes.answers import generation_id
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import Reading
from preflight_proxy.server.response import ClientResponse
from preflight_proxy.upstream.connection import BrokenAnswerError, TimeLimit, UpstreamAnswer

CALL_DRAIN_S_MAX = 5 * 60.0
"""Upstream is read on for this long after the client left or was cut (M17)."""
CALL_SILENCE_S_MAX = 60.0
"""While draining, the stream is given up after this long without a data event (M17)."""
WHOLE_BODY_BYTES_MAX = 64 * 2**20
"""A document is held back until its cost is posted; a larger one is relayed unread, and its cost is unknown (M16)."""

BROKE_OFF = "The answer broke off before its end."

Headers = Sequence[tuple[str, str]]
_log = structlog.get_logger("preflight_proxy.calls.relay")


class Relay:
    """One answer on its way from upstream to the client.

    Args:
        shape: The API shape of the answer.
        downstream: The client.
        settlement: The reservation that it ends.
        clock: The stopwatch of the time limits.
        key: The real one, which is taken out of an answer that repeats it.
        limit: The time that the answer may take; set here from the answer's head on.

    Attributes:
        reading: All that the answer has said so far.
        events_count: Data events so far.
        failure: Why the answer has no proper end, in a sentence; empty if it has one.
    """

    def __init__(
        self,
        shape: Shape,
        downstream: ClientResponse,
        settlement: Settlement,
        clock: Clock,
        key: Secret,
        limit: TimeLimit,
    ) -> None:
        self._shape = shape
        self._downstream = downstream
        self._settlement = settlement
        self._clock = clock
        self._key = key
        self._limit = limit
        self._is_running = False
        self._began_at_s = self._data_at_s = clock.monotonic_s()
        self._detached_at_s: float | None = None
        self._cache_hit = False
        self._streamed = False
        self._decoder: sse.Decoder
        self._outline: sse.Outline
        self._head: tuple[int, Headers] = (0, ())
        self._parts: list[bytes] | None = []
        self._parts_bytes = 0
        self.reading = Reading()
        self.events_count = 0
        self.failure = ""

    async def run(self, response: UpstreamAnswer, headers: Headers) -> None:
        """Relay to the end; the reservation is posted or marked unknown when this returns.

        Args:
            response: A 2xx answer, body unread.
            headers: What the client gets with it.
        """
        header, self._head = response.header, (response.status, headers)
        cache, encoding, media_type = (
            header("x-openrouter-cache-status"),
            header("content-encoding"),
            header("content-type"),
        )
        self._cache_hit = cache is not None and cache.upper() == "HIT"
        self._streamed = media_type is not None and _is_event_stream(media_type)
        self._is_running = True
        self._limit.end_in(self._began_at_s + CALL_S_MAX - self._clock.monotonic_s())
        if self._downstream.closed:
            self.tighten()
        try:
            if encoding and encoding.strip().lower() != "identity":
                self._leave_unread()
            if self._streamed and self._parts is not None:
                await self._stream(response)
            else:
                await self._document(response)
        except BrokenAnswerError as exc:
            self._settlement.unknown(self.reading, f"broke off ({type(exc).__name__})", ended=False)
            if self._limit.is_over:
                self.failure = OVERDUE
                self.end(OVERDUE)
            else:
                self._end_stream() if self._streamed else self.break_off()
        finally:
            self._is_running = False

    async def _stream(self, response: UpstreamAnswer) -> None:
        self._decoder, self._outline = sse.Decoder(), sse.Outline()
        self._downstream.start(*self._head)
        await response.pour(self._take_chunk)
        self._relay(self._decoder.flush())
        if not self._settlement.ended and not self._settle():
            over = self.reading.terminal or self.reading.finish is not None
            self._settlement.unknown(self.reading, "the stream told no cost", ended=over)
        self._end_stream()

    def _end_stream(self) -> None:
        """End a stream in order if it showed its own end, by any sign; else tell the client that it broke off."""
        reading = self.reading
        if reading.terminal or reading.finish is not None or reading.usage is not None or reading.error:
            self._downstream.finish()
        else:
            self.break_off()

    def _take_chunk(self, chunk: bytes) -> None:
        """Relay the events that a part of a stream completes, each once it is read."""
        if not self._decoder.pending and self._outline.fits(chunk):  # as nearly always: it says nothing new
            self.events_count += 1
            self._downstream.write(self._key.redact(chunk))
            has_data = True
        else:
            has_data = self._relay(self._decoder.feed(chunk))
        if self._downstream.closed:
            self.tighten(has_data=has_data)

    def _relay(self, events: Sequence[sse.Event]) -> bool:
        """Read events, and send them down; True if one has data."""
        has_data = False
        for event in events:
            if event.skipped:
                continue
            if self._outline.fits(event.raw):
                has_data = True
                self.events_count += 1
            elif (event := sse.parse(event.raw)).data:
                has_data = True
                self.events_count += 1
                self._read(new := self._shape.read_event(event))
                self._outline.note(b"" if new.tool_names else event.raw)
                if self.reading.terminal and not self._settlement.ended:
                    self._settle()  # before the bytes below go down (M10 step 6)
        self._downstream.write(self._key.redact(b"".join([event.raw for event in events])))
        return has_data

    async def _document(self, response: UpstreamAnswer) -> None:
        await response.pour(self._take_part)
        if self._parts is None:
            self._downstream.finish()
            return
        body = b"".join(self._parts)  # no copy of a single one
        self._read(self._shape.read_body(body))
        if not self._settle():
            self._settlement.unknown(self.reading, "the answer told no cost", ended=True)
        self._downstream.answer(*self._head, self._key.redact(body))

    def _take_part(self, part: bytes) -> None:
        """Relay leading white space at once, because it keeps clients waiting; hold the document back until its cost is posted."""
        if self._parts is None:
            self._downstream.write(part)
        elif not self._parts and part[0] in b" \t\r\n" and not part.strip(b" \t\r\n"):
            self._downstream.start(*self._head)
            self._downstream.write(part)
        else:
            self._parts.append(part)
            self._parts_bytes += len(part)
            if self._parts_bytes > WHOLE_BODY_BYTES_MAX:
                self._leave_unread()
        if self._downstream.closed:
            self.tighten(has_data=True)

    def _leave_unread(self) -> None:
        """Relay an answer that cannot be read from here on, because it is compressed or huge; its cost is unknown."""
        parts, self._parts = self._parts, None
        self._settlement.unknown(self.reading, "the answer cannot be read", ended=False)
        self._downstream.start(*self._head)
        self._downstream.write(b"".join(parts or []))

    def _read(self, new: Reading) -> None:
        """Merge what a body or an event says; an id in it is durable before its bytes go down (M10 step 4)."""
        if new.generation_id != self.reading.generation_id:
            try:
                self._settlement.named(generation_id(new.generation_id))
            except LedgerError:
                _log.error("call.not_posted", reservation=self._settlement.reservation.id)
        self.reading = self.reading.then(new)

    def _settle(self) -> bool:
        """Post the cost that upstream reported; False if it reported none. A cached answer without a cost is free (M16).

        If the cost cannot be written, the answer goes on and its reservation stays pending on disk for the next start (M21, store).
        """
        usage = self.reading.usage
        cost_pusd = usage.cost_pusd if usage is not None else None
        if cost_pusd is None and self._cache_hit:
            cost_pusd = 0
        if cost_pusd is None:
            return False
        try:
            self._settlement.post(self.reading, cost_pusd, cache_hit=self._cache_hit)
        except LedgerError:
            _log.error("call.not_posted", reservation=self._settlement.reservation.id)
        return True

    def tighten(self, *, has_data: bool = False) -> None:
        """Bring the time limit forward once the client has left (M17).

        Args:
            has_data: Data came just now.
        """
        if not self._is_running or not self._downstream.closed:
            return
        now_s = self._clock.monotonic_s()
        if self._detached_at_s is None:
            self._detached_at_s = self._data_at_s = now_s
        elif has_data:
            self._data_at_s = now_s
        ends_s = min(
            self._began_at_s + CALL_S_MAX,
            self._detached_at_s + CALL_DRAIN_S_MAX,
            self._data_at_s + CALL_SILENCE_S_MAX,
        )
        self._limit.end_in(ends_s - now_s)

    def break_off(self) -> None:
        """Tell the client that upstream broke off, in the form that its API's clients retry. A bare end would look like success."""
        self.failure = BROKE_OFF
        self._say_last(502, BROKEN, "provider_unavailable")

    def end(self, sentence: str) -> None:
        """End the answer for a reason of ours, in the form on which clients give up."""
        self._say_last(402, sentence, "payment_required", ("x-should-retry", "false"))

    def _say_last(self, status: int, text: str, error_type: str, *headers: tuple[str, str]) -> None:
        """An error event in a stream; else an error document, after white space if that has gone down."""
        if self._streamed and self._downstream.started:
            self._downstream.finish(self._shape.cut(self.reading, self.events_count, text, error_type))
            return
        body = self._shape.refusal(status, text, error_type)
        self._downstream.answer(status, [("Content-Type", "application/json"), *headers], body)


@lru_cache(maxsize=8)
def _is_event_stream(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"
