"""Answers Anthropic's `count_tokens` without OpenRouter, which has no such path: by an estimate, for every model, for nothing.

Source: docs.anthropic.com/en/api/messages-count-tokens, 2026-10.
"""

from __future__ import annotations

import msgspec

from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.core.pricing.token_count import token_count
from preflight_proxy.core.refusals.refusals import budget_headers
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.server.intake import Intake, IntakeError
from preflight_proxy.server.request import ServerRequest
from preflight_proxy.server.response import JSON_HEADER

_MESSAGES = SHAPES["/messages"]


class TokenCounts:
    """Counts the tokens of messages for clients that ask before they send.

    A count reserves and costs nothing. So an account may count whatever it has left, and for models that it may not call.

    Args:
        ledger: The balances that go into the headers.
        intake: Reads the bodies, within the limits of those of calls.
        reader: Parses them, in turns with those of calls.
    """

    def __init__(self, ledger: Ledger, intake: Intake, reader: RequestReader) -> None:
        self._ledger = ledger
        self._intake = intake
        self._reader = reader

    async def serve(self, request: ServerRequest, account_id: str) -> None:
        """Answer one request: the count, or why the body cannot be read."""
        response = request.response
        try:
            body = await self._intake.read(request, account_id)
        except IntakeError as exc:
            refusal = _MESSAGES.refusal(exc.status, exc.message, "invalid_request")
            response.answer(exc.status, [JSON_HEADER], refusal, close=True)
            return
        try:
            tokens = await self._count(account_id, body)
        except BadRequest as exc:
            response.answer(exc.status, [JSON_HEADER], _MESSAGES.refusal(exc.status, exc.message, exc.code))
        else:
            headers = [JSON_HEADER, *budget_headers(self._ledger.account(account_id))]
            response.answer(200, headers, msgspec.json.encode({"input_tokens": tokens}))
        finally:
            self._intake.leave(len(body), account_id)

    async def _count(self, account_id: str, body: bytes) -> int:
        parsed = await self._reader.read(account_id, _MESSAGES, body)
        return await self._reader.run(account_id, token_count(_MESSAGES, parsed), len(body))
