"""Short forms for tests of the ledger: one account `a`, reservations by name."""

from __future__ import annotations

from preflight_proxy.core.ledger.commands import Command, OpenAccount, Reserve
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.ledger.state import Change, LedgerState
from preflight_proxy.core.ledger.transition import transition

NOW_S = 1_760_000_000.0


def opened(limit_pusd: int = 1000, account: str = "a") -> LedgerState:
    """Return a ledger with one account."""
    state = LedgerState()
    do(state, OpenAccount(account, "run", limit_pusd, token_hash=f"token of {account}"))
    return state


def hold(name: str, reserved_pusd: int = 100, *, account: str = "a", model: str = "m/x", tag: str = "t") -> Reserve:
    """Return the command that reserves under a name."""
    return Reserve(name, account, reserved_pusd, "chat", model, (tag,), bound=16)


def do(state: LedgerState, command: Command, at_s: float = NOW_S) -> Change:
    """Apply a command. A refusal fails the test."""
    change = transition(state, command, at_s)
    assert isinstance(change, Change), change
    state.apply(change)
    return change


def rows_of(state: LedgerState) -> dict[str, object]:
    """Return what a restart must find again: all but what is derived from it."""
    return {name: getattr(state, name) for name in state.__struct_fields__ if not name.startswith("_")}


def account(state: LedgerState) -> Account:
    """Return account `a`."""
    return state.accounts["a"]
