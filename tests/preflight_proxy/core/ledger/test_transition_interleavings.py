"""No order of commands and crashes passes a limit or ends a reservation twice (Hypothesis, on the pure ledger).

The machine keeps the durable rows beside the state, as the store does. A crash falls before or after a commit; what is in memory is
gone then, and the state is made again of the rows.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from preflight_proxy.core.ledger.commands import (
    Assume,
    ClearQuarantine,
    Command,
    Freeze,
    MarkUnknown,
    OpenAccount,
    Post,
    Quarantine,
    Recover,
    Refuse,
    SetLimit,
    Unfreeze,
    Void,
)
from preflight_proxy.core.ledger.rows import (
    Account,
    CallFacts,
    Entry,
    EntryKind,
    QuarantinedEndpoint,
    Reservation,
    ReservationState,
)
from preflight_proxy.core.ledger.state import Change, LedgerState, state_of
from preflight_proxy.core.ledger.transition import transition
from preflight_proxy.core.refusals.refusals import Code, Refusal
from tests.support.ledger_cases import NOW_S, hold

ACCOUNTS = ("a", "b")
TAGS = ("t", "u")
amounts = st.integers(0, 60)
accounts = st.sampled_from(ACCOUNTS)


class Rows:
    """What is durable."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.reservations: dict[str, Reservation] = {}
        self.entries: list[Entry] = []
        self.quarantined: dict[tuple[str, str], QuarantinedEndpoint] = {}

    def write(self, change: Change) -> None:
        """One transaction."""
        if change.account is not None:
            self.accounts[change.account.id] = change.account
        if change.reservation is not None:
            self.reservations[change.reservation.id] = change.reservation
        if change.entry is not None:
            self.entries.append(change.entry)
        for row in change.quarantined:
            self.quarantined[row.model, row.tag] = row
        for endpoint in change.cleared:
            self.quarantined.pop(endpoint, None)

    def load(self) -> LedgerState:
        """The state after a restart."""
        reservations = (r for r in self.reservations.values() if r.state is ReservationState.PENDING or r.assumed)
        return state_of(self.accounts.values(), reservations, self.quarantined.values(), len(self.entries) + 1)


class LedgerMachine(RuleBasedStateMachine):
    """Two accounts with small limits, so that everything collides."""

    held = Bundle("held")
    assumed = Bundle("assumed")

    def __init__(self) -> None:
        super().__init__()
        self.state = LedgerState()
        self.rows = Rows()
        self.count = 0

    def commit(self, command: Command, crash: str = "none") -> Change | Refusal:
        """The store's commit, with a crash before, after, or none."""
        answer = transition(self.state, command, NOW_S)
        if isinstance(answer, Refusal):
            return answer
        if crash != "before":
            self.rows.write(answer)
        if crash == "none":
            self.state.apply(answer)
        else:
            self.state = self.rows.load()
        return answer

    @initialize(limit_pusd=st.integers(0, 200))
    def open_both(self, limit_pusd: int) -> None:
        for name in ACCOUNTS:
            self.commit(OpenAccount(name, "run", limit_pusd, token_hash=name))

    @rule(
        target=held,
        account=accounts,
        amount=amounts,
        tag=st.sampled_from(TAGS),
        crash=st.sampled_from(["none", "after"]),
    )
    def reserve(self, account: str, amount: int, tag: str, crash: str) -> str:
        self.count += 1
        before, name = self.state.accounts[account], f"r{self.count}"
        answer = self.commit(hold(name, amount, account=account, tag=tag), crash)
        now = self.state.accounts[account]
        if isinstance(answer, Change):
            assert now.posted_pusd + now.pending_pusd <= now.limit_pusd
            assert now.pending_pusd == before.pending_pusd + amount
            assert before.frozen is None
            assert ("m/x", tag) not in self.state.quarantined
        else:
            assert now == before
            assert (answer.code is Code.FROZEN) == (before.frozen is not None)
        return name

    @rule(name=held, cost_pusd=st.integers(0, 90), crash=st.sampled_from(["none", "none", "before", "after"]))
    def post(self, name: str, cost_pusd: int, crash: str) -> None:
        if self.pending(name):
            change = self.commit(Post(name, cost_pusd, CallFacts(tag="t")), crash)
            assert isinstance(change, Change)
            assert change.reservation is not None
            assert (
                (change.overrun_pusd > 0) == (cost_pusd > change.reservation.reserved_pusd) == bool(change.quarantined)
            )
        else:
            self.refuses_to_end(Post(name, cost_pusd))

    @rule(name=held, crash=st.sampled_from(["none", "before", "after"]))
    def void(self, name: str, crash: str) -> None:
        if self.pending(name):
            self.commit(Void(name, "proven"), crash)
        else:
            self.refuses_to_end(Void(name, "again"))

    @rule(target=assumed, name=consumes(held), share=st.integers(0, 100))
    def assume(self, name: str, share: int) -> str:
        self.commit(MarkUnknown(name)) if self.pending(name) else None
        if self.pending(name):
            self.commit(Assume(name, self.state.reservations[name].reserved_pusd * share // 100))
        else:
            self.refuses_to_end(Assume(name, 0))
        return name

    @rule(account=accounts, cost_pusd=st.integers(0, 30))
    def recover(self, account: str, cost_pusd: int) -> None:
        self.commit(Recover(account, cost_pusd))

    @rule(account=accounts, limit_pusd=st.integers(0, 200))
    def set_limit(self, account: str, limit_pusd: int) -> None:
        self.commit(SetLimit(account, limit_pusd))

    @rule(account=accounts, limit_pusd=st.integers(0, 200), key=st.sampled_from(["k", "l"]), usage_pusd=amounts)
    def open_again(self, account: str, limit_pusd: int, key: str, usage_pusd: int) -> None:
        self.commit(
            OpenAccount(account, "run", limit_pusd, account, key_hash=key, key_is_own=True, key_usage_pusd=usage_pusd)
        )

    @rule(account=accounts)
    def freeze(self, account: str) -> None:
        self.commit(Freeze(account, "by hand"))

    @rule(account=accounts)
    def unfreeze(self, account: str) -> None:
        self.commit(Unfreeze(account))

    @rule(account=accounts)
    def refuse(self, account: str) -> None:
        self.commit(Refuse(account))

    @rule(tag=st.sampled_from(TAGS), cleared=st.booleans())
    def quarantine(self, tag: str, cleared: bool) -> None:
        self.commit(ClearQuarantine("m/x", tag) if cleared else Quarantine("m/x", tag, "by hand"))

    @rule()
    def crash(self) -> None:
        self.state = self.rows.load()

    def pending(self, name: str) -> bool:
        """Whether the reservation was made and has not ended."""
        return name in self.state.reservations

    def refuses_to_end(self, command: Command) -> None:
        """A second end is an error and leaves no entry."""
        with pytest.raises(ValueError, match="ended"):
            transition(self.state, command, NOW_S)

    @invariant()
    def the_book_is_what_is_durable(self) -> None:
        loaded = self.rows.load()
        assert self.state.accounts == loaded.accounts
        assert self.state.reservations == loaded.reservations
        assert self.state.assumed == loaded.assumed
        assert self.state.next_entry_id == loaded.next_entry_id

    @invariant()
    def balances_are_sums(self) -> None:
        for account in self.state.accounts.values():
            assert account.posted_pusd == sum(e.cost_pusd for e in self.rows.entries if e.account == account.id) >= 0
            assert account.pending_pusd == sum(r.reserved_pusd for r in self.state.pending(account.id)) >= 0
            assert account.assumed_pusd >= 0
            ended = [
                r
                for r in self.rows.reservations.values()
                if r.account == account.id and r.state is ReservationState.POSTED
            ]
            assert account.overrun_pusd == sum(max(0, r.posted_pusd - r.reserved_pusd) for r in ended)
            assert account.posted_pusd == sum(r.posted_pusd for r in ended) + account.recovered_pusd

    @invariant()
    def each_reservation_ended_at_most_once(self) -> None:
        ends = [
            e.reservation_id
            for e in self.rows.entries
            if e.kind in {EntryKind.POSTED, EntryKind.VOIDED, EntryKind.ASSUMED}
        ]
        assert len(ends) == len(set(ends))
        assert {name for name, r in self.rows.reservations.items() if r.state is not ReservationState.PENDING} == set(
            ends
        )
        assert [e.entry_id for e in self.rows.entries] == list(range(1, len(self.rows.entries) + 1))


TestLedgerInterleavings = LedgerMachine.TestCase
TestLedgerInterleavings.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
