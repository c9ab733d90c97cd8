"""The accounts as this process has them: token, key, running calls. It changes no money, and is not kept across a restart."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import structlog

from preflight_proxy.base.clock import Clock
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.ledger.account_state import AccountState

KEY_LOOK_S = 0.05
"""How often a call looks for its account's key while a runner opens it again."""

_log = structlog.get_logger("preflight_proxy.ledger.sessions")


class Sessions:
    """The live state of every account, by id and by token.

    Args:
        accounts: All accounts of the ledger.
        clock: Time of requests and of waiting.
    """

    def __init__(self, accounts: Iterable[Account], clock: Clock) -> None:
        self._clock = clock
        self._states: defaultdict[str, AccountState] = defaultdict(AccountState)
        self._by_token: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        for account in accounts:
            self.note_token(account)

    def state(self, account_id: str) -> AccountState:
        """The account's state in this process."""
        return self._states[account_id]

    def note_token(self, account: Account) -> None:
        """Register the account's token. Its earlier token is unknown from now on."""
        if (before := self._tokens.get(account.id)) != account.token_hash:
            self._by_token.pop(before or "", None)
            self._by_token[account.token_hash] = account.id
            self._tokens[account.id] = account.token_hash

    def by_token(self, token_hash: str) -> str | None:
        """The id of the account whose trial token has this SHA-256, if any."""
        return self._by_token.get(token_hash)

    async def opened(self, account_id: str, until_s: float) -> bool:
        """Wait for an account's key, which is in no file: after a restart the runner brings it again.

        False when `until_s` (monotonic) passes first.
        """
        state = self.state(account_id)
        while state.key is None and self._clock.monotonic_s() < until_s:
            await asyncio.sleep(KEY_LOOK_S)
        return state.key is not None

    def cut(self, reason: str, account_id: str | None = None) -> None:
        """End every running stream, or those of one account, in its API's terminal form; one that fails stops no other."""
        states = list(self._states.values()) if account_id is None else [self.state(account_id)]
        for call in [call for state in states for call in state.running]:
            try:
                call.cut(reason)
            except Exception as exc:
                _log.error("call.not_cut", exc_info=exc)
