"""Whatever the order of evidence, the books never fall below what the ended calls were billed (M13, M15)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from preflight_proxy.core.evidence.evidence import NOTHING_PUSD, PostedHistory, Verdict, judge
from preflight_proxy.core.evidence.shared_usage import SharedUsage
from preflight_proxy.core.ledger.commands import Adjust, Assume, MarkUnknown, Post, SetGeneration, Void
from preflight_proxy.core.ledger.state import LedgerState
from tests.preflight_proxy.core.evidence.test_evidence import pending
from tests.support.ledger_cases import account, do, hold, opened

LAG_S = 10.0
LIMIT_PUSD = 10**15
PUSD = 10**6


def assumed(name: str, reserved_pusd: int, cost_pusd: int) -> Verdict:
    return Verdict(replace(pending(name, reserved_pusd), generation_id=f"gen-{name}"), cost_pusd)


def test_what_a_lower_truth_frees_is_kept_as_far_as_another_can_have_cost_it() -> None:
    shared = SharedUsage()
    shared.decided([assumed("a", 50, 50), assumed("b", 30, 0)])
    assert shared.told("a", -40) == 30


def test_what_is_kept_goes_where_the_others_truth_says() -> None:
    shared = SharedUsage()
    shared.decided([assumed("a", 50, 50), assumed("b", 50, 0), assumed("c", 50, 0)])
    assert shared.told("a", -40) == 40
    assert shared.told("b", 25) == -25
    assert shared.told("c", 15) == -15


def test_what_is_kept_is_taken_back_from_the_accounts_where_it_was_put() -> None:
    shared = SharedUsage()
    shared.decided([assumed("a", 50, 50), assumed("b", 50, 50), assumed("c", 50, 0), assumed("d", 50, 0)])
    assert shared.placed("one", shared.told("a", -40)) == {"one": 40}
    assert shared.placed("two", shared.told("b", -30)) == {"two": 30}
    assert shared.placed("three", shared.told("c", 50)) == {"one": -40, "two": -10}
    assert shared.placed("four", shared.told("d", 20)) == {"two": -20}


def test_what_was_kept_for_truths_that_never_came_is_not_taken_back_for_later_ones() -> None:
    shared = SharedUsage()
    shared.decided([assumed("a", 50, 50), assumed("b", 50, 0)])
    assert shared.placed("one", shared.told("a", -40)) == {"one": 40}
    shared.given_up("b")
    shared.decided([assumed("c", 50, 50), assumed("d", 50, 0)])
    assert shared.placed("two", shared.told("c", -40)) == {"two": 40}
    assert shared.placed("two", shared.told("d", 40)) == {"two": -40}


def test_the_truth_of_a_call_that_was_alone_frees_all() -> None:
    shared = SharedUsage()
    shared.decided([assumed("a", 50, 50)])
    assert shared.told("a", -40) == 0


def test_a_call_that_was_voided_for_lack_of_usage_may_have_cost_it() -> None:
    shared = SharedUsage()
    shared.decided([assumed("a", 50, 50)])
    shared.decided([Verdict(pending("b", 30), None)])
    assert shared.told("a", -40) == 30


def test_what_was_decided_when_no_truth_was_to_come_stays_as_it_is() -> None:
    shared = SharedUsage()
    shared.decided([Verdict(pending("b", 30), None), Verdict(pending("c", 30), 20)])
    shared.decided([assumed("a", 50, 50)])
    assert shared.told("a", -40) == 0


def test_once_no_truth_is_to_come_what_is_kept_stays() -> None:
    shared = SharedUsage()
    shared.decided([assumed("a", 50, 50), assumed("b", 50, 0)])
    assert shared.told("a", -40) == 40
    shared.given_up("b")
    assert shared.kept_pusd == 0
    shared.decided([assumed("c", 50, 50)])
    assert shared.told("c", -50) == 0


@dataclass
class Case:
    """An account and its upstream: calls end unseen, are told late or never, and the usage holds each after a lag."""

    book: LedgerState = field(default_factory=lambda: opened(LIMIT_PUSD))
    history: PostedHistory = field(default_factory=PostedHistory)
    shared: SharedUsage = field(default_factory=SharedUsage)
    now_s: float = 1000.0
    costs: list[int] = field(default_factory=list)
    ended_s: dict[str, float] = field(default_factory=dict)
    assumed_at: dict[str, int] = field(default_factory=dict)
    voids: int = 0

    def call(self, reserved: int, share: int, has_id: bool) -> None:
        """A call begins and ends, and nobody sees what it cost."""
        name = f"r{len(self.costs)}"
        do(self.book, hold(name, reserved * PUSD))
        if has_id:
            do(self.book, SetGeneration(name, f"gen-{name}"))
        do(self.book, MarkUnknown(name), self.now_s)
        self.costs.append(reserved * PUSD * share // 4)
        self.ended_s[name] = self.now_s

    def wait(self, seconds: int) -> None:
        """Time passes; the reconciler looks."""
        self.now_s += seconds
        self.history.note(self.now_s, account(self.book).posted_pusd, LAG_S)

    def usage(self, ahead: int) -> int:
        """What ended a lag ago, and of younger calls those that the bits of `ahead` say."""
        return sum(
            cost
            for index, cost in enumerate(self.costs)
            if self.ended_s[f"r{index}"] <= self.now_s - LAG_S or ahead >> index % 8 & 1
        )

    def look(self, ahead: int, *, last_word: bool, waits: int) -> None:
        """Decide by the usage all that are old enough, but for those that still wait for their generation."""
        posted_pusd = self.history.at(self.now_s - LAG_S)
        ripe = [
            each
            for each in self.book.pending("a")
            if self.ended_s[each.id] <= self.now_s - LAG_S
            and not (each.generation_id and waits >> int(each.id[1:]) % 8 & 1)
        ]
        if posted_pusd is None:
            return
        verdicts = judge(ripe, self.usage(ahead) - posted_pusd, last_word=last_word)
        self.shared.decided(verdicts)
        for verdict in verdicts:
            if verdict.cost_pusd is None:
                do(self.book, Void(verdict.reservation.id, "no charge"))
                self.voids += 1
                continue
            do(self.book, Assume(verdict.reservation.id, verdict.cost_pusd))
            self.history.backdate(verdict.cost_pusd)
            if verdict.reservation.generation_id:
                self.assumed_at[verdict.reservation.id] = verdict.cost_pusd

    def told(self, index: int) -> None:
        """A call's generation tells its cost, to the one who still asks."""
        name, cost_pusd = f"r{index}", self.costs[index]
        held = self.book.reservations.get(name)
        if held is not None and held.generation_id:
            do(self.book, Post(name, cost_pusd))
        elif name in self.assumed_at:
            delta_pusd = cost_pusd - self.assumed_at.pop(name)
            kept_pusd = self.shared.told(name, delta_pusd)
            do(self.book, Adjust(name, delta_pusd))
            do(self.book, Adjust(None, kept_pusd, account="a"))
            self.history.backdate(delta_pusd + kept_pusd)

    def give_up(self, index: int) -> None:
        """A late truth is waited for no longer."""
        if self.assumed_at.pop(f"r{index}", None) is not None:
            self.shared.given_up(f"r{index}")

    @property
    def short_pusd(self) -> int:
        """What the books hold less than the ended calls were billed."""
        found = account(self.book)
        return sum(self.costs) - found.posted_pusd - found.pending_pusd


def test_a_younger_call_is_not_voided_by_a_cost_that_was_its_own_before_the_truth_came() -> None:
    """The usage ran ahead, and the older call was taken to have cost what the younger one did."""
    case = Case()
    case.wait(0)
    case.call(4, 1, has_id=True)
    case.wait(5)
    case.call(4, 4, has_id=False)
    case.wait(6)
    case.look(0b10, last_word=True, waits=0)
    case.told(0)
    case.wait(11)
    case.look(0, last_word=False, waits=0)
    assert case.short_pusd <= 0


def test_a_younger_call_that_was_voided_while_an_older_ones_share_stood_keeps_what_the_truth_frees() -> None:
    case = Case()
    case.wait(0)
    case.call(4, 1, has_id=True)
    case.wait(5)
    case.call(4, 3, has_id=False)
    case.wait(6)
    case.look(0b10, last_word=True, waits=0)
    case.wait(11)
    case.look(0, last_word=False, waits=0)
    assert case.voids == 1
    case.told(0)
    assert case.short_pusd == 0


CALL = st.tuples(st.just("call"), st.integers(1, 9), st.integers(0, 4), st.booleans())
WAIT = st.tuples(st.just("wait"), st.sampled_from([1, 5, 11]))
LOOK = st.tuples(st.just("look"), st.integers(0, 255), st.booleans(), st.sampled_from([0, 0, 255, 85]))
TELL = st.tuples(st.sampled_from(["told", "told", "give up"]), st.integers(0, 7))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(CALL, WAIT, LOOK, TELL), max_size=40))
def test_posted_and_pending_never_fall_below_what_the_ended_calls_were_billed(steps: list[tuple[object, ...]]) -> None:
    case = Case()
    case.wait(0)
    for step in steps:
        match step:
            case ("call", int(reserved), int(share), bool(has_id)):
                case.call(reserved, share, has_id)
            case ("wait", int(seconds)):
                case.wait(seconds)
            case ("look", int(ahead), bool(last_word), int(waits)):
                case.look(ahead, last_word=last_word, waits=waits)
            case ("told", int(index)) if index < len(case.costs):
                case.told(index)
            case ("give up", int(index)):
                case.give_up(index)
        assert case.short_pusd <= NOTHING_PUSD


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(CALL, WAIT, LOOK), max_size=20), st.permutations(range(20)))
def test_where_all_truth_comes_in_the_end_the_books_are_the_bill(
    steps: list[tuple[object, ...]], order: list[int]
) -> None:
    """Of calls with an id: their truth comes, in whatever order."""
    case = Case()
    case.wait(0)
    for step in steps:
        match step:
            case ("call", int(reserved), int(share), bool()):
                case.call(reserved, share, has_id=True)
            case ("wait", int(seconds)):
                case.wait(seconds)
            case ("look", int(ahead), bool(last_word), int(waits)):
                case.look(ahead, last_word=last_word, waits=waits)
    for index in order:
        if index < len(case.costs):
            case.told(index)
    found = account(case.book)
    assert found.pending_pusd == 0
    assert (
        found.posted_pusd == sum(case.costs) if not case.voids else found.posted_pusd >= sum(case.costs) - NOTHING_PUSD
    )
