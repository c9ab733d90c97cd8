"""No order of commands and crashes passes a limit or ends a reservation twice (Hypothesis, on the pure ledger).

The machine keeps the durable rows beside the state, as the store does: each transition adds rows, and a projection is taken at any
moment. A crash falls before or after a commit; what is in memory is gone then, and the state is folded of projection and rows.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from msgspec.structs import replace

from preflight_proxy.core.admission.admission import Admission, admit
from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.ledger.commands import (
    Assume,
    ClearQuarantine,
    Command,
    Freeze,
    MarkUnknown,
    NoteKeyBase,
    OpenAccount,
    Post,
    Quarantine,
    Recover,
    SetGeneration,
    SetLimit,
    Unfreeze,
    Void,
)
from preflight_proxy.core.ledger.projection import IN_ROW, Marks, fold, marks_of, projected
from preflight_proxy.core.ledger.rows import (
    Account,
    CallFacts,
    Entry,
    EntryKind,
    KeyBase,
    QuarantinedEndpoint,
    Reservation,
)
from preflight_proxy.core.ledger.state import EXPOSED_PART, Change, LedgerState, Pending
from preflight_proxy.core.ledger.transition import transition
from preflight_proxy.core.pricing.quote import Quote, Quotes, WorstCase
from preflight_proxy.core.refusals.outcomes import NONE_YET
from preflight_proxy.core.refusals.refusals import Code, Refusal
from tests.support.ledger_cases import NOW_S, hold, rows_of

ACCOUNTS = ("a", "b")
TAGS = ("t", "u")
amounts = st.integers(0, 60)
accounts = st.sampled_from(ACCOUNTS)


class Rows:
    """What is durable."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.reservations: dict[int, Reservation] = {}
        self.entries: list[Entry] = []
        self.quarantined: dict[tuple[str, str], QuarantinedEndpoint] = {}
        self.key_bases: dict[int, KeyBase] = {}
        self.marks = Marks()
        self.projection: dict[str, Account] = {}

    def write(self, change: Change) -> None:
        """One transaction. Of an account only its row is written, and only where that changes."""
        if change.account is not None and change.identity_changed:
            self.accounts[change.account.id] = Account(**{name: getattr(change.account, name) for name in IN_ROW})
        if change.reservation is not None and change.entry is None:
            self.reservations[change.reservation.seq] = change.reservation
        if change.entry is not None:
            self.entries.append(change.entry)
        if change.key_base is not None:
            self.key_bases[change.key_base.id] = change.key_base
        for row in change.quarantined:
            self.quarantined[row.model, row.tag] = row
        for endpoint in change.cleared:
            self.quarantined.pop(endpoint, None)

    def project(self, state: LedgerState) -> None:
        """What the checkpointing thread writes."""
        self.marks = marks_of(state, (0, 0))
        self.projection = dict(state.accounts)

    def load(self) -> LedgerState:
        """The state after a restart."""
        return fold(
            self.marks,
            [projected(row, self.projection.get(name)) for name, row in self.accounts.items()],
            [self.reservations[seq] for seq in self.marks.pending],
            [row for seq, row in self.reservations.items() if seq > self.marks.seq],
            [entry for entry in self.entries if entry.entry_id > self.marks.entry_id],
            self.key_bases.values(),
            self.quarantined.values(),
        )


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
        self.commit(NoteKeyBase("upstream", "k", 0, 0))

    @rule(
        target=held,
        account=accounts,
        amount=amounts,
        tag=st.sampled_from(TAGS),
        exposure_pusd=st.sampled_from([0, 0, 3, 40]),
        crash=st.sampled_from(["none", "after"]),
    )
    def reserve(self, account: str, amount: int, tag: str, exposure_pusd: int, crash: str) -> str:
        self.count += 1
        before, name = self.state.accounts[account], f"r{self.count}"
        key_base = 1 if account == "a" else None
        command = replace(hold(name, amount, account=account, tag=tag), key_base=key_base, exposure_pusd=exposure_pusd)
        answer = self.commit(command, crash)
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
            change = self.commit(
                Post(name, cost_pusd, CallFacts(tag="t", prompt_tokens=cost_pusd, cached_tokens=1)), crash
            )
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

    @rule(tag=st.sampled_from(TAGS), cleared=st.booleans())
    def quarantine(self, tag: str, cleared: bool) -> None:
        self.commit(ClearQuarantine("m/x", tag) if cleared else Quarantine("m/x", tag, "by hand"))

    @rule(name=held)
    def name(self, name: str) -> None:
        if self.pending(name):
            self.commit(SetGeneration(name, f"gen-{name}"))

    @rule()
    def project(self) -> None:
        self.rows.project(self.state)

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
    def the_ledger_in_memory_is_what_is_durable(self) -> None:
        """But for the counts of refused calls since the last projection."""
        loaded = self.rows.load()
        accounts, loaded.accounts = loaded.accounts, self.state.accounts
        assert rows_of(loaded) == rows_of(self.state)
        for name in ACCOUNTS:
            assert loaded.unknown_count(name) == self.state.unknown_count(name)
            assert loaded.pending_exposure(name) == self.state.pending_exposure(name)
        for name, account in accounts.items():
            now = self.state.accounts[name]
            assert account.refused <= now.refused
            assert replace(account, refused=0, outcomes=NONE_YET) == replace(now, refused=0, outcomes=NONE_YET)

    @invariant()
    def balances_are_sums(self) -> None:
        reserved_pusd = {row.id: row.reserved_pusd for row in self.rows.reservations.values()}
        for account in self.state.accounts.values():
            entries = [entry for entry in self.rows.entries if entry.account == account.id]
            assert account.posted_pusd == sum(entry.cost_pusd for entry in entries) >= 0
            assert account.pending_pusd == sum(r.reserved_pusd for r in self.state.pending(account.id)) >= 0
            assumed = [entry.cost_pusd for entry in entries if entry.kind is EntryKind.ASSUMED]
            assert account.assumed_pusd == sum(assumed)
            exposures = [r.exposure_pusd for r in self.state.pending(account.id)]
            assert self.state.pending_exposure(account.id) == Pending(len(exposures), sum(exposures))
            ended = [entry for entry in entries if entry.reservation_id is not None]
            over = (entry.cost_pusd - reserved_pusd[entry.reservation_id or ""] for entry in ended)
            assert account.overrun_pusd == sum(max(0, pusd) for pusd in over)
            assert account.posted_pusd == sum(entry.cost_pusd for entry in ended) + account.recovered_pusd

    @invariant()
    def each_reservation_ended_at_most_once(self) -> None:
        ends = [
            e.reservation_id
            for e in self.rows.entries
            if e.kind in {EntryKind.POSTED, EntryKind.VOIDED, EntryKind.ASSUMED}
        ]
        assert len(ends) == len(set(ends))
        assert {row.id for row in self.rows.reservations.values()} == set(ends) | set(self.state.reservations)
        assert [e.entry_id for e in self.rows.entries] == list(range(1, len(self.rows.entries) + 1))


TestLedgerInterleavings = LedgerMachine.TestCase
TestLedgerInterleavings.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)


LIMIT_PUSD, ASKED = 1000, 100
prompts = st.tuples(st.integers(0, 300), st.sampled_from([0, 0, 10, 100, 300, 1500]))
"""What a prompt costs at one endpoint as measured, and how much more it costs by what is proven."""


class ExposedCalls(RuleBasedStateMachine):
    """One account whose calls are billed up to what is proven: what `admit` allows passes no limit by more than M24 says."""

    calls = Bundle("calls")
    is_measured = True

    def __init__(self) -> None:
        super().__init__()
        self.state, self.rows = LedgerState(), Rows()
        self.worst_pusd: dict[str, int] = {}
        self.largest_pusd = 0
        self.commit(OpenAccount("a", "run", LIMIT_PUSD, token_hash="a"))

    def commit(self, command: Command) -> None:
        """Commit what must be allowed, because `admit` decided so."""
        change = transition(self.state, command, NOW_S)
        assert isinstance(change, Change)
        self.rows.write(change)
        self.state.apply(change)

    @rule(
        target=calls,
        endpoints=st.lists(prompts, min_size=1, max_size=3),
        busy=st.booleans(),
        waited_s=st.sampled_from([0.0, CALL_WAIT_S_MAX]),
    )
    def call(self, endpoints: list[tuple[int, int]], busy: bool, waited_s: float) -> str:
        tags = tuple(f"t{place}" for place in range(len(endpoints)))
        measured, proven = (
            Quote(
                "m/x", tags, ASKED, ASKED, ASKED // 4, {}, 1, tuple(WorstCase(cost, 10**6, None, 0) for cost in costs)
            )
            for costs in ([cost for cost, _more in endpoints], [cost + more for cost, more in endpoints])
        )
        quotes = Quotes((measured, proven), proven) if self.is_measured else Quotes.of(proven)
        name, pending = f"r{self.state.next_seq}", self.state.pending_exposure("a")
        account = self.state.accounts["a"]
        decided = admit(account, quotes, pending=pending, busy=busy, has_unknown=False, waited_s=waited_s)
        if not isinstance(decided, Admission):
            return ""
        command = replace(hold(name, decided.reserve_pusd), tags=decided.tags, bound=decided.bound)
        self.commit(replace(command, exposure_pusd=decided.exposure_pusd))
        self.worst_pusd[name] = max(proven.line(tag).pusd(decided.bound) for tag in decided.tags)
        self.largest_pusd = max(self.largest_pusd, decided.exposure_pusd)
        return name

    @rule(name=calls, share=st.sampled_from([0, 30, 70, 100, 100, 100]))
    def bill(self, name: str, share: int) -> None:
        if name in self.state.reservations:
            self.commit(Post(name, self.worst_pusd[name] * share // 100, is_miscount=True))

    @rule(name=calls, share=st.sampled_from([0, 50, 100]))
    def assume(self, name: str, share: int) -> None:
        if name in self.state.reservations:
            self.commit(MarkUnknown(name))
            self.commit(Assume(name, self.worst_pusd[name] * share // 100))

    @rule()
    def project(self) -> None:
        self.rows.project(self.state)

    @rule()
    def restart(self) -> None:
        self.state = self.rows.load()

    @invariant()
    def no_more_can_be_billed_than_promised(self) -> None:
        """Nor is now: pending calls may all be billed their worst."""
        most_pusd = self.state.accounts["a"].posted_pusd + sum(
            self.worst_pusd[name] for name in self.state.reservations
        )
        allowed_pusd = max(LIMIT_PUSD // EXPOSED_PART, self.largest_pusd) if self.is_measured else 0
        assert most_pusd - LIMIT_PUSD <= allowed_pusd


class ProvenCalls(ExposedCalls):
    """The same, reserved by what is proven."""

    is_measured = False


TestExposedCalls = ExposedCalls.TestCase
TestProvenCalls = ProvenCalls.TestCase
TestExposedCalls.settings = TestProvenCalls.settings = TestLedgerInterleavings.settings
