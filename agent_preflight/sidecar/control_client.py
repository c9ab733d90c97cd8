"""The runner's side of the proxy's control socket: accounts, balances, the stream of events.

HTTP/1.1 over a private unix socket; amounts travel as exact decimal text and are integers here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import aiohttp

from agent_preflight.base.usd import pusd, usd
from agent_preflight.sidecar.gate_request import Account
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.core.refusals.outcomes import NONE_YET, Outcomes, read_outcomes

CALL_S_MAX = 60.0
"""Opening an account reads its key's usage upstream, with retries; everything else answers at once."""
SILENCE_S_MAX = 10.0
"""The stream of events has a heartbeat each second: after this long without one it is taken for dead."""
EVENT_BYTES_MAX = 2**20
"""Longest line of the event stream; the usual one is half a kilobyte."""


UNKNOWN_ACCOUNT = "unknown_account"  # the proxy's word for an account that it does not have


class ControlError(OperatingError):
    """The proxy answered that it does not do what it was asked to.

    Attributes:
        status: The HTTP status.
        code: The proxy's word for it.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ControlUnreachableError(OperatingError):
    """Nobody answers on the control socket, or the connection broke."""


@dataclass(frozen=True, slots=True)
class Balance:
    """An account at one moment; amounts in pico-USD.

    Attributes:
        as_of: Higher than that of every balance which the proxy told of before; an answer and an event may overtake each other.
        pending_pusd: Reserved for calls whose cost is not known yet.
        refused: Calls refused so far.
        outcomes: What became of the calls.
        frozen: Why no call is admitted, or None.
        spent: Not even the cheapest call would fit.
        keyed: The proxy has the account's key: without it, it learns nothing more of what is unknown.
        gate: `waiting`, `ready`, `lost` or `refused`; None without a gate.
        unknown: Pending calls whose outcome upstream has not told.
        requests: Calls that told their tokens.
        traffic: What went through the services and the egress list, by name: connections, refused, sent and received bytes.
        quarantined: Endpoints that are in use for no account, as `MODEL TAG`.
    """

    id: str = ""
    as_of: int = 0
    limit_pusd: int = 0
    posted_pusd: int = 0
    pending_pusd: int = 0
    available_pusd: int = 0
    assumed_pusd: int = 0
    overrun_pusd: int = 0
    calls: int = 0
    calls_in_flight: int = 0
    refused: int = 0
    frozen: str | None = None
    spent: bool = False
    keyed: bool = True
    gate: str | None = None
    unknown: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    cache_hit_requests: int = 0
    traffic: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    quarantined: tuple[str, ...] = ()
    outcomes: Outcomes = NONE_YET

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the proxy's JSON; fields that are not there keep their defaults."""
        amounts = {f"{name}_pusd": pusd(str(document.get(f"{name}_usd", "0"))) for name in _AMOUNTS}
        counts = {name: int(document.get(name) or 0) for name in _COUNTS}
        return cls(
            id=str(document.get("id", "")),
            frozen=document.get("frozen"),
            spent=bool(document.get("spent")),
            keyed=document.get("keyed") is not False,
            gate=document.get("gate"),
            traffic=document.get("traffic") or {},
            quarantined=tuple(map(str, document.get("quarantined") or ())),
            outcomes=read_outcomes(document.get("outcomes")),
            **amounts,
            **counts,
        )


_AMOUNTS = ("limit", "posted", "pending", "available", "assumed", "overrun")
_COUNTS = (
    "as_of",
    "calls",
    "calls_in_flight",
    "refused",
    "unknown",
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "cache_hit_requests",
)


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One event of the proxy's stream.

    Attributes:
        seq: Its place in the stream; 0 for a heartbeat.
        type: `reserved`, `settled`, `refused`, `frozen`, `gate`, `heartbeat`, ...
        account: The trial's alias, empty for a heartbeat.
        balance: The account after it, where told.
        facts: Everything else that the event says.
    """

    seq: int
    type: str
    account: str = ""
    balance: Balance | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read one line of the stream."""
        balance = document.get("balance")
        return cls(
            seq=int(document.get("seq", 0)),
            type=str(document.get("type", "")),
            account=str(document.get("account", "")),
            balance=Balance.from_json(balance) if isinstance(balance, Mapping) else None,
            facts={k: v for k, v in document.items() if k not in ("seq", "type", "account", "balance")},
        )


class ControlClient:
    """Talks to one proxy's control socket. Made within a running event loop; closed with `close`."""

    def __init__(self, socket: Path) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket), force_close=True),
            timeout=aiohttp.ClientTimeout(total=CALL_S_MAX),
            read_bufsize=EVENT_BYTES_MAX,
        )

    async def open(self, account: Account) -> Balance:
        """Open an account, or bring an open one to this state.

        Raises:
            ControlError: The proxy refused.
            ControlUnreachableError: Nobody answered.
        """
        return Balance.from_json(await self._call("PUT", _path(account.id), account.document()))

    async def balance(self, account_id: str) -> Balance:
        """Return an account as it stands. Raises as `open`."""
        return Balance.from_json(await self._call("GET", _path(account_id)))

    async def freeze(self, account_id: str, reason: str) -> Balance:
        """Refuse new calls and end running streams; both have happened when this returns. Raises as `open`."""
        return Balance.from_json(await self._call("POST", _path(account_id) + "/freeze", {"reason": reason}))

    async def unfreeze(self, account_id: str) -> Balance:
        """Admit calls again. Raises as `open`."""
        return Balance.from_json(await self._call("POST", _path(account_id) + "/unfreeze"))

    async def close_account(self, account_id: str, *, force: bool = False) -> Balance:
        """Forget an account's key and token; refused while something is pending, unless forced. Raises as `open`."""
        return Balance.from_json(await self._call("DELETE", _path(account_id) + ("?force=1" if force else "")))

    async def set_limit(self, account_id: str, limit_pusd: int) -> Balance:
        """Change an account's limit; waiting calls are looked at again. Raises as `open`."""
        limit = {"limit_usd": format(usd(limit_pusd), "f")}
        return Balance.from_json(await self._call("PATCH", _path(account_id), limit))

    async def top_up(self, account_id: str, more_pusd: int) -> Balance:
        """Raise an account's limit; sent once, so after `ControlUnreachableError` it may be raised or not. Raises as `open`."""
        more = {"more_usd": format(usd(more_pusd), "f")}
        return Balance.from_json(await self._call("POST", _path(account_id) + "/top-up", more))

    async def stop(self, trial: str | None) -> None:
        """Freeze one trial's account, or all, and ask the runner to end them in order. Raises as `open`."""
        await self._call("POST", "/stop", {"trial": trial})

    async def accounts(self) -> list[Balance]:
        """Return all accounts as they stand. Raises as `open`."""
        return [Balance.from_json(each) for each in (await self._call("GET", "/accounts"))["accounts"]]

    async def health(self) -> Mapping[str, Any]:
        """Return who serves: `pid`, `version`, `upstream`, `base_url`, `uptime_s`. Raises as `open`."""
        return await self._call("GET", "/health")

    async def add_account(self, name: str, limit_pusd: int) -> tuple[Balance, str]:
        """Open a new account of a stand-alone proxy, which keeps it; returns it and its token. Raises as `open`."""
        told = await self._call("POST", "/accounts", {"name": name, "limit_usd": format(usd(limit_pusd), "f")})
        return Balance.from_json(told), str(told["api_key"])

    async def pid(self) -> int:
        """Return the proxy's process id. Raises as `open`."""
        return int((await self.health())["pid"])

    async def clear_quarantine(self, model: str, tag: str, upstream: str) -> bool:
        """Let calls go to an endpoint again; False if the proxy's upstream is another. Raises as `open`."""
        query = urlencode({"model": model, "tag": tag, "upstream": upstream})
        return bool((await self._call("DELETE", f"/quarantine?{query}"))["cleared"])

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
                    yield LedgerEvent.from_json(json.loads(line))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            raise ControlUnreachableError(f"the proxy's event stream broke: {exc!r}") from exc

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        try:
            async with self._session.request(method, f"http://control{path}", json=body) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise ControlUnreachableError(f"the proxy does not answer on its control socket: {exc!r}") from exc
        if response.status >= 400:
            raise _error(response.status, content)
        document = json.loads(content)
        assert isinstance(document, dict)
        return document


def _path(account_id: str) -> str:
    return f"/accounts/{quote(account_id, safe='')}"


def _error(status: int, content: bytes) -> ControlError:
    try:
        error = json.loads(content)["error"]
        return ControlError(status, str(error["code"]), str(error["message"]))
    except (ValueError, KeyError, TypeError):
        return ControlError(status, "unreadable", f"the proxy answered {status} on its control socket")
