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
from typing import TypeVar
from urllib.parse import parse_qs, unquote

import msgspec

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
from preflight_proxy.ledger.shared_counts import SharedCounts
from preflight_proxy.server.intake import Intake, IntakeError
from preflight_proxy.server.request import ServerRequest
from preflight_proxy.server.response import JSON_HEADER

MESSAGE_BYTES_MAX = 2**20
"""One message of a client."""
HEARTBEAT_S = 1.0
"""A follower gets a line at least this often, so that both sides notice a dead connection."""

_M = TypeVar("_M", bound=ControlMessage)
_Answer = tuple[int, ControlMessage]
"""Status and message."""


class Control:
    """Serves the control socket.

    Args:
        ledger: Read for balances.
        accounts: Opens, freezes and closes accounts.
        watch: Counts the followers of the run.
        shared_counts: What a cleared endpoint was counted by is cleared there too.
        run: The run that `POST /stop` stops, if any.
        upstream: Named in `/health`.

    Attributes:
        base_url: Named in `/health`: the API base of the TCP listener, or None.
        named: The accounts of a stand-alone proxy; None for a run's, which its runner opens and closes.
    """

    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        watch: RunnerWatch,
        shared_counts: SharedCounts,
        *,
        run: str | None,
        upstream: str,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._watch = watch
        self._shared_counts = shared_counts
        self._run = run
        self._upstream = upstream
        self._intake = Intake(body_bytes_max=MESSAGE_BYTES_MAX)
        self._born_s = ledger.clock.monotonic_s()
        self.base_url: str | None = None
        self.named: StandaloneAccounts | None = None

    async def handle(self, request: ServerRequest) -> None:
        """Answer one request."""
        if (reason := _foreign_peer(request)) is not None:
            answer: _Answer | None = _problem(403, "peer", reason)
        else:
            answer = await self._answer_of(request)
        if answer is not None:
            status, message = answer
            request.response.answer(status, [JSON_HEADER], encode(message))

    async def _answer_of(self, request: ServerRequest) -> _Answer | None:
        try:
            return await self._route(request)
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

    async def _route(self, request: ServerRequest) -> _Answer | None:
        """Do what a request says. One that changes an account is answered with its balance; None if it is answered already."""
        path, _, query_text = request.target.partition("?")
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
                await self._events(request, query.get("run"), int(query.get("cursor", "0")))
                return None
            case ("POST", ["stop"]):
                return _answer(StopAnswer(await self._stop(await self._body(request, StopOrder))))
            case ("GET", ["quarantine"]):
                return _answer(QuarantineList(tuple(sorted(ledger.store.state.quarantined))))
            case ("DELETE", ["quarantine"]):
                is_ours = origin(query.get("upstream", self._upstream)) == origin(self._upstream)
                if is_ours:
                    model, tag = query.get("model", ""), query.get("tag", "")
                    ledger.commit(ClearQuarantine(model, tag))
                    self._shared_counts.clear_factor(model, tag)
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

    async def _body(self, request: ServerRequest, kind: type[_M]) -> _M:
        body = await self._intake.read(request)
        self._intake.leave(len(body))  # what is decoded next is this turn's alone
        return decode(body or b"{}", kind)

    async def _events(self, request: ServerRequest, run: str | None, cursor: int) -> None:
        request.response.start(200, [("Content-Type", "application/x-ndjson")])
        await self._watch.comes(run)
        try:
            async with aclosing(self._ledger.events.follow(cursor, HEARTBEAT_S)) as events:
                async for event in events:
                    if request.response.closed:
                        break
                    if event is None or run is None or self._belongs(event, run):
                        request.response.write(encode(event or HEARTBEAT) + b"\n")
        finally:
            self._watch.goes(run)
        request.response.finish()

    def _belongs(self, event: LedgerEvent, run: str) -> bool:
        account = self._ledger.accounts().get(event.account or "")
        return event.run == run if account is None else account.run == run


def _foreign_peer(request: ServerRequest) -> str | None:
    """Return why the peer is refused; None for the proxy's user and root. The socket's mode refuses other users too."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    if (sock := request.socket) is None:
        return "The user of this connection is not known."
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return None if uid in (os.getuid(), 0) else "Only the user who runs the proxy may use its control socket."


def _answer(message: ControlMessage, status: int = 200) -> _Answer:
    return status, message


def _problem(status: int, code: str, message: str) -> _Answer:
    return _answer(Problem(ProblemFacts(code, message)), status)
