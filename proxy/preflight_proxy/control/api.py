"""Serves the control socket, on which the runner opens, freezes, limits and closes accounts.

A client of this socket can change limits: the socket is 0600, and its peer must be the proxy's own user. The stream of
`GET /events` is the run's control connection, which `runner_watch` watches.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, unquote

import msgspec
from aiohttp import web

from preflight_proxy.base.config import VERSION, origin
from preflight_proxy.base.control_messages import (
    HEARTBEAT,
    UNKNOWN_ACCOUNT,
    AccountList,
    AccountSpec,
    ClearAnswer,
    ControlMessage,
    FreezeOrder,
    Health,
    LedgerEvent,
    NewAccount,
    NewLimit,
    OpenedAccount,
    Problem,
    ProblemFacts,
    QuarantineList,
    StopAnswer,
    StopOrder,
    TopUp,
    decode,
    encode,
)
from preflight_proxy.control.accounts import Accounts
from preflight_proxy.control.runner_watch import RunnerWatch
from preflight_proxy.control.standalone_accounts import StandaloneAccounts
from preflight_proxy.core.errors import LedgerError, OperatingError
from preflight_proxy.core.ledger.commands import ClearQuarantine
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.server.listeners import bind_unix

CLOSE_S_MAX = 1.0
"""At the end, requests that run have this long to end."""
HEARTBEAT_S = 1.0
"""A follower gets a line at least this often, so that both sides notice a dead connection."""

_M = TypeVar("_M", bound=ControlMessage)


class Control:
    """Serves the control socket.

    Args:
        ledger: Read for balances.
        accounts: Opens, freezes and closes accounts.
        watch: Counts the followers of the run.
        run: The run that `POST /stop` stops, if any.
        upstream: Named in `/health`.

    Attributes:
        base_url: Named in `/health`: the API base of the TCP listener, or None.
        named: The accounts of a stand-alone proxy; None for a run's, which its runner opens and closes.
    """

    def __init__(
        self, ledger: Ledger, accounts: Accounts, watch: RunnerWatch, *, run: str | None, upstream: str
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._watch = watch
        self._run = run
        self._upstream = upstream
        self._runner: web.ServerRunner | None = None
        self._born_s = ledger.clock.monotonic_s()
        self.base_url: str | None = None
        self.named: StandaloneAccounts | None = None

    async def listen(self, path: Path) -> None:
        """Serve on a unix socket that only this user can open.

        Raises:
            OSError: The path cannot be bound.
        """
        server = web.Server(self.handle, handler_cancellation=True, auto_decompress=False, access_log=None)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=CLOSE_S_MAX)
        await self._runner.setup()
        sock = bind_unix(path, 0o600)
        try:
            await web.SockSite(self._runner, sock).start()
        except BaseException:
            sock.close()
            raise

    async def close(self) -> None:
        """End every connection of the control socket."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if (reason := _foreign_peer(request)) is not None:
            return _problem(403, "peer", reason)
        try:
            return await self._route(request)
        except web.HTTPRequestEntityTooLarge:
            return _problem(413, "invalid_request", "The message is too large.")
        except web.HTTPUnsupportedMediaType:
            return _problem(415, "invalid_request", "Compressed messages are not taken.")
        except KeyError as exc:
            return _problem(404, UNKNOWN_ACCOUNT, f"There is no account {exc.args[0]!r}.")
        except LedgerError as exc:
            return _problem(503, "ledger", str(exc))
        except OperatingError as exc:
            return _problem(502, "operation", str(exc))
        except (msgspec.MsgspecError, ValueError) as exc:
            return _problem(400, "invalid_request", str(exc))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        """Do what a request says. One that changes an account is answered with its balance."""
        path, _, query_text = request.raw_path.partition("?")
        query = {name: values[-1] for name, values in parse_qs(query_text).items()}
        parts = [unquote(part) for part in path.strip("/").split("/")]
        ledger, named = self._ledger, self.named
        if named is not None and request.method != "PUT" and parts[0] == "accounts" and len(parts) > 1:
            named.check(parts[1])
        match (request.method, parts):
            case ("GET", ["health"]):
                uptime_s = round(ledger.clock.monotonic_s() - self._born_s, 1)
                return _answer(Health(os.getpid(), VERSION, self.base_url, self._upstream, uptime_s))
            case ("GET", ["events"]):
                return await self._events(request, query.get("run"), int(query.get("cursor", "0")))
            case ("POST", ["stop"]):
                return _answer(StopAnswer(await self._stop(await self._body(request, StopOrder))))
            case ("GET", ["quarantine"]):
                return _answer(QuarantineList(tuple(sorted(ledger.store.state.quarantined))))
            case ("DELETE", ["quarantine"]):
                is_ours = origin(query.get("upstream", self._upstream)) == origin(self._upstream)
                if is_ours:
                    ledger.commit(ClearQuarantine(query.get("model", ""), query.get("tag", "")))
                return _answer(ClearAnswer(is_ours))
            case ("GET", ["accounts"]):
                names = ledger.accounts() if named is None else named.names()
                return _answer(AccountList(tuple(map(ledger.balance, names))))
            case ("POST", ["accounts"]) if named is not None:
                new = await self._body(request, NewAccount)
                token = await named.add(new.name, new.limit_pusd)
                return _answer(OpenedAccount(**msgspec.structs.asdict(ledger.balance(new.name)), api_key=token))
            case ("GET", ["accounts", account_id]):
                pass
            case ("PUT", ["accounts", account_id]) if named is None:
                await self._accounts.open(account_id, await self._body(request, AccountSpec))
            case ("PATCH", ["accounts", account_id]):
                self._accounts.set_limit(account_id, (await self._body(request, NewLimit)).limit_pusd)
            case ("POST", ["accounts", account_id, "top-up"]):
                self._accounts.top_up(account_id, (await self._body(request, TopUp)).more_pusd)
            case ("POST", ["accounts", account_id, "freeze"]):
                await self._accounts.freeze(account_id, (await self._body(request, FreezeOrder)).reason)
            case ("POST", ["accounts", account_id, "unfreeze"]):
                self._accounts.unfreeze(account_id)
            case ("DELETE", ["accounts", account_id]) if named is not None:
                await named.remove(account_id)
            case ("DELETE", ["accounts", account_id]):
                if ledger.account(account_id).pending_pusd and query.get("force") != "1":
                    return _problem(409, "pending", "Something is still pending; `?force=1` closes all the same.")
                await self._accounts.close(account_id)
            case _:
                return _problem(404, "unknown_path", f"The control socket does not serve {request.method} {path}.")
        return _answer(ledger.balance(account_id))

    async def _stop(self, stop: StopOrder) -> tuple[str, ...]:
        """Freeze the accounts of one trial, or of all, and ask the runner to end them."""
        chosen = tuple(
            account.id
            for account in self._ledger.accounts().values()
            if account.run == self._run and account.frozen is None and stop.trial in (None, account.id)
        )
        self._ledger.events.publish("stop", "", run=self._run, trial=stop.trial, reason=stop.reason)
        await asyncio.gather(*(self._accounts.freeze(account_id, stop.reason) for account_id in chosen))
        return chosen

    async def _body(self, request: web.BaseRequest, kind: type[_M]) -> _M:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise web.HTTPUnsupportedMediaType
        return decode(await request.read() or b"{}", kind)

    async def _events(self, request: web.BaseRequest, run: str | None, cursor: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await self._watch.comes(run)
        try:
            async with aclosing(self._ledger.events.follow(cursor, HEARTBEAT_S)) as events:
                async for event in events:
                    if event is None or run is None or self._belongs(event, run):
                        await response.write(encode(event or HEARTBEAT) + b"\n")
        except ConnectionError:
            pass
        finally:
            self._watch.goes(run)
        return response

    def _belongs(self, event: LedgerEvent, run: str) -> bool:
        account = self._ledger.accounts().get(event.account or "")
        return event.run == run if account is None else account.run == run


def _foreign_peer(request: web.BaseRequest) -> str | None:
    """Return why the peer is refused; None for the proxy's user and root. The socket's mode refuses other users too."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    sock = request.get_extra_info("socket")
    if sock is None:
        return "The user of this connection is not known."
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return None if uid in (os.getuid(), 0) else "Only the user who runs the proxy may use its control socket."


def _answer(message: ControlMessage, status: int = 200) -> web.Response:
    return web.Response(status=status, body=encode(message), content_type="application/json")


def _problem(status: int, code: str, message: str) -> web.Response:
    return _answer(Problem(ProblemFacts(code, message)), status)
