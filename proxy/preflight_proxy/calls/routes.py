"""Finds out which account sends a request, and which path it is for. Paths are an exact list; all others are refused.

The account follows from the trial token. On a gate's listeners it follows from the listener, and the token must be that account's
as well (C2, account of a listener).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache, partial

import msgspec

from preflight_proxy.calls.free_reads import FreeReads, failure
from preflight_proxy.calls.paid_calls import PaidCalls
from preflight_proxy.calls.quoting import Caller
from preflight_proxy.calls.token_counts import TokenCounts
from preflight_proxy.core.ledger.rows import CLOSED
from preflight_proxy.core.refusals.refusals import error_body
from preflight_proxy.core.shapes.paths import API, CALLS, COUNTS, dialect, read_path, wrong_path
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.server.http_server import Handler
from preflight_proxy.server.request import ServerRequest
from preflight_proxy.server.response import JSON_HEADER, ClientResponse

QUERIES = frozenset({"beta=true"})
"""Query strings that go upstream with an inference request: Anthropic's SDK adds the one."""
HEALTH = "/health"
"""Beside the API, so that it is no path of OpenRouter's."""
TOKEN_CHARS_MAX = 512
_TOKEN_HEADERS = ("authorization", "x-api-key")
"""A request has one token: each of these comes once, if at all."""
STOPPING = "The budget proxy is being stopped. Nothing was sent."
UNKNOWN_CLIENT = "This token is not known to the budget proxy."


def hash_token(token: str) -> str:
    """Return what the store keeps of a trial token: its SHA-256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


class Routes:
    """Sends agents' requests to what serves their path.

    Args:
        ledger: Accounts by token.
        paid_calls: The paths that spend money.
        free_reads: The paths that do not.
        token_counts: The path that counts tokens.

    Attributes:
        closing: True once the proxy is about to stop: nothing new is admitted.
    """

    def __init__(self, ledger: Ledger, paid_calls: PaidCalls, free_reads: FreeReads, token_counts: TokenCounts) -> None:
        self._ledger = ledger
        self._paid_calls = paid_calls
        self._free_reads = free_reads
        self._token_counts = token_counts
        self.closing = False

    def handler(self, account_id: str | None = None) -> Handler:
        """Return the handler of one listener.

        Args:
            account_id: The account that the listener belongs to; None where the token alone decides.
        """
        return partial(self._handle, bound_to=account_id)

    async def _handle(self, request: ServerRequest, bound_to: str | None) -> None:
        path, _, query = request.target.partition("?")
        response = request.response
        if path == HEALTH and request.method in ("GET", "HEAD"):
            self._health(response)
            return
        if request.method == "HEAD" and path in ("/", "/api", "/api/", API, API + "/"):
            response.answer(200, [], b"")  # Claude Code probes the base URL without a token
            return
        shape = CALLS.get(path) if request.method == "POST" else None
        spoken = shape or dialect(path)
        if "upgrade" in request.headers and _wants_websocket(request):
            _require_upgrade(response, spoken)
            return
        if self.closing:
            _refuse(response, spoken, 503, STOPPING, "provider_overloaded")
            return
        caller = self._authenticate(request, bound_to)
        below = read_path(path) if request.method == "GET" else None
        if caller is None:
            await self._serve_unknown(request, bound_to, spoken, below, is_call=shape is not None)
        elif shape is not None:
            if "expect" not in request.headers or _invites(request):
                sent_query = f"?{query}" if query in QUERIES else ""
                await self._paid_calls.serve(request, Caller(*caller, shape, sent_query))
        elif request.method == "POST" and path in COUNTS:
            if "expect" not in request.headers or _invites(request):
                await self._token_counts.serve(request, caller[0])
        elif below is not None and (answer := await self._free_reads.serve(below, query, caller[0])) is not None:
            response.answer(*answer)
        else:
            status, text = wrong_path(path, f"{request.scheme}://{request.headers.get('host') or ''}")
            if request.method == "POST":
                self._ledger.note_bad_request(caller[0], text)
            error_type = "not_found" if status == 404 else "invalid_request"
            _refuse(response, spoken, status, text, error_type, close=False)

    async def _serve_unknown(
        self, request: ServerRequest, bound_to: str | None, spoken: Shape | None, below: str | None, *, is_call: bool
    ) -> None:
        """Answer a request without a token that is valid here: lists of models need none, if it has none at all."""
        if bound_to is not None and is_call and not self._is_closed(bound_to):
            self._ledger.note_bad_request(bound_to, UNKNOWN_CLIENT)
        headers = request.headers
        if below is not None and not ("authorization" in headers or "x-api-key" in headers):
            answer = await self._free_reads.serve_models(below, has_token=False)
            if answer is not None:
                request.response.answer(*answer)
                return
        _refuse(request.response, spoken, 401, UNKNOWN_CLIENT, "authentication")

    def _health(self, response: ClientResponse) -> None:
        """Say whether calls are taken. The answer is public, so it holds no account and no figure; it reads memory alone."""
        wrong = (
            "the ledger cannot be written" if not self._ledger.store.reserves else "draining" if self.closing else None
        )
        response.answer(503 if wrong else 200, [JSON_HEADER], msgspec.json.encode({"status": wrong or "ok"}))

    def _authenticate(self, request: ServerRequest, bound_to: str | None) -> tuple[str, str] | None:
        """The account of the request's token, and the token's hash; None without a token that is valid here."""
        headers = request.headers
        if len(headers) != len(headers.pairs) and any(len(headers.all(name)) > 1 for name in _TOKEN_HEADERS):
            return None
        token_hash = _token_hash(headers.get("authorization", ""), headers.get("x-api-key", ""))
        if token_hash is None:
            return None
        account_id = self._ledger.sessions.by_token(token_hash)
        if account_id is None or (bound_to is not None and account_id != bound_to) or self._is_closed(account_id):
            return None
        return account_id, token_hash

    def _is_closed(self, account_id: str) -> bool:
        """True if closed, or frozen without a key: such an account is not about to be opened, so its calls do not wait for that."""
        frozen_reason = self._ledger.account(account_id).frozen_reason
        return frozen_reason == CLOSED or (
            frozen_reason is not None and self._ledger.account_state(account_id).key is None
        )


def _wants_websocket(request: ServerRequest) -> bool:
    """Whether an `Upgrade` is to WebSocket; an offer of any other protocol is ignored, as RFC 9110, section 7.8 allows."""
    offers = ",".join(request.headers.all("upgrade")).lower().split(",")
    return any(offer.strip().partition("/")[0] == "websocket" for offer in offers)


def _require_upgrade(response: ClientResponse, shape: Shape | None) -> None:
    """Refuse WebSocket. Only after this status does Codex send the same request by HTTP.

    Source: codex-rs of openai/codex, 2026-10; RFC 9110, section 15.5.22, for the headers.
    """
    response.extra = [("Upgrade", "HTTP/1.1"), ("Connection", "Upgrade, close")]
    _refuse(response, shape, 426, "WebSocket is not spoken here. Send the request by HTTP.", "invalid_request")


def _invites(request: ServerRequest) -> bool:
    """Answer `Expect: 100-continue` so that the client sends its body; refuse any other expectation, and return False."""
    if request.headers["expect"].lower() != "100-continue":
        request.response.answer(*failure(417, "Only `Expect: 100-continue` is understood.", "invalid_request"))
        return False
    request.response.invite()
    return True


@lru_cache(maxsize=64)
def _token_hash(authorization: str, api_key: str) -> str | None:
    """The hash of the token in these headers; None if there is none. An agent sends the same one with every call.

    Clients of Anthropic's API that have both variables set send the empty one too.
    """
    scheme, _, token = authorization.strip().partition(" ")
    if scheme and scheme.lower() != "bearer":
        return None
    token = token.strip() or api_key.strip()
    return hash_token(token) if token.isascii() and 0 < len(token) <= TOKEN_CHARS_MAX else None


def _refuse(
    response: ClientResponse, shape: Shape | None, status: int, message: str, error_type: str, *, close: bool = True
) -> None:
    """Answer an error; `close` where the body was not read, because it must not be parsed as the next request."""
    body = error_body(shape, status, message, error_type)
    response.answer(status, [JSON_HEADER, ("x-should-retry", "false")], body, close=close)
