"""A key's usage proves what unknown calls cost together; beyond the proof, at most their reservations (M13)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from preflight_proxy.core.evidence.evidence import NOTHING_PUSD, PostedHistory, Verdict, judge, lost_at_most
from preflight_proxy.core.ledger.rows import Account, KeyFigure, Reservation
from tests.support.cases import each


def pending(name: str, reserved_pusd: int, created_at_s: float = 0.0) -> Reservation:
    return Reservation(
        id=name,
        account="a",
        reserved_pusd=reserved_pusd,
        api="chat",
        model="m",
        tags=("t",),
        bound=1,
        streamed=False,
        created_at_s=created_at_s,
    )


FIRST, SECOND, THIRD = pending("x", 50_000, 1.0), pending("w", 40_000, 2.0), pending("v", 30_000, 2.5)


def test_a_history_tells_the_figure_of_a_moment() -> None:
    history = PostedHistory()
    for at_s, posted_pusd in ((10.0, 1), (20.0, 2), (30.0, 3)):
        history.note(at_s, posted_pusd, keep_s=60)
    assert [history.at(moment_s) for moment_s in (9.9, 10, 19.9, 20, 29, 1000)] == [None, 1, 1, 2, 2, 3]


def test_an_empty_history_tells_nothing() -> None:
    assert PostedHistory().at(5) is None


def test_a_history_keeps_the_last_figure_before_its_span_and_forgets_older_ones() -> None:
    history = PostedHistory()
    for second in range(1000):
        history.note(float(second), second, keep_s=60)
    assert len(history.at_s) == len(history.posted_pusd) <= 62
    assert history.at(999 - 60) == 939


def test_a_history_noted_rarely_still_answers_for_its_whole_span() -> None:
    history = PostedHistory()
    history.note(0.0, 1, keep_s=60)
    history.note(100.0, 2, keep_s=60)
    assert history.at(100.0 - 60) == 1


def test_what_is_assumed_of_the_usage_is_explained_from_then_on() -> None:
    history = PostedHistory()
    history.note(10.0, 5, keep_s=60)
    history.note(20.0, 7, keep_s=60)
    history.backdate(100)
    history.note(30.0, 107, keep_s=60)
    assert [history.at(moment_s) for moment_s in (10, 20, 30)] == [105, 107, 107]


def test_usage_that_shows_nothing_is_proof_that_nothing_was_charged() -> None:
    assert judge([FIRST, SECOND], 0, last_word=False) == [Verdict(FIRST, None), Verdict(SECOND, None)]
    assert judge([FIRST], NOTHING_PUSD, last_word=False) == [Verdict(FIRST, None)]
    assert judge([FIRST], -5, last_word=True) == [Verdict(FIRST, None)]


def test_usage_that_shows_something_waits_for_better_evidence() -> None:
    assert judge([FIRST], NOTHING_PUSD + 1, last_word=False) == []
    assert judge([FIRST], None, last_word=False) == []


def test_at_the_last_word_what_the_usage_shows_goes_to_the_oldest_first() -> None:
    assert judge([SECOND, FIRST], 60_000, last_word=True) == [Verdict(FIRST, 50_000), Verdict(SECOND, 10_000)]


def test_a_call_to_which_nothing_of_the_usage_is_left_is_voided() -> None:
    verdicts = judge([THIRD, SECOND, FIRST], 50_000, last_word=True)
    assert verdicts == [Verdict(FIRST, 50_000), Verdict(SECOND, None), Verdict(THIRD, None)]


def test_a_call_whose_truth_may_still_come_takes_the_rest_and_is_never_voided_for_lack_of_it() -> None:
    """Its own truth then replaces the assumption; the others' share must not have gone to it, and nothing is no proof."""
    known = replace(FIRST, generation_id="gen-1")
    later = replace(SECOND, generation_id="gen-2")
    assert judge([known, SECOND], 60_000, last_word=True) == [Verdict(SECOND, 40_000), Verdict(known, 20_000)]
    assert judge([known, later], 50_000, last_word=True) == [Verdict(known, 50_000), Verdict(later, 0)]


def test_without_evidence_each_is_assumed_in_full() -> None:
    assert judge([SECOND, FIRST], None, last_word=True) == [Verdict(FIRST, 50_000), Verdict(SECOND, 40_000)]


def test_usage_above_a_measured_reservation_is_assumed_up_to_its_exposure() -> None:
    measured = replace(FIRST, exposure_pusd=30_000)
    assert judge([measured], 200_000, last_word=True) == [Verdict(measured, 80_000)]
    assert judge([measured], 60_000, last_word=True) == [Verdict(measured, 60_000)]
    assert judge([measured], None, last_word=True) == [Verdict(measured, 50_000)]


def test_a_reservation_of_nothing_costs_nothing() -> None:
    free = pending("free", 0)
    assert judge([free], None, last_word=True) == [Verdict(free, None)]


def test_a_reservation_of_nothing_is_voided_although_its_truth_may_still_come() -> None:
    free = replace(pending("f", 0), generation_id="gen-f")
    assert judge([free], 50_000, last_word=True) == [Verdict(free, None)]


def test_nothing_unknown_needs_no_verdict() -> None:
    assert judge([], 10**9, last_word=True) == []


@given(
    st.lists(st.integers(0, 10**9), max_size=8),
    st.none() | st.integers(-(10**9), 10**10),
    st.booleans(),
)
def test_verdicts_are_all_or_none_and_never_above_reservation_or_usage(
    reserved: list[int], bound_pusd: int | None, last_word: bool
) -> None:
    unknown = [pending(str(index), pusd, float(index)) for index, pusd in enumerate(reserved)]
    verdicts = judge(unknown, bound_pusd, last_word=last_word)
    assert len(verdicts) in (0, len(unknown))
    costs = [verdict.cost_pusd or 0 for verdict in verdicts]
    assert all(0 <= cost <= each.reservation.reserved_pusd for cost, each in zip(costs, verdicts, strict=True))
    assert bound_pusd is None or sum(costs) <= max(0, bound_pusd)


# After a restart of the machine (M21): figures of accounts `a` and `b` on one foreign key


def user(name: str, posted: int, recovered: int = 0, limit: int = 10_000_000) -> Account:
    return Account(name, "", limit, posted_pusd=posted, recovered_pusd=recovered, key_hash="k")


def figure(name: str, usage: int | None, posted: int) -> KeyFigure:
    return KeyFigure(name, "u", "k", usage, posted, 1.0)


@each(
    "usage, kept, posted, others, expected",
    [
        (5_000_000, 5_000_000, (700, 700), (0, 0), 0),
        (5_000_900, 5_000_000, (700, 700), (0, 0), 900),
        (5_000_900, 5_000_000, (700, 1000), (0, 0), 600),
        (5_000_900, 5_000_000, (700, 1000), (50, 250), 400),
        (5_000_900, 5_000_000, (700, 2000), (0, 0), 0),
        (50_000_000, 5_000_000, (700, 700), (0, 0), 10_000_000 - 700),
        (4_000_000, 5_000_000, (700, 700), (0, 0), 0),
        (3_999_999, 5_000_000, (700, 700), (0, 0), 10_000_000 - 700),
        (None, 5_000_000, (700, 700), (0, 0), 10_000_000 - 700),
        (5_000_000, None, (700, 700), (0, 0), 10_000_000 - 700),
    ],
)
def test_lost_calls_cost_at_most_the_growth_of_the_usage_above_what_was_posted_since_and_what_is_left(
    usage: int | None, kept: int | None, posted: tuple[int, int], others: tuple[int, int], expected: int
) -> None:
    """`posted` and `others` are what `a` and `b` had posted at the figure, and have posted now."""
    account = user("a", posted[1])
    figures = [(user("b", others[1]), figure("b", kept, others[0])), (account, figure("a", kept, posted[0]))]
    assert lost_at_most(account, figures, usage) == expected


def test_what_was_recovered_from_one_account_does_not_lower_what_is_recovered_from_another() -> None:
    """A proxy that dies between the two goes on with the second."""
    account, other = user("a", 700), user("b", 900, recovered=900)
    figures = [(account, figure("a", 0, 700)), (other, figure("b", 0, 0))]
    assert lost_at_most(account, figures, 900) == 900


def test_an_account_without_a_figure_and_one_over_its_limit_are_charged_what_they_have_left() -> None:
    account = user("a", 300, limit=1000)
    assert lost_at_most(account, [(user("b", 0), figure("b", 0, 0))], 0) == 700
    assert lost_at_most(user("a", 1200, limit=1000), [], 0) == 0
