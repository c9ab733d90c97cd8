"""The state of a stand-alone proxy and its accounts: from the proxy while it runs, else from its ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from agent_preflight.base.tables import TableColumn, TextTable, duration, money, show
from agent_preflight.base.usd import exact
from agent_preflight.sidecar.control_client import ControlClient, ControlUnreachableError
from preflight_proxy.base.control_messages import Balance, OpenedAccount, balance_of
from preflight_proxy.base.data_folder import control_socket, serving_pid
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.account_name import is_kept
from preflight_proxy.core.pricing.fits import fits_text
from preflight_proxy.ledger.reader import read_snapshot

_T = TypeVar("_T")
_COLUMNS = (
    TableColumn("account"),
    *(TableColumn(title, right=True) for title in ("limit", "spent", "reserved", "available", "calls")),
    TableColumn("state"),
)


def state_of(account: Balance) -> Literal["open", "frozen", "spent"]:
    """Return `frozen` if a person froze the account; `spent` if not even the cheapest call fits; else `open`."""
    return "frozen" if account.frozen is not None else "spent" if account.spent else "open"


def account_document(account: Balance) -> dict[str, Any]:
    """Return an account for machines; amounts are exact dollars as text. A new one has its token too."""
    return {
        "account": account.id,
        "limit_usd": exact(account.limit_pusd),
        "spent_usd": exact(account.posted_pusd),
        "reserved_usd": exact(account.pending_pusd),
        "available_usd": exact(account.available_pusd),
        "calls": account.calls,
        "fits_tokens": account.fits_tokens,
        "fits_model": account.fits_model,
        "state": state_of(account),
        **({"api_key": account.api_key} if isinstance(account, OpenedAccount) else {}),
    }


class ProxyStatus(msgspec.Struct, frozen=True):
    """A data folder and its accounts.

    Attributes:
        pid: The process that serves it; None if none does. Then the next two are None too.
        base_url: Where it listens; None too if it listens on a unix socket only.
        uptime_s: For how long it has served.
    """

    data: Path
    pid: int | None
    base_url: str | None
    uptime_s: float | None
    accounts: tuple[Balance, ...]

    def document(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "running": self.pid is not None,
            "pid": self.pid,
            "base_url": self.base_url,
            "uptime_s": self.uptime_s,
            "accounts": list(map(account_document, self.accounts)),
        }


def proxy_status(data: Path) -> ProxyStatus:
    """Return the state of a stand-alone proxy's data folder.

    Raises:
        ConfigError: No proxy ever used this folder.
        LedgerError: No proxy runs, and the ledger cannot be read.
        ControlUnreachableError: One runs and does not answer.
    """
    if serving_pid(data) is not None:
        return on_proxy(data, lambda client: _of_proxy(data, client))
    ledger = data / "ledger.sqlite3"
    if not ledger.is_file():
        raise ConfigError(
            f"{data} is no folder of a proxy: it holds no ledger. Name the folder that --data named at its start."
        )
    accounts = [account for account in read_snapshot(ledger).accounts if is_kept(account)]
    balances = tuple(balance_of(account, spent=account.posted_pusd >= account.limit_pusd) for account in accounts)
    return ProxyStatus(data, None, None, None, balances)


def on_proxy(data: Path, ask: Callable[[ControlClient], Awaitable[_T]]) -> _T:
    """Call the proxy of a data folder and return its answer.

    Raises:
        ConfigError: No proxy runs there.
        ControlError: It refused.
        ControlUnreachableError: It does not answer.
    """
    if serving_pid(data) is None:
        raise ConfigError(
            f"No proxy serves {data}, so nothing was changed. Start it: agent-preflight proxy --data {data}; or, with a new "
            f"account or limit: agent-preflight proxy --data {data} --account NAME=USD."
        )

    async def call() -> _T:
        try:
            async with ControlClient(control_socket(data)) as client:
                return await ask(client)
        except ControlUnreachableError as exc:
            exc.add_note(f"See what was changed before: agent-preflight proxy account list --data {data}")
            raise

    return asyncio.run(call())


async def _of_proxy(data: Path, client: ControlClient) -> ProxyStatus:
    health, balances = await client.health(), await client.accounts()
    return ProxyStatus(data, health.pid, health.base_url, health.uptime_s, balances)


def show_status(status: ProxyStatus) -> None:
    """Print which process serves, and a line for each account."""
    if status.pid is None:
        headline = f"not running  {status.data}"
    else:
        up = "" if status.uptime_s is None else f"  up {duration(status.uptime_s)}"
        headline = f"running  {status.base_url or 'on a unix socket'}  process {status.pid}{up}"
    show(headline, "")
    show_accounts(status.accounts)


def show_accounts(accounts: Sequence[Balance]) -> None:
    """Print a line for each account."""
    rows = [
        (
            account.id,
            *map(money, (account.limit_pusd, account.posted_pusd, account.pending_pusd, account.available_pusd)),
            f"{account.calls:,}",
            state_of(account),
        )
        for account in accounts
    ]
    notes = [fits_text(each.fits_model, each.fits_tokens) for each in accounts]
    show(TextTable(_COLUMNS, rows, notes=notes) if rows else "no account")
