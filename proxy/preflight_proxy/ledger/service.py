"""The ledger of a proxy: commits to the store, then updates files, events and waiting calls.

Everything that changes money goes through `Ledger.commit`. Derived things (costs.jsonl, budget.txt, events) come after the commit
and may fail without failing a call (M10, step 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import structlog

from preflight_proxy.base.clock import Clock
from preflight_proxy.base.control_messages import Balance, balance_of
from preflight_proxy.core.admission.escalation import Escalation
from preflight_proxy.core.evidence.evidence import CALL_S_MAX
from preflight_proxy.core.ledger.account_changes import with_ended, with_refused
from preflight_proxy.core.ledger.commands import (
    Command,
    LoseKeyBase,
    MarkUnknown,
    Quarantine,
)
from preflight_proxy.core.ledger.rows import Account, CallFacts, QuarantinedEndpoint, Reservation
from preflight_proxy.core.ledger.state import Change
from preflight_proxy.core.refusals.outcomes import Cause, bad_request, refused
from preflight_proxy.core.refusals.refusals import Code, Refusal, Source
from preflight_proxy.ledger.events import Events
from preflight_proxy.ledger.files import Files
from preflight_proxy.ledger.sessions import Sessions
from preflight_proxy.ledger.store import Store
from preflight_proxy.ledger.waiting import WaitingCalls

BYOK = "it runs on a provider key of your own (BYOK), and `byok` is not set"
"""Why an endpoint is out of use that OpenRouter calls with such a key."""
KEY_LIMIT_FIRED = "the sub-key's limit fired before the budget"
"""Why an account is frozen whose own sub-key OpenRouter refused (M20)."""

_log = structlog.get_logger("preflight_proxy.ledger.service")


class Ledger:
    """Commits commands, and updates everything that depends on them.

    Args:
        store: The durable ledger, loaded.
        files: costs.jsonl, and the budget.txt of each account that has one.
        events: Followers of events.
        clock: Time of entries and of waiting.

    Attributes:
        sessions: The accounts as this process has them.
        account_state: The state of one of them, by its id.
        byok: Calls may run on provider keys of the caller's own (M16).
        reserves_proven: Each call reserves its proven bound at the price of a cache write, so no call has exposure (M24).
        call_s_max: How long upstream may go on with a call that nobody sees.
        upstream: The API base that counts the keys' usage.
        on_quarantined: Called when an endpoint billed above its reservation (M14).
    """

    def __init__(self, store: Store, files: Files, events: Events, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.events = events
        self.waiting_calls = WaitingCalls(self.account, clock)
        self.escalation = Escalation()
        self.files = files
        self._as_of = count(int(clock.monotonic_s() * 1_000_000))  # a proxy that follows this one begins above it
        self.sessions = Sessions(store.state.accounts.values(), clock)
        self.account_state = self.sessions.state
        self.byok = self.reserves_proven = False
        self.upstream = ""
        self.call_s_max = CALL_S_MAX
        self.on_quarantined: Callable[[QuarantinedEndpoint], None] = lambda _row: None

    def accounts(self) -> Mapping[str, Account]:
        """All accounts, by id."""
        return self.store.state.accounts

    def account(self, account_id: str) -> Account:
        """One account as it stands.

        Raises:
            KeyError: There is none.
        """
        return self.store.state.accounts[account_id]

    def commit(self, command: Command) -> Change | Refusal:
        """Make one transition durable, then update files, events and waiting calls.

        Raises:
            LedgerError: The store cannot be written; nothing has changed, and nothing will be admitted any more.
        """
        change = self.store.commit(command)
        if isinstance(change, Refusal):
            return change
        if change.entry is not None:
            self.files.add(change.entry)
        for row in change.quarantined:
            _log.error("endpoint.quarantined", model=row.model, tag=row.tag, why=row.reason)
            self.on_quarantined(row)
        if change.account is not None:
            if change.identity_changed:
                self.sessions.note_token(change.account)
            if change.account.budget_file is not None:
                self.files.show(change.account)
            if self.waiting_calls.attempts:
                self.waiting_calls.wake(change.account.id)
        return change

    def write_budget(self, account_id: str) -> None:
        """Have the account's budget.txt brought up to date."""
        self.files.show(self.account(account_id))

    def mark_unknown(self, reservation: Reservation, call: CallFacts, *, ended: bool) -> None:
        """Mark a call as unknown. If its end was not seen, missing usage proves nothing before the longest call is over (M13).

        Raises:
            LedgerError: The store cannot be written.
        """
        ended_by_s = 0.0 if ended else reservation.created_at_s + self.call_s_max
        self.commit(MarkUnknown(reservation.id, call, ended_by_s))

    def note_byok(self, reservation: Reservation, call: CallFacts) -> None:
        """Quarantine the endpoint of a call that ran on a provider key of the caller's own, if `byok` is not set; before the post.

        The usage of a foreign key that it left with proves nothing from then on (M13). What the provider key pays was not quoted,
        and what is known of it comes after the call. If it is not known which endpoint served, each that was quoted may have been
        the one.

        Raises:
            LedgerError: The store cannot be written.
        """
        if not call.is_byok:
            return
        if (base := self.store.state.key_bases.get(reservation.key_base or 0)) and not base.lost:
            self.commit(LoseKeyBase(base.id, "a call ran on a provider key of the user's own (BYOK)"))
        if self.byok:
            return
        served = call.tag or reservation.tag
        for tag in (served,) if served else reservation.tags:
            if (reservation.model, tag) not in self.store.state.quarantined:
                self.commit(Quarantine(reservation.model, tag, BYOK))

    def key_base(self, account_id: str) -> int | None:
        """The key base of a new call: that of the account's key if other programs use the key too; None without one."""
        account = self.store.state.accounts[account_id]
        base = None if account.key_is_own else self.store.state.base_of(self.upstream, account.key_hash)
        return None if base is None else base.id

    def forgive(self, account_id: str) -> None:
        """Forget earlier refusals, after a limit was changed or a freeze lifted (M19)."""
        self.escalation.clear(self.account(account_id).token_hash)
        self.account_state(account_id).is_refused = False

    def note_refusal(self, account_id: str, code: Code, model: str, limit_needed_pusd: int = 0) -> None:
        """Count a refused call and why, and publish it."""
        self.account_state(account_id).is_refused |= code.is_budget
        self._refuse(account_id, refused(code, model, limit_needed_pusd))

    def note_bad_request(self, account_id: str, text: str) -> None:
        """Count a call that was refused because of its content, and publish it."""
        self._refuse(account_id, bad_request(text))

    def _refuse(self, account_id: str, cause: Cause) -> None:
        self.account_state(account_id).budget_refusals += cause.source is Source.BUDGET
        self.store.note(with_refused(self.account(account_id), cause))
        self._tell("refused", account_id, cause)

    def note_unserved(self, account_id: str, cause: Cause, *, overtaken: bool = False) -> None:
        """Count a call that was not answered though we did not refuse it, and publish it."""
        self.store.note(with_ended(self.account(account_id), cause, overtaken=overtaken))
        self._tell("unserved", account_id, cause)

    def note_served(self, account_id: str, *, overtaken: bool) -> None:
        """Count a call that was answered."""
        self.store.note(with_ended(self.account(account_id), None, overtaken=overtaken))

    def _tell(self, kind: str, account_id: str, cause: Cause) -> None:
        facts = {"code": cause.code, "source": cause.source, "text": cause.text, "detail": cause.detail}
        self.publish(kind, account_id, model=cause.model, **facts)

    def spent(self, account_id: str) -> bool:
        """True if a call was refused, and not even the cheapest one would fit with nothing pending (M19, a call that repeats)."""
        account = self.account(account_id)
        return self.account_state(account_id).is_spent(account.limit_pusd - account.posted_pusd)

    def close(self) -> None:
        """Write the last state of the files."""
        self.files.close()

    def publish(self, kind: str, account_id: str, **facts: Any) -> None:  # noqa: ANN401 - `LedgerEvent` knows them
        """Publish an event with the account's balance. Nothing is built before anyone has followed."""
        if not self.events.wanted:
            return
        self.events.publish(kind, account_id, balance=self.balance(account_id), **facts)

    def balance(self, account_id: str) -> Balance:
        """The account as it stands. Of two balances the one with the higher `as_of` is the newer."""
        account, state = self.account(account_id), self.account_state(account_id)
        return balance_of(
            account,
            as_of=next(self._as_of),
            calls_in_flight=len(state.running),
            spent=self.spent(account_id),
            quarantined=tuple(f"{model} {tag}" for model, tag in sorted(self.store.state.quarantined)),
            keyed=state.key is not None,
            gate=state.gate,
            traffic={name: traffic.document() for name, traffic in state.traffic.items()},
            unknown=self.store.state.unknown_count(account_id),
        )
