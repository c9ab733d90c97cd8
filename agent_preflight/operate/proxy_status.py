"""How a stand-alone proxy and its accounts stand: as it tells while it runs, else as its ledger has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from agent_preflight.base.tables import TableColumn, TextTable, duration, money, show
from agent_preflight.base.usd import usd
from agent_preflight.sidecar.control_client import ControlClient, ControlUnreachableError
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.base.data_folder import control_socket, serving_pid
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.account_name import is_kept
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.ledger.reader import read_snapshot

State = Literal["open", "frozen", "spent"]
_T = TypeVar("_T")
_COLUMNS = (
    TableColumn("account"),
    *(TableColumn(title, right=True) for title in ("limit", "spent", "reserved", "available", "calls")),
    TableColumn("state"),
)


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account; amounts in pico-USD.

    Attributes:
        reserved_pusd: Held for calls whose cost is not known yet.
        state: `frozen` by a person; `spent`, if not even the cheapest call would fit; else `open`.
    """

    name: str
    limit_pusd: int
    spent_pusd: int
    reserved_pusd: int
    available_pusd: int
    calls: int
    state: State

    def document(self) -> dict[str, Any]:
        """Return it for machines; amounts are exact dollars as text."""
        amounts = ("limit", "spent", "reserved", "available")
        figures = {f"{name}_usd": format(usd(getattr(self, f"{name}_pusd")), "f") for name in amounts}
        return {"account": self.name, **figures, "calls": self.calls, "state": self.state}


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """A data folder and its accounts.

    Attributes:
        pid: The process that serves it; None if none does, and then the next two are None as well.
        base_url: Where it serves; None also where it has a unix socket alone.
        uptime_s: For how long it has served.
    """

    data: Path
    pid: int | None
    base_url: str | None
    uptime_s: float | None
    accounts: tuple[AccountStatus, ...]

    def document(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "running": self.pid is not None,
            "pid": self.pid,
            "base_url": self.base_url,
            "uptime_s": self.uptime_s,
            "accounts": [account.document() for account in self.accounts],
        }


def proxy_status(data: Path) -> ProxyStatus:
    """Return how a stand-alone proxy's data folder stands.

    Raises:
        ConfigError: No proxy ever had this folder.
        LedgerError: No proxy runs, and the ledger cannot be read.
        ControlUnreachableError: One runs and does not answer.
    """
    if serving_pid(data) is not None:
        return on_proxy(data, lambda client: _told(data, client))
    ledger = data / "ledger.sqlite3"
    if not ledger.is_file():
        raise ConfigError(
            f"{data} is no folder of a proxy: it holds no ledger. Name the folder that --data named at its start."
        )
    rows = tuple(_of_ledger(account) for account in read_snapshot(ledger).accounts if is_kept(account))
    return ProxyStatus(data, None, None, None, rows)


def on_proxy(data: Path, ask: Callable[[ControlClient], Awaitable[_T]]) -> _T:
    """Return what the proxy of a data folder answers.

    Raises:
        ConfigError: None runs.
        ControlError: It does not do what it is asked to.
        ControlUnreachableError: It does not answer.
    """
    if serving_pid(data) is None:
        raise ConfigError(
            f"No proxy serves {data}, so nothing was changed. Start it: agent-preflight proxy --data {data}; or, with a new "
            f"account or limit: agent-preflight proxy --data {data} --account NAME=USD."
        )

    async def asked() -> _T:
        client = ControlClient(control_socket(data))
        try:
            return await ask(client)
        except ControlUnreachableError as exc:
            exc.add_note(f"What was changed before is told by: agent-preflight proxy account list --data {data}")
            raise
        finally:
            await client.close()

    return asyncio.run(asked())


async def _told(data: Path, client: ControlClient) -> ProxyStatus:
    health, balances = await client.health(), await client.accounts()
    return ProxyStatus(data, health.pid, health.base_url, health.uptime_s, tuple(map(of_balance, balances)))


def of_balance(balance: Balance) -> AccountStatus:
    """Return an account as its proxy tells it."""
    return AccountStatus(
        balance.id,
        balance.limit_pusd,
        balance.posted_pusd,
        balance.pending_pusd,
        balance.available_pusd,
        balance.calls,
        _state(is_frozen=balance.frozen is not None, is_spent=balance.spent),
    )


def _of_ledger(account: Account) -> AccountStatus:
    return AccountStatus(
        account.id,
        account.limit_pusd,
        account.posted_pusd,
        account.pending_pusd,
        account.available_pusd,
        account.calls,
        _state(is_frozen=account.frozen is not None, is_spent=account.posted_pusd >= account.limit_pusd),
    )


def _state(*, is_frozen: bool, is_spent: bool) -> State:
    return "frozen" if is_frozen else "spent" if is_spent else "open"


def show_status(status: ProxyStatus) -> None:
    """Print who serves, and a line for each account."""
    if status.pid is None:
        said = f"not running  {status.data}"
    else:
        up = "" if status.uptime_s is None else f"  up {duration(status.uptime_s)}"
        said = f"running  {status.base_url or 'on a unix socket'}  process {status.pid}{up}"
    show(said, "")
    show_accounts(status.accounts)


def show_accounts(accounts: Sequence[AccountStatus]) -> None:
    """Print a line for each account."""
    rows = [
        (
            each.name,
            *map(money, (each.limit_pusd, each.spent_pusd, each.reserved_pusd, each.available_pusd)),
            f"{each.calls:,}",
            each.state,
        )
        for each in accounts
    ]
    show(TextTable(_COLUMNS, rows) if rows else "no account")
