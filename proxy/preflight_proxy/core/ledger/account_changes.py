"""What changes an account beside its balances: opening, limit, freeze, what became of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight_proxy.core.ledger.commands import Conclude, Freeze, OpenAccount, Refuse, SetLimit, Unfreeze
from preflight_proxy.core.ledger.cost_line import clean
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.ledger.state import LedgerState, require
from preflight_proxy.core.money import LIMIT_USD_MAX, PUSD_PER_USD
from preflight_proxy.core.refusals.outcomes import NONE_YET, Cause, Outcomes


def account_changed(
    book: LedgerState, command: OpenAccount | SetLimit | Freeze | Unfreeze | Refuse | Conclude
) -> Account:
    """Return the account as the command leaves it."""
    match command:
        case OpenAccount():
            return _opened(book.accounts, command)
        case SetLimit(account, limit_pusd):
            _check_limit(limit_pusd)
            return replace(book.account(account), limit_pusd=limit_pusd)
        case Freeze(account, reason):
            return replace(book.account(account), frozen_reason=clean(reason))
        case Unfreeze(account):
            return replace(book.account(account), frozen_reason=None)
        case Refuse(account, cause):
            before = book.account(account)
            outcomes = before.outcomes if cause is None else before.outcomes.with_unserved(cause)
            return replace(before, refused=before.refused + 1, outcomes=outcomes)
        case Conclude(account, cause, overtaken):
            before = book.account(account)
            return replace(before, outcomes=_concluded(before.outcomes, cause, overtaken=overtaken))


def _check_limit(limit_pusd: int) -> None:
    require(0 <= limit_pusd <= LIMIT_USD_MAX * PUSD_PER_USD, "a limit lies between 0 and a million dollars")


def _concluded(outcomes: Outcomes, cause: Cause | None, *, overtaken: bool) -> Outcomes:
    if cause is None:
        return outcomes.with_served(overtaken=overtaken)
    return outcomes.with_unserved(cause, overtaken=overtaken)


def _opened(accounts: Mapping[str, Account], command: OpenAccount) -> Account:
    _check_limit(command.limit_pusd)
    require(command.account != "" and command.token_hash != "", "an account has an id and a token")
    holders = [a.id for a in accounts.values() if a.token_hash == command.token_hash and a.id != command.account]
    require(not holders, f"the token of {command.account} is that of another account")
    before = accounts.get(command.account)
    base_pusd, key_is_own = _key_evidence(before, command)
    return replace(
        before or Account(command.account, command.run, command.limit_pusd),
        run=command.run,
        limit_pusd=command.limit_pusd,
        models=command.models,
        token_hash=command.token_hash,
        key_hash=command.key_hash,
        key_is_own=key_is_own,
        key_usage_base_pusd=base_pusd,
        budget_file=command.budget_file,
        budget_mode=command.budget_mode,
        outcomes=before.outcomes if before and before.token_hash == command.token_hash else NONE_YET,
    )


def _key_evidence(before: Account | None, command: OpenAccount) -> tuple[int | None, bool]:
    """The base that makes the key's usage comparable with posted, and whether that usage is evidence at all (M13)."""
    if before is not None and before.key_hash == command.key_hash and before.key_usage_base_pusd is not None:
        return before.key_usage_base_pusd, command.key_is_own
    # A first reading. What was posted before it lies outside it. What is pending may lie on either side, so that with
    # calls in flight the reading proves nothing.
    posted_pusd, pending_pusd = (0, 0) if before is None else (before.posted_pusd, before.pending_pusd)
    if command.key_usage_pusd is None or pending_pusd > 0:
        return None, False
    return command.key_usage_pusd - posted_pusd, command.key_is_own
