"""The runner's side of the proxy's control socket: accounts, balances, the stream of events.

HTTP/1.1 over a private unix socket; amounts travel as exact decimal text and are integers here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from preflight_proxy.base.control_messages import (
    AccountList,
    AccountSpec,
    Balance,
    ClearAnswer,
    ControlMessage,
    FreezeOrder,
    Health,
    LedgerEvent,
    NewAccount,
    NewLimit,
    OpenedAccount,
    Problem,
    StopAnswer,
    StopOrder,
    TopUp,
    decode,
    encode,
)
from preflight_proxy.core.errors import OperatingError

CONTROL_CALL_S_MAX = 60.0
"""Opening an account reads its key's usage upstream, with retries; everything else answers at once."""
SILENCE_S_MAX = 10.0
"""The stream of events has a heartbeat each second; after this long without one it counts as dead."""
LEDGER_EVENT_BYTES_MAX = 2**20
"""Longest line of the event stream; the usual one is half a kilobyte."""


class ControlError(OperatingError):
    """The proxy refused a request.

    Attributes:
        code: The proxy's word for it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ControlUnreachableError(OperatingError):
    """Nothing answers on the control socket, or the connection broke."""


_M = TypeVar("_M", bound=ControlMessage)


class ControlClient:
    """Talks to one proxy's control socket. It needs a running event loop, and is closed at the end of its context."""

    def __init__(self, socket: Path) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket), force_close=True),
            timeout=aiohttp.ClientTimeout(total=CONTROL_CALL_S_MAX),
            read_bufsize=LEDGER_EVENT_BYTES_MAX,
        )

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close every connection."""
        await self.close()

    async def open(self, account_id: str, spec: AccountSpec) -> Balance:
        """Open an account, or bring an open one to this state.

        Raises:
            ControlError: The proxy refused.
            ControlUnreachableError: Nobody answered.
        """
        return await self._call(Balance, "PUT", _path(account_id), spec)

    async def balance(self, account_id: str) -> Balance:
        """Return an account as it stands. Raises as `open`."""
        return await self._call(Balance, "GET", _path(account_id))

    async def freeze(self, account_id: str, reason: str) -> Balance:
        """Refuse new calls and end running streams; both have happened when this returns. Raises as `open`."""
        return await self._call(Balance, "POST", _path(account_id) + "/freeze", FreezeOrder(reason))

    async def unfreeze(self, account_id: str) -> Balance:
        """Admit calls again. Raises as `open`."""
        return await self._call(Balance, "POST", _path(account_id) + "/unfreeze")

    async def close_account(self, account_id: str, *, force: bool = False) -> Balance:
        """Forget an account's key and token; refused while something is pending, unless forced. Raises as `open`."""
        return await self._call(Balance, "DELETE", _path(account_id) + ("?force=1" if force else ""))

    async def set_limit(self, account_id: str, limit_pusd: int) -> Balance:
        """Change an account's limit; waiting calls are looked at again. Raises as `open`."""
        return await self._call(Balance, "PATCH", _path(account_id), NewLimit(limit_pusd))

    async def top_up(self, account_id: str, more_pusd: int) -> Balance:
        """Raise an account's limit; sent once, so after `ControlUnreachableError` it may be raised or not. Raises as `open`."""
        return await self._call(Balance, "POST", _path(account_id) + "/top-up", TopUp(more_pusd))

    async def stop(self, trial: str | None) -> None:
        """Freeze one trial's account, or all, and ask the runner to end them in order. Raises as `open`."""
        await self._call(StopAnswer, "POST", "/stop", StopOrder(trial))

    async def accounts(self) -> tuple[Balance, ...]:
        """Return all accounts as they stand. Raises as `open`."""
        return (await self._call(AccountList, "GET", "/accounts")).accounts

    async def health(self) -> Health:
        """Return who serves. Raises as `open`."""
        return await self._call(Health, "GET", "/health")

    async def add_account(self, name: str, limit_pusd: int) -> OpenedAccount:
        """Open a new account of a stand-alone proxy, which keeps it. Raises as `open`."""
        return await self._call(OpenedAccount, "POST", "/accounts", NewAccount(name, limit_pusd))

    async def clear_quarantine(self, model: str, tag: str, upstream: str) -> bool:
        """Let calls go to an endpoint again; False if the proxy's upstream is another. Raises as `open`."""
        query = urlencode({"model": model, "tag": tag, "upstream": upstream})
        return (await self._call(ClearAnswer, "DELETE", f"/quarantine?{query}")).cleared

    async def follow(self, run: str, cursor: int) -> AsyncGenerator[LedgerEvent, None]:
        """Yield a run's events after `cursor`, as they come, until the connection ends.

        Raises:
            ControlError: The proxy refused.
            ControlUnreachableError: Nobody answered, or the stream fell silent or broke.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S_MAX)
        url = f"http://control/events?run={quote(run, safe='')}&cursor={cursor}"
        try:
            async with self._session.get(url, timeout=timeout) as response:
                if response.status != 200:
                    raise _error(response.status, await response.read())
                async for line in response.content:
                    yield decode(line, LedgerEvent)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, msgspec.MsgspecError) as exc:
            raise ControlUnreachableError(f"the proxy's event stream broke: {exc!r}") from exc

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _call(self, kind: type[_M], method: str, path: str, body: ControlMessage | None = None) -> _M:
        data = None if body is None else encode(body)
        try:
            async with self._session.request(method, f"http://control{path}", data=data) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise ControlUnreachableError(f"the proxy does not answer on its control socket: {exc!r}") from exc
        if response.status >= 400:
            raise _error(response.status, content)
        return decode(content, kind)


def _path(account_id: str) -> str:
    return f"/accounts/{quote(account_id, safe='')}"


def _error(status: int, content: bytes) -> ControlError:
    try:
        error = decode(content, Problem).error
        return ControlError(error.code, error.message)
    except (ValueError, msgspec.MsgspecError):
        return ControlError("unreadable", f"the proxy answered {status} on its control socket")
