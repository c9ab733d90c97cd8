"""Changes of an account that are no money: its opening, limit and freeze, and the counts of how its calls ended."""

from __future__ import annotations

from msgspec.structs import replace

from preflight_proxy.core.ledger.commands import Freeze, OpenAccount, SetLimit, Unfreeze
from preflight_proxy.core.ledger.cost_line import clean
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.ledger.state import LedgerState, require
from preflight_proxy.core.money import LIMIT_USD_MAX, PUSD_PER_USD
from preflight_proxy.core.refusals.outcomes import NONE_YET, Cause


def account_changed(state: LedgerState, command: OpenAccount | SetLimit | Freeze | Unfreeze) -> Account:
    """Return the account as the command leaves it.

    Raises:
        ValueError: There is no such account; a limit is not between 0 and `LIMIT_USD_MAX`; a new account has no id or token, or
            the token of another account.
    """
    if isinstance(command, OpenAccount):
        return _open_account(state, command)
    account = state.account(command.account)
    match command:
        case SetLimit(_, limit_pusd):
            _check_limit(limit_pusd)
            return replace(account, limit_pusd=limit_pusd)
        case Freeze(_, reason):
            return replace(account, frozen_reason=clean(reason))
        case Unfreeze():
            return replace(account, frozen_reason=None)


def with_refused(account: Account, cause: Cause) -> Account:
    """Return an account after one more call was refused."""
    return replace(account, refused=account.refused + 1, outcomes=account.outcomes.with_unserved(cause))


def with_ended(account: Account, cause: Cause | None, *, overtaken: bool) -> Account:
    """Return an account after a call ended that the proxy did not refuse.

    Args:
        account: The account before.
        cause: Why the call was not served; None if it was.
        overtaken: Another call was refused for budget after this one was admitted.
    """
    if cause is None:
        return replace(account, outcomes=account.outcomes.with_served(overtaken=overtaken))
    return replace(account, outcomes=account.outcomes.with_unserved(cause, overtaken=overtaken))


def _check_limit(limit_pusd: int) -> None:
    require(0 <= limit_pusd <= LIMIT_USD_MAX * PUSD_PER_USD, "a limit lies between 0 and a million dollars")


def _open_account(state: LedgerState, command: OpenAccount) -> Account:
    _check_limit(command.limit_pusd)
    require(command.account != "" and command.token_hash != "", "an account has an id and a token")
    others = (account for account in state.accounts.values() if account.id != command.account)
    is_taken = any(account.token_hash == command.token_hash for account in others)
    require(not is_taken, f"the token of {command.account} is that of another account")
    account = state.accounts.get(command.account) or Account(command.account, command.run, command.limit_pusd)
    base_pusd, key_is_own = _key_evidence(account, command)
    return replace(
        account,
        run=command.run,
        limit_pusd=command.limit_pusd,
        models=command.models,
        token_hash=command.token_hash,
        key_hash=command.key_hash,
        key_is_own=key_is_own,
        key_usage_base_pusd=base_pusd,
        budget_file=command.budget_file,
        budget_mode=command.budget_mode,
        outcomes=account.outcomes if account.token_hash == command.token_hash else NONE_YET,
    )


def _key_evidence(account: Account, command: OpenAccount) -> tuple[int | None, bool]:
    """Return the base to compare the key's usage with, and whether that usage is evidence at all (M13 (unknown cost))."""
    if account.key_hash == command.key_hash and account.key_usage_base_pusd is not None:
        return account.key_usage_base_pusd, command.key_is_own
    # This is the first reading of this key. It does not include what was posted before. What is pending may be included or not, so
    # with calls in flight the reading proves nothing.
    if command.key_usage_pusd is None or account.pending_pusd > 0:
        return None, False
    return command.key_usage_pusd - account.posted_pusd, command.key_is_own
