"""Short forms for tests of the ledger: one account `a`, reservations by name."""

from __future__ import annotations

from preflight_proxy.core.ledger.commands import Command, OpenAccount, Reserve
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.ledger.state import Change, LedgerState
from preflight_proxy.core.ledger.transition import transition

NOW_S = 1_760_000_000.0


def opened(limit_pusd: int = 1000, account: str = "a") -> LedgerState:
    """A book with one account."""
    book = LedgerState()
    do(book, OpenAccount(account, "run", limit_pusd, token_hash=f"token of {account}"))
    return book


def hold(name: str, reserved_pusd: int = 100, *, account: str = "a", model: str = "m/x", tag: str = "t") -> Reserve:
    """The command that reserves under a name."""
    return Reserve(name, account, reserved_pusd, "chat", model, (tag,), bound=16)


def do(book: LedgerState, command: Command, at_s: float = NOW_S) -> Change:
    """Decide and apply; a refusal fails the test."""
    change = transition(book, command, at_s)
    assert isinstance(change, Change), change
    book.apply(change)
    return change


def account(book: LedgerState) -> Account:
    """Account `a` as it stands."""
    return book.accounts["a"]
