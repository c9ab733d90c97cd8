"""The accounts of a stand-alone proxy: opened with its one key, kept in its folder, added and removed while it runs.

Limits, freezes and removals are in the ledger; tokens.json has the token of each account. A proxy that is killed between the two
writes leaves one of these states, and the next start settles it:

    adding      the token is kept, the ledger has no such account, or a removed one    the token goes
    removing    the account is removed in the ledger, its token is still kept          the token goes
    lost file   the ledger has the account, no token is kept                           it gets a new token
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import structlog

from preflight_proxy.base.atomic_file import write_private
from preflight_proxy.base.control_messages import AccountSpec
from preflight_proxy.control.accounts import Accounts
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.account_name import NAME_RULE, is_account_name, is_kept
from preflight_proxy.core.ledger.rows import CLOSED
from preflight_proxy.core.secret import Secret
from preflight_proxy.ledger.service import Ledger

TOKENS = "tokens.json"
Token = Annotated[str, msgspec.Meta(min_length=16, pattern=r"\A[ -~]*\Z")]
"""Shorter ones can be guessed, and are not redacted in a log. Errors do not repeat the text."""

_log = structlog.get_logger("preflight_proxy.control.standalone_accounts")


def new_token() -> str:
    """Return a new token: 256 random bits with our own prefix, by which logs redact it."""
    return "pf-" + secrets.token_urlsafe(32)


def check_account(name: str, limit_pusd: int) -> None:
    """Check the name and the limit of a new account.

    Raises:
        ValueError: One of them is not valid; the text says which, and why.
    """
    if not is_account_name(name):
        raise ValueError(f"{name!r} cannot be an account's name: {NAME_RULE}")
    if not limit_pusd:
        raise ValueError("with $0 every call would be refused; give more")


class StandaloneAccounts:
    """The accounts of one stand-alone proxy, which has the ledger of this folder.

    Args:
        ledger: Keeps the accounts.
        accounts: Opens and freezes them.
        data: The folder.
        key: The real key, which all their calls use.

    Raises:
        ConfigError: The tokens of the folder cannot be read.
    """

    def __init__(self, ledger: Ledger, accounts: Accounts, data: Path, key: Secret) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._data = data
        self._key = key
        self._tokens = read_tokens(data)
        self._changing = asyncio.Lock()

    def names(self) -> list[str]:
        """The accounts that are not removed, oldest first."""
        return [account.id for account in self._ledger.accounts().values() if is_kept(account)]

    def check(self, name: str) -> None:
        """Check that there is an account of this name.

        Raises:
            KeyError: There is none of this name, or it was removed.
        """
        if not is_kept(self._ledger.account(name)):
            raise KeyError(name)

    def token(self, name: str) -> str:
        """The token of an account. Raises as `check`."""
        self.check(name)
        return self._tokens[name]

    async def open_all(self, limits_pusd: Mapping[str, int]) -> frozenset[str]:
        """Open the accounts that are named, with these limits, and those that are kept, with the limits that they have.

        What is posted stays, and a frozen account stays frozen. A removed account that is named is opened again.

        Returns:
            The names of the accounts that got a new token.

        Raises:
            ConfigError: The tokens cannot be kept, or one is that of another account.
            LedgerError: The ledger cannot be written.
        """
        removed = {account.id for account in self._ledger.accounts().values() if account.frozen_reason == CLOSED}
        limits = {name: self._ledger.account(name).limit_pusd for name in self.names()} | dict(limits_pusd)
        tokens = {name: token for name, token in self._tokens.items() if name in limits and name not in removed}
        new = frozenset(limits.keys() - tokens.keys())
        self._keep(tokens | {name: new_token() for name in limits if name in new})
        for name, limit_pusd in limits.items():
            await self._open(name, limit_pusd)
        for account in list(self._ledger.accounts().values()):
            if account.id in limits:
                continue
            if account.run and account.frozen is None:
                await self._accounts.close(account.id)  # a run's account, which has a key of its own
            elif account.key_hash == hashlib.sha256(self._key.reveal().encode()).hexdigest():
                self._ledger.account_state(account.id).key = self._key  # its pending calls are still settled
        return new

    async def add(self, name: str, limit_pusd: int) -> str:
        """Open a new account, or one that was removed, whose spent amount counts again; returns its token, a new one.

        Raises:
            ValueError: The name or the limit is not valid, or there is such an account.
            ConfigError: The token cannot be kept; nothing is opened.
            LedgerError: The ledger cannot be written.
        """
        async with self._changing:
            check_account(name, limit_pusd)
            known = self._ledger.accounts().get(name)
            if known is not None and known.frozen_reason != CLOSED:
                raise ValueError(f"there is an account {name!r} already; raise it, or set its limit")
            self._keep(self._tokens | {name: new_token()})
            await self._open(name, limit_pusd)
            return self._tokens[name]

    async def remove(self, name: str) -> None:
        """Refuse an account's token and end its streams. Pending calls settle, and its entries stay.

        Raises:
            KeyError: There is no such account.
            LedgerError: The ledger cannot be written; the account is not removed.
        """
        async with self._changing:
            self.check(name)
            await self._accounts.freeze(name, CLOSED)
            try:
                self._keep({known: token for known, token in self._tokens.items() if known != name})
            except ConfigError as exc:
                _log.error("tokens.not_removed", account=name, error=str(exc))  # the next start does it

    async def _open(self, name: str, limit_pusd: int) -> None:
        budget_file = str(self._data / "budget" / f"{name}.txt")
        token = Secret(self._tokens[name])
        spec = AccountSpec(limit_pusd=limit_pusd, token=token, key=self._key, budget_file=budget_file)
        try:
            await self._accounts.open(name, spec)
        except ValueError as exc:
            raise ConfigError(f"The account {name!r} cannot be opened: {exc}.") from exc
        if self._ledger.account(name).frozen_reason == CLOSED:
            self._accounts.unfreeze(name)

    def _keep(self, tokens: dict[str, str]) -> None:
        if tokens != self._tokens:
            write_private(self._data / TOKENS, json.dumps(tokens, indent=2))
            self._tokens = tokens


def read_tokens(data: Path) -> dict[str, str]:
    """Return the tokens that a data folder keeps, by account; none if there is no file.

    Raises:
        ConfigError: They cannot be read, or are not what a proxy wrote.
    """
    path = data / TOKENS
    try:
        tokens = msgspec.json.decode(path.read_bytes(), type=dict[str, Token]) if path.exists() else {}
        if len(set(tokens.values())) < len(tokens):
            raise ValueError("two accounts have the same token")
    except (OSError, ValueError, msgspec.MsgspecError) as exc:
        raise ConfigError(
            f"The tokens in {path} cannot be read: {exc}. Remove the file to have new ones made."
        ) from exc
    return tokens
