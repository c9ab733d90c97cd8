"""The control plane: a private unix socket on which the runner opens, freezes, limits and closes accounts.

Whoever reaches this socket can move limits: it is 0600, and its peer must be the proxy's own user. The stream of
`GET /events` is the run's control connection, which `runner_watch` watches.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import aclosing
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
    FreezeOrder,
    Health,
    LedgerEvent,
    Message,
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
from preflight_proxy.server.intake import Intake, IntakeError

HEARTBEAT_S = 1.0
"""A follower hears at least this often, so that both ends notice a dead connection."""

_M = TypeVar("_M", bound=Message)


class RequestRefusedError(Exception):
    """A request on the control socket that cannot be carried out."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Control:
    """Serves the control socket.

    Args:
        ledger: Read for balances.
        accounts: Opens, freezes and closes accounts.
        watch: Told who follows which run.
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
        self._intake = Intake()
        self._born_s = ledger.clock.monotonic_s()
        self.base_url: str | None = None
        self.named: StandaloneAccounts | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            _check_peer(request)
            return await self._route(request)
        except RequestRefusedError as exc:
            return _problem(exc.status, exc.code, exc.message)
        except IntakeError as exc:
            return _problem(exc.status, "invalid_request", exc.message)
        except KeyError as exc:
            return _problem(404, UNKNOWN_ACCOUNT, f"There is no account {exc.args[0]!r}.")
        except LedgerError as exc:
            return _problem(503, "ledger", str(exc))
        except OperatingError as exc:
            return _problem(502, "operation", str(exc))
        except (msgspec.MsgspecError, ValueError) as exc:
            return _problem(400, "invalid_request", str(exc))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query_text = request.raw_path.partition("?")
        query = {name: values[-1] for name, values in parse_qs(query_text).items()}
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if self.named is not None and (answer := await self._route_named(request, parts, self.named)) is not None:
            return answer
        match (request.method, parts):
            case ("GET", ["health"]):
                return _answer(self._health())
            case ("GET", ["accounts"]):
                return _answer(AccountList(tuple(map(self._ledger.balance, self._ledger.accounts()))))
            case ("GET", ["accounts", account_id]):
                return _answer(self._ledger.balance(account_id))
            case ("PUT", ["accounts", account_id]):
                spec = await self._body(request, AccountSpec)
                await self._accounts.open(account_id, spec)
                return _answer(self._ledger.balance(account_id))
            case ("PATCH", ["accounts", account_id]):
                limit = await self._body(request, NewLimit)
                self._accounts.set_limit(account_id, limit.limit_pusd)
                return _answer(self._ledger.balance(account_id))
            case ("POST", ["accounts", account_id, "top-up"]):
                top_up = await self._body(request, TopUp)
                self._accounts.top_up(account_id, top_up.more_pusd)
                return _answer(self._ledger.balance(account_id))
            case ("POST", ["accounts", account_id, "freeze"]):
                freeze = await self._body(request, FreezeOrder)
                await self._accounts.freeze(account_id, freeze.reason)
                return _answer(self._ledger.balance(account_id))
            case ("POST", ["accounts", account_id, "unfreeze"]):
                self._accounts.unfreeze(account_id)
                return _answer(self._ledger.balance(account_id))
            case ("POST", ["stop"]):
                stop = await self._body(request, StopOrder)
                return _answer(StopAnswer(await self._stop(stop)))
            case ("DELETE", ["accounts", account_id]):
                if self._ledger.account(account_id).pending_pusd and query.get("force") != "1":
                    raise RequestRefusedError(
                        409, "pending", "Something is still pending; `?force=1` closes all the same."
                    )
                await self._accounts.close(account_id)
                return _answer(self._ledger.balance(account_id))
            case ("GET", ["events"]):
                return await self._events(request, query.get("run"), int(query.get("cursor", "0")))
            case ("GET", ["quarantine"]):
                return _answer(QuarantineList(tuple(sorted(self._ledger.store.book.quarantined))))
            case ("DELETE", ["quarantine"]):
                mine = origin(query.get("upstream", self._upstream)) == origin(self._upstream)
                if mine:
                    self._ledger.commit(ClearQuarantine(query.get("model", ""), query.get("tag", "")))
                return _answer(ClearAnswer(mine))
        raise RequestRefusedError(404, "unknown_path", f"The control socket does not serve {request.method} {path}.")

    async def _route_named(
        self, request: web.BaseRequest, parts: list[str], named: StandaloneAccounts
    ) -> web.StreamResponse | None:
        """What is otherwise for the accounts of a stand-alone proxy; None for what is not."""
        match (request.method, parts):
            case ("GET", ["accounts"]):
                return _answer(AccountList(tuple(map(self._ledger.balance, named.names()))))
            case ("POST", ["accounts"]):
                new = await self._body(request, NewAccount)
                token = await named.add(new.name, new.limit_pusd)
                return _answer(OpenedAccount(**msgspec.structs.asdict(self._ledger.balance(new.name)), api_key=token))
            case ("PUT", ["accounts", _]):
                raise RequestRefusedError(404, "unknown_path", "This proxy opens its accounts itself: POST /accounts.")
            case ("DELETE", ["accounts", name]):
                await named.remove(name)
                return _answer(self._ledger.balance(name))
            case (_, ["accounts", name, *_]):
                named.check(name)
        return None

    def _health(self) -> Health:
        uptime_s = round(self._ledger.clock.monotonic_s() - self._born_s, 1)
        return Health(os.getpid(), VERSION, self.base_url, self._upstream, uptime_s)

    async def _stop(self, stop: StopOrder) -> tuple[str, ...]:
        """Ask the runner to end one trial, or all; their accounts are frozen first hand, whatever the runner does."""
        chosen = tuple(
            account.id
            for account in self._ledger.accounts().values()
            if account.run == self._run and account.frozen is None and stop.trial in (None, account.id)
        )
        self._ledger.events.publish("stop", "", run=self._run, trial=stop.trial, reason=stop.reason)
        await asyncio.gather(*(self._accounts.freeze(account_id, stop.reason) for account_id in chosen))
        return chosen

    async def _body(self, request: web.BaseRequest, kind: type[_M]) -> _M:
        async with self._intake.body(request) as body:
            return decode(body.data or b"{}", kind)

    # Events

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


def _check_peer(request: web.BaseRequest) -> None:
    """Refuse a peer of another user; the socket's mode does so too, where its directory was not opened."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    sock = request.get_extra_info("socket")
    if sock is None:
        raise RequestRefusedError(403, "peer", "Whoever asks here has to be known.")
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (os.getuid(), 0):
        raise RequestRefusedError(403, "peer", "Only the user who runs the proxy may use its control socket.")


def _answer(message: Message, status: int = 200) -> web.Response:
    return web.Response(status=status, body=encode(message), content_type="application/json")


def _problem(status: int, code: str, message: str) -> web.Response:
    return _answer(Problem(ProblemFacts(code, message)), status)
