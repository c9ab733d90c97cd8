"""Writes an answer at its pace, and charges the call when its provider finishes or is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain

from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError
from msgspec.structs import replace

from openrouter_sim.base.errors import ApiError
from openrouter_sim.base.jsonio import encode
from openrouter_sim.billing.account import SimAccount
from openrouter_sim.calls.call import COMMENT, Cut, Frame, SimCall, SimShape


def error_answer(shape: SimShape, error: ApiError, generation_id: str | None) -> web.Response:
    """Return an error in the form of the API."""
    headers = dict(error.headers)
    if generation_id is not None:
        headers["X-Generation-Id"] = generation_id
    if error.is_page:
        page = f"<html><body><h1>{error.status} {error.message}</h1></body></html>"
        return web.Response(status=error.status, text=page, content_type="text/html", headers=headers)
    body = encode(shape.error(error, generation_id))
    return web.Response(status=error.status, body=body, content_type="application/json", headers=headers)


async def answer(account: SimAccount, call: SimCall, request: web.Request) -> web.StreamResponse:
    """Return the answer of a call after it was sent. The call is charged, also if its client left."""
    headers = {"X-Generation-Id": call.id} if call.shows_id else {}
    for fault in call.faults:
        fault.set_headers(call, headers)
    writer = _Writer(account, call, request)
    try:
        if call.request.stream:
            headers.setdefault("Content-Type", "text/event-stream")
            headers["Cache-Control"] = "no-cache"
            return await writer.send(headers, _stream(call))
        return await _whole(writer, headers)
    finally:
        writer.close()


async def _whole(writer: _Writer, headers: dict[str, str]) -> web.StreamResponse:
    call = writer.call
    await _pause(call.scenario.first_token_s + _pace_s(call, call.tokens.completion))
    body = call.shape.whole(call)
    for fault in call.faults:
        body = fault.whole(call, body)
    headers["Content-Type"] = "application/json"
    frame = Frame(encode(body), call.tokens.completion, settles=True)
    if call.faults:
        return await writer.send(headers, iter((frame,)))
    writer.settle(call.tokens.completion)
    return web.Response(body=frame.data, headers=headers)


def _stream(call: SimCall) -> Iterator[Frame]:
    frames = chain((Frame(COMMENT) for _ in range(call.scenario.comments)), call.shape.frames(call))
    if not call.scenario.crlf:
        return frames
    return (replace(frame, data=frame.data.replace(b"\n", b"\r\n")) for frame in frames)


class _Writer:
    """Sends the frames of one answer."""

    def __init__(self, account: SimAccount, call: SimCall, request: web.Request) -> None:
        self.call = call
        self._account = account
        self._request = request
        self._sent_tokens = 0
        self._is_gone = False

    def settle(self, tokens: int) -> None:
        self.call.settle(self._account, tokens, self.call.outcome)

    async def send(self, headers: dict[str, str], frames: Iterator[Frame]) -> web.StreamResponse:
        call = self.call
        for fault in call.faults:
            frames = fault.frames(call, frames)
        response = web.StreamResponse(headers=headers)
        await response.prepare(self._request)
        if call.request.stream:
            await self._wait(call.scenario.first_token_s)
        for frame in frames:
            if await self._send_frame(response, frame):
                return response
        if not self._is_gone:
            await response.write_eof()
            for fault in call.faults:
                fault.end(self._request)
        return response

    async def _send_frame(self, response: web.StreamResponse, frame: Frame) -> bool:
        call = self.call
        await self._wait(frame.wait_s + (_pace_s(call, frame.tokens - self._sent_tokens) if call.request.stream else 0))
        if self._is_gone and call.endpoint.stops_on_disconnect and call.request.stream:
            return True
        self._sent_tokens = max(self._sent_tokens, frame.tokens)
        if frame.settles:
            self.settle(frame.tokens)
        await self._write(response, frame)
        if frame.cut is not None:
            self._cut(frame.cut)
        # After the client left, the loop goes on only until the provider has finished and the call is charged.
        return frame.cut is Cut.END or (self._is_gone and (call.generation is not None or _is_endless(call)))

    async def _write(self, response: web.StreamResponse, frame: Frame) -> None:
        if self._is_gone or not frame.data:
            return
        try:
            await response.write(frame.data)
        except ClientConnectionResetError:
            self._is_gone = True

    async def _wait(self, wait_s: float) -> None:
        await _pause(wait_s)
        transport = self._request.transport
        if transport is None or transport.is_closing():
            self._is_gone = True

    def _cut(self, cut: Cut) -> None:
        transport = self._request.transport
        if transport is None or cut is Cut.END:
            return
        if cut is Cut.ABORT:
            transport.abort()
        else:
            transport.close()
        self._is_gone = True

    def close(self) -> None:
        """Charge the call if it is not charged yet: for the tokens sent, or for all if the provider does not stop."""
        call = self.call
        if call.generation is not None:
            return
        if call.outcome == "error":
            self.settle(self._sent_tokens)
            return
        is_stopped = call.request.stream and call.endpoint.stops_on_disconnect
        call.settle(self._account, self._sent_tokens if is_stopped else call.tokens.completion, "cancelled")


def _is_endless(call: SimCall) -> bool:
    return any(fault.is_endless for fault in call.faults)


def _pace_s(call: SimCall, tokens: int) -> float:
    pace = call.scenario.tokens_per_s
    return max(0, tokens) / pace if pace else 0.0


async def _pause(wait_s: float) -> None:
    if wait_s > 0:
        await asyncio.sleep(wait_s)
