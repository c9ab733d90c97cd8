"""A stand-alone proxy, without runner and containers: a base URL, and for each account a token and a limit.

A start with the same data folder opens its accounts again, with what they have spent and with their tokens.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from preflight_proxy.app import RunningProxy
from preflight_proxy.base.atomic_file import write_ready_file
from preflight_proxy.base.config import (
    Config,
    StandaloneConfig,
    check_upstream,
    host_port,
    upstream_proxy,
    user_counts_file,
    user_quarantine_file,
)
from preflight_proxy.base.data_folder import link_control_socket, make_folders, new_control_socket, serving_pid
from preflight_proxy.control.standalone_accounts import StandaloneAccounts, check_account
from preflight_proxy.core.errors import ConfigError, LedgerInUseError
from preflight_proxy.core.money import limit_pusd, usd_text
from preflight_proxy.core.secret import Secret
from preflight_proxy.ledger.reader import has_accounts
from preflight_proxy.serve import serve_until_stopped
from preflight_proxy.server.listeners import check_free, naming, remove_dead_socket


def serve(settings: StandaloneConfig, upstream_key: Secret) -> int:
    """Serve until SIGTERM or SIGINT; prints the base URL, the accounts, and the tokens that are made.

    Args:
        settings: What to serve.
        upstream_key: The real key, which the calls of all accounts use.

    Returns:
        The exit code.

    Raises:
        ConfigError: The upstream, its HTTP proxy, an address, a name or an amount is not valid, or there is no account.
            Nothing was made.
        LedgerInUseError: Another proxy serves this folder.
        OperatingError: It cannot start.
    """
    upstream, listen, unix = settings.upstream, settings.listen, settings.unix
    check_upstream(upstream)
    upstream_proxy(upstream)
    limits = _limits_pusd(settings.limits_usd)
    data, ready_file = (
        Path(settings.data).absolute(),
        Path(settings.ready_file) if settings.ready_file is not None else None,
    )
    _refuse_served(data)
    if not limits and not has_accounts(data):
        raise ConfigError(f"There is no account in {data} yet: give one a budget.")
    _check_places(listen, unix, ready_file)
    if ready_file is not None and ready_file.is_file():
        ready_file.unlink()  # it says that an earlier proxy serves
    make_folders(data)
    with new_control_socket(data) as control:

        async def on_ready(proxy: RunningProxy) -> None:
            link_control_socket(data, control)
            before_pusd = {account.id: account.limit_pusd for account in proxy.ledger.accounts().values()}
            named = proxy.control.named = StandaloneAccounts(proxy.ledger, proxy.accounts, data, upstream_key)
            new = await named.open_all(limits)
            if ready_file is not None:
                write_ready_file(ready_file, _ready(proxy, named, next(iter(limits), None), control))
            _say(proxy, named, new, before_pusd, data)
            proxy.foreign_keys.on_limit, proxy.foreign_keys.on_recovered = _say_limit, _say_recovered
            await _compare_with_key(proxy, named.names(), upstream_key)

        try:
            return serve_until_stopped(config_of(settings, data, control), on_ready)
        except LedgerInUseError:
            _refuse_served(data)
            raise


def config_of(settings: StandaloneConfig, data: Path, control: Path) -> Config:
    """Return the settings of the proxy process of a stand-alone proxy.

    Args:
        settings: What to serve.
        data: The data folder, absolute.
        control: The path of the control socket.
    """
    return Config(
        data=str(data),
        upstream=settings.upstream,
        listen=settings.listen,
        unix=settings.unix,
        control=str(control),
        byok=settings.byok,
        durability=settings.durability,
        bound=settings.bound,
        cache_bound=settings.cache_bound,
        weigh=settings.weigh,
        share_preambles=settings.share_preambles,
        quarantine_file=str(user_quarantine_file()),
        shared_counts_file=str(user_counts_file()),
    )


def _limits_pusd(limits_usd: Mapping[str, str]) -> dict[str, int]:
    """Return accounts' limits, checked.

    Raises:
        ConfigError: A name or a limit is not valid; the text says which, and why.
    """
    limits: dict[str, int] = {}
    for name, limit in limits_usd.items():
        try:
            limits[name] = limit_pusd(limit)
            check_account(name, limits[name])
        except ValueError as exc:
            raise ConfigError(f"The account {name!r} cannot be opened: {exc}. Nothing is served.") from exc
    return limits


def _refuse_served(data: Path) -> None:
    """Name the process that serves this folder.

    Raises:
        LedgerInUseError: There is one.
    """
    if (pid := serving_pid(data)) is not None:
        raise LedgerInUseError(
            f"Another proxy, process {pid or 'unknown'}, serves {data}. End it, name another folder with --data, or change its "
            "accounts with `agent-preflight proxy account`."
        )


def _check_places(listen: str, unix: str | None, ready_file: Path | None) -> None:
    """Try the addresses and the ready file before anything is made.

    Raises:
        ConfigError: One cannot be used.
    """
    host, port = host_port(listen)
    with naming(listen):
        check_free(host, port)
    if unix is not None:
        with naming(unix):
            remove_dead_socket(Path(unix))
            if not os.access(Path(unix).absolute().parent, os.W_OK | os.X_OK):
                raise FileNotFoundError(f"its folder {Path(unix).absolute().parent} is missing or cannot be written to")
    if ready_file is not None and not os.access(ready_file.absolute().parent, os.W_OK | os.X_OK):
        raise ConfigError(f"The file {ready_file} cannot be written: its folder is missing or not writable.")


def _ready(proxy: RunningProxy, named: StandaloneAccounts, first: str | None, control: Path) -> dict[str, object]:
    """Return the content of the ready file. Its `api_key` is that of the account `first`, else of the oldest."""
    accounts = {
        name: {"api_key": named.token(name), "limit_usd": _dollars(proxy.ledger.account(name).limit_pusd)}
        for name in named.names()
    }
    return {
        "base_url": proxy.base_url,
        "api_key": named.token(first or named.names()[0]),
        "control": str(control),
        "accounts": accounts,
    }


def _say(
    proxy: RunningProxy, named: StandaloneAccounts, new: frozenset[str], before_pusd: Mapping[str, int], data: Path
) -> None:
    """Print the base URL and the accounts. Only a new token is shown."""
    print(f"base URL  {proxy.base_url}")  # noqa: T201
    for name in named.names():
        account = proxy.ledger.account(name)
        facts = [f"${_dollars(account.limit_pusd)}"]
        if (before := before_pusd.get(name, account.limit_pusd)) != account.limit_pusd:
            facts.append(f"was ${_dollars(before)}")
        if account.posted_pusd:
            facts.append(f"${_dollars(account.posted_pusd)} spent")
        if account.frozen is not None:
            facts.append("frozen" if account.frozen_reason is not None else "waits for the key's usage")
        token = f"  {named.token(name)}" if name in new else ""
        print(f"account   {name}  {', '.join(facts)}{token}")  # noqa: T201
    if new != frozenset(named.names()):
        print(f"Show a token again: agent-preflight proxy account show NAME --data {shlex.quote(str(data))}")  # noqa: T201
    sys.stdout.flush()


def _dollars(amount_pusd: int) -> str:
    """Exact dollars, with two decimals at the least."""
    whole, _, cents = usd_text(amount_pusd).partition(".")
    return f"{whole}.{cents.ljust(2, '0')}"


def _say_limit(resets_at: str | None) -> None:
    when = f" It begins anew at {resets_at}." if resets_at is not None else ""
    print(f"The key's limit at OpenRouter is reached; calls that fit below it are still sent.{when}", flush=True)  # noqa: T201


def _say_recovered(name: str, cost_pusd: int) -> None:
    print(  # noqa: T201
        f"The machine restarted, and the last costs may be lost: ${_dollars(cost_pusd)} is charged to {name}. "
        "The key's usage grew by more than was posted. That may include what other programs spent with the key.",
        flush=True,
    )


async def _compare_with_key(proxy: RunningProxy, names: Sequence[str], key: Secret) -> None:
    """Read the key once, before its first call, and say if its limit leaves less than the accounts may still spend."""
    accounts = [proxy.ledger.account(name) for name in names]
    usage = await proxy.foreign_keys.read(key, accounts[0].key_hash)
    open_pusd = sum(max(0, account.limit_pusd - account.posted_pusd) for account in accounts)
    if usage is None or usage.left_pusd is None or usage.left_pusd >= open_pusd:
        return
    left, budget = usd_text(usage.left_pusd), usd_text(open_pusd)
    again = f" It begins anew {usage.limit_reset}." if usage.limit_reset is not None else ""
    print(f"The key's limit at OpenRouter leaves ${left}, less than the budget of ${budget}.{again}", flush=True)  # noqa: T201
