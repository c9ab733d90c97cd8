"""The one transition function: what each command does to an account, and what it refuses."""

import random
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Literal

import pytest
from hypothesis import settings
from msgspec.structs import replace

from preflight_proxy.core.ledger.commands import (
    Assume,
    ClearQuarantine,
    Command,
    Freeze,
    KeepKeyFigure,
    LoseKeyBase,
    MarkUnknown,
    NoteKeyBase,
    OpenAccount,
    Post,
    Quarantine,
    Recover,
    Reserve,
    SetGeneration,
    SetLimit,
    Unfreeze,
    Void,
)
from preflight_proxy.core.ledger.rows import Account, CallFacts
from preflight_proxy.core.ledger.state import Change, LedgerState, Pending
from preflight_proxy.core.ledger.transition import may_send, transition
from preflight_proxy.core.pricing.fits import PriceTier, PromptRate, fits_tokens
from preflight_proxy.core.refusals.refusals import Code, Refusal
from tests.support.cases import each
from tests.support.ledger_cases import NOW_S, account, do, hold, opened

# Limit 1000 in every row. After each command: posted, pending, available; or the code of the refusal.
STORIES: list[tuple[str, list[tuple[Command, tuple[int, int, int] | Code]]]] = [
    (
        "a call that costs less than was reserved gives the rest back",
        [(hold("r", 400), (0, 400, 600)), (Post("r", 150), (150, 0, 850))],
    ),
    ("a call that costs nothing", [(hold("r", 400), (0, 400, 600)), (Post("r", 0), (0, 0, 1000))]),
    ("a voided call", [(hold("r", 400), (0, 400, 600)), (Void("r", "refused"), (0, 0, 1000))]),
    ("an assumed call", [(hold("r", 400), (0, 400, 600)), (Assume("r", 400), (400, 0, 600))]),
    ("the very last pico-dollar may be reserved", [(hold("r", 1000), (0, 1000, 0)), (Post("r", 1000), (1000, 0, 0))]),
    ("one pico-dollar more may not", [(hold("r", 1001), Code.DOES_NOT_FIT)]),
    (
        "what is in flight counts",
        [(hold("r", 600), (0, 600, 400)), (hold("s", 401), Code.DOES_NOT_FIT), (hold("t", 400), (0, 1000, 0))],
    ),
    ("a call for nothing fits into nothing", [(SetLimit("a", 0), (0, 0, 0)), (hold("r", 0), (0, 0, 0))]),
    (
        "a limit below what is pending stops new calls, and ends none",
        [
            (hold("r", 600), (0, 600, 400)),
            (SetLimit("a", 500), (0, 600, -100)),
            (hold("s", 0), Code.DOES_NOT_FIT),
            (Post("r", 100), (100, 0, 400)),
            (hold("t", 400), (100, 400, 0)),
        ],
    ),
    (
        "a frozen account takes no call, and those in flight still end",
        [
            (hold("r", 100), (0, 100, 900)),
            (Freeze("a", "by hand"), (0, 100, 900)),
            (hold("s", 1), Code.FROZEN),
            (Post("r", 90), (90, 0, 910)),
            (Unfreeze("a"), (90, 0, 910)),
            (hold("t", 1), (90, 1, 909)),
        ],
    ),
    (
        "frozen is said before quarantined, quarantined before what does not fit",
        [
            (Quarantine("m/x", "t", "billed above"), (0, 0, 1000)),
            (hold("r", 2000), Code.QUARANTINED),
            (hold("r", 1, tag="u"), (0, 1, 999)),
            (hold("s", 1, model="m/y"), (0, 2, 998)),
            (Freeze("a", "by hand"), (0, 2, 998)),
            (hold("u", 2000), Code.FROZEN),
            (Unfreeze("a"), (0, 2, 998)),
            (ClearQuarantine("m/x", "t"), (0, 2, 998)),
            (hold("u", 8), (0, 10, 990)),
        ],
    ),
    (
        "an account waits for its key's usage, whatever it showed",
        [(Recover("a", 300), (300, 0, 700)), (Recover("a", 0), (300, 0, 700))],
    ),
]


@each("story", [rows for _, rows in STORIES])
def test_balances_after_each_command(story: list[tuple[Command, tuple[int, int, int] | Code]]) -> None:
    """Each row is one command and what it leaves."""
    state = opened(1000)
    for command, expected in story:
        answer = transition(state, command, NOW_S)
        if isinstance(expected, Code):
            assert isinstance(answer, Refusal)
            assert answer.code is expected
            continue
        do(state, command)
        now = account(state)
        assert (now.posted_pusd, now.pending_pusd, now.available_pusd) == expected, command


def test_a_refusal_tells_the_balance_and_what_was_needed() -> None:
    """The headers of a refusal are made of these."""
    state = opened(1000)
    do(state, hold("r", 300))
    do(state, Post("r", 200))
    do(state, hold("s", 100))
    assert transition(state, hold("t", 701), NOW_S) == Refusal(Code.DOES_NOT_FIT, 1000, 200, 100, 700, 701)


ENDS: list[Command] = [Post("r", 5), Void("r", "x"), Assume("r", 5)]
SECONDS: list[Command] = [Post("r", 1), Void("r", "x"), Assume("r", 1), MarkUnknown("r"), SetGeneration("r", "g")]


@each("first, second", product(ENDS, SECONDS))
def test_a_reservation_ends_once(first: Command, second: Command) -> None:
    """M15: whatever comes second is an error of the caller, and changes nothing."""
    state = opened()
    do(state, hold("r"))
    do(state, first)
    before = account(state)
    with pytest.raises(ValueError, match="ended"):
        transition(state, second, NOW_S)
    assert account(state) == before
    assert state.next_entry_id == 2


def test_an_id_in_use_is_not_taken_twice() -> None:
    """Ids are random: one that has ended does not come again."""
    state = opened()
    do(state, hold("r"))
    with pytest.raises(ValueError, match="used before"):
        transition(state, hold("r"), NOW_S)


@each(
    "command",
    [
        hold("r", -1),
        hold("r", account="nobody"),
        Post("nothing", 1),
        Post("pending", -1),
        SetLimit("nobody", 1),
        Recover("a", -1),
    ],
)
def test_nonsense_is_an_error_and_not_an_entry(command: Command) -> None:
    """Negative amounts and unknown names."""
    state = opened()
    do(state, hold("pending"))
    with pytest.raises(ValueError, match=r"negative|no account|ended"):
        transition(state, command, NOW_S)


def test_the_generation_id_and_the_tag_are_kept_through_the_end() -> None:
    """What the headers told is not lost when the end tells nothing."""
    state = opened()
    do(state, hold("r"))
    do(state, SetGeneration("r", "gen-1", "openai"))
    ended = do(state, Post("r", 5)).reservation
    assert ended is not None
    assert (ended.generation_id, ended.tag) == ("gen-1", "openai")


def test_a_second_generation_id_of_a_call_changes_nothing() -> None:
    state = opened()
    do(state, hold("r"))
    do(state, SetGeneration("r", "gen-1"))
    assert do(state, SetGeneration("r", "gen-2", "openai")) == Change()
    assert (state.reservations["r"].generation_id, state.reservations["r"].tag) == ("gen-1", None)


def test_a_second_mark_keeps_the_first_moment_of_not_knowing() -> None:
    """The age of an unknown outcome decides what evidence counts (M13)."""
    state = opened()
    do(state, hold("r"))
    do(state, MarkUnknown("r", CallFacts(generation_id="gen-1")), at_s=10.0)
    do(state, MarkUnknown("r"), at_s=20.0)
    assert state.reservations["r"].unknown_since_s == 10.0
    assert state.reservations["r"].generation_id == "gen-1"


def test_the_transition_itself_changes_nothing() -> None:
    """Durable first, in memory after: so a failed commit needs no undoing."""
    state = opened()
    before = (dict(state.accounts), dict(state.reservations), state.next_entry_id)
    transition(state, hold("r"), NOW_S)
    transition(state, SetLimit("a", 1), NOW_S)
    transition(state, Recover("a", 1), NOW_S)
    assert (dict(state.accounts), dict(state.reservations), state.next_entry_id) == before


@each(
    "between",
    [
        Freeze("a", "by hand"),
        SetLimit("a", 50),
        MarkUnknown("r"),
        Void("r", "gone"),
        Quarantine("m/x", "t", "billed above its bound"),
        OpenAccount("a", "run", 1000, token_hash="another"),
        OpenAccount("a", "run", 1000, token_hash="token of a", models=("m/y",)),
        OpenAccount("a", "run", 1000, token_hash="token of a", key_hash="another"),
    ],
)
def test_a_call_does_not_leave_once_its_account_has_changed(between: Command) -> None:
    """M10, step 2."""
    state = opened()
    reserved = do(state, hold("r")).account
    assert reserved is not None
    assert may_send(state, "r", reserved)
    do(state, between)
    assert not may_send(state, "r", reserved)


def test_a_raised_limit_and_other_calls_stop_nothing() -> None:
    """Only what takes the ground from under a reservation counts as a change."""
    state = opened()
    reserved = do(state, hold("r")).account
    assert reserved is not None
    do(state, SetLimit("a", 2000))
    do(state, hold("s"))
    do(state, Post("s", 7))
    assert may_send(state, "r", reserved)


EVENTS: tuple[Command | None, ...] = (
    Freeze("a", "ended"),
    Unfreeze("a"),
    SetLimit("a", 50),
    SetLimit("a", 1000),
    None,  # the client hangs up
)
EVENTS_MAX = 2


def test_no_freeze_and_no_hang_up_slips_in_between_reserving_and_sending() -> None:
    """M10: every order of a call and up to two freezes, hang-ups and cut limits; step 2 and the first byte are one step."""
    _play(list(_orders()))


def test_nor_does_one_in_long_orders_that_are_drawn() -> None:
    """Up to six events, seeded; ten thousand orders where properties are tried on many examples."""
    rng = random.Random(20260801)
    _play([_drawn(rng) for _ in range(50 * settings().max_examples)])


Step = Literal["reserve", "send"] | Command | None


def _orders() -> Iterator[tuple[Step, ...]]:
    for count in range(EVENTS_MAX + 1):
        for events in product(EVENTS, repeat=count):
            for reserve, send in combinations(range(count + 2), 2):
                yield (*events[:reserve], "reserve", *events[reserve : send - 1], "send", *events[send - 1 :])


def _drawn(rng: random.Random) -> tuple[Step, ...]:
    steps: list[Step] = ["reserve", "send"]
    for event in rng.choices(EVENTS, k=rng.randint(0, 6)):
        steps.insert(rng.randint(0, len(steps)), event)
    return tuple(steps)


def _play(orders: Sequence[tuple[Step, ...]]) -> None:
    outcomes = {"sent": 0, "voided": 0, "refused": 0}
    for steps in orders:
        state = opened(1000)
        _interleave(steps, state, outcomes)
        assert account(state).pending_pusd == 0
        assert account(state).posted_pusd <= 1000
    assert min(outcomes.values()) > len(orders) // 20, outcomes


def _interleave(steps: Sequence[Step], state: LedgerState, outcomes: dict[str, int]) -> None:
    here, under = True, dict[str, Account]()
    for step in steps:
        if step == "reserve":
            answer = transition(state, hold("r", 600), NOW_S)
            if isinstance(answer, Change) and answer.account is not None:
                state.apply(answer)
                under["r"] = answer.account
            else:
                outcomes["refused"] += 1
        elif step == "send" and "r" in under:
            if here and may_send(state, "r", under["r"]):
                now = account(state)
                assert now.frozen is None
                assert now.posted_pusd + now.pending_pusd <= now.limit_pusd
                outcomes["sent"] += 1
                do(state, Post("r", 600))
            else:
                outcomes["voided"] += 1
                do(state, Void("r", "not sent"))
        elif step is None:
            here = False
        elif not isinstance(step, str):
            do(state, step)


SEVERAL = Reserve("r", "a", 100, "chat", "m/x", ("t", "u"), bound=16, digest="d1")


def test_one_quarantined_endpoint_of_several_refuses_a_call() -> None:
    """M14: `provider.only` names them all, so any of them may serve it."""
    state = opened()
    do(state, Quarantine("m/x", "u", "billed more"))
    refused = transition(state, SEVERAL, NOW_S)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.QUARANTINED


def test_one_endpoint_of_several_that_is_quarantined_meanwhile_stops_a_call() -> None:
    state = opened()
    do(state, SEVERAL)
    do(state, Quarantine("m/x", "u", "billed more"))
    assert not may_send(state, "r", account(state))


def test_nothing_is_reserved_while_the_keys_usage_is_not_read() -> None:
    """M21: the last commits before a restart may be lost."""
    state = opened()
    state.accounts["a"] = replace(account(state), usage_unread=True)
    refused = transition(state, hold("r"), NOW_S)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.FROZEN
    do(state, Unfreeze("a"))
    assert isinstance(transition(state, hold("r"), NOW_S), Refusal)
    do(state, Recover("a", 0))
    do(state, hold("r"))


def test_a_call_whose_end_was_not_seen_is_unknown_from_the_latest_moment_of_its_end() -> None:
    """M13: upstream may still be generating until then."""
    state = opened()
    do(state, hold("r"))
    do(state, hold("s"))
    do(state, MarkUnknown("r", ended_by_s=NOW_S + 1800))
    do(state, MarkUnknown("s", ended_by_s=NOW_S - 5))
    assert [state.reservations[name].unknown_since_s for name in "rs"] == [NOW_S + 1800, NOW_S]


def test_a_reservation_keeps_the_digest_and_the_key_base_of_its_call() -> None:
    state = opened()
    do(state, NoteKeyBase("upstream", "key", 5, 0))
    do(state, replace(SEVERAL, key_base=1))
    assert (state.reservations["r"].digest, state.reservations["r"].key_base) == ("d1", 1)


def test_bases_of_foreign_keys_are_numbered_and_lost_once() -> None:
    state = opened()
    for key in ("key", "other key"):
        do(state, NoteKeyBase("upstream", key, 5, 0))
    assert sorted(state.key_bases) == [1, 2]
    do(state, LoseKeyBase(1, "first reason"))
    do(state, LoseKeyBase(1, "second reason"))
    assert state.key_bases[1].lost == "first reason"
    assert state.base_of("upstream", "key") is None
    assert state.base_of("upstream", "other key") == state.key_bases[2]


def test_a_call_is_not_sent_with_another_foreign_key_than_the_one_of_its_base() -> None:
    """Its cost would be looked for in the usage of the wrong key."""
    state = opened()
    do(state, NoteKeyBase("upstream", "key", 5, 0))
    state.accounts["a"] = replace(account(state), key_hash="key")
    do(state, replace(SEVERAL, key_base=1))
    assert may_send(state, "r", account(state))
    state.accounts["a"] = replace(account(state), key_hash="other key")
    assert not may_send(state, "r", account(state))


def test_the_figure_of_a_foreign_key_is_kept_for_the_accounts_that_use_it_and_wait_for_nothing() -> None:
    state = LedgerState()
    for name, key, is_own in (("a", "k", False), ("b", "k", False), ("c", "k", True), ("d", "other", False)):
        do(state, OpenAccount(name, "run", 1000, name, key_hash=key, key_is_own=is_own, key_usage_pusd=0))
    do(state, hold("r", 400))
    do(state, Post("r", 150))
    do(state, Recover("a", 50))
    do(state, KeepKeyFigure("u", "k", 900))
    assert {name: (f.usage_pusd, f.posted_pusd, f.at_s) for name, f in state.key_figures.items()} == {
        "a": (900, 150, NOW_S),
        "b": (900, 0, NOW_S),
    }
    state.accounts["b"] = replace(state.accounts["b"], usage_unread=True)
    do(state, KeepKeyFigure("u", "k", 1000))
    assert {name: f.usage_pusd for name, f in state.key_figures.items()} == {"a": 1000, "b": 900}
    do(state, KeepKeyFigure("u", "k", None))
    assert state.key_figures["a"].usage_pusd == 1000
    do(state, KeepKeyFigure("v", "k", None))
    assert {name: (f.upstream, f.usage_pusd) for name, f in state.key_figures.items()} == {
        "a": ("v", None),
        "b": ("u", 900),
    }
    do(state, SetLimit("a", 2000))
    assert "a" in state.key_figures
    do(state, OpenAccount("a", "run", 1000, "a", key_hash="other"))
    assert state.key_figures.keys() == {"b"}


def exposed(name: str, exposure_pusd: int, reserved_pusd: int = 10) -> Reserve:
    return replace(hold(name, reserved_pusd), exposure_pusd=exposure_pusd)


@each("before, exposure_pusd, is_committed", [(0, 250, True), (0, 251, False), (100, 150, True), (100, 151, False)])
def test_beside_other_calls_no_exposure_passes_a_quarter_of_the_limit(
    before: int, exposure_pusd: int, is_committed: bool
) -> None:
    """M24, whoever decided the admission: the sum of all pending ones, this one included."""
    state = opened(1000)
    do(state, exposed("r", before))
    answer = transition(state, exposed("s", exposure_pusd), NOW_S)
    if is_committed:
        assert isinstance(answer, Change)
        assert answer.reservation is not None
        assert answer.reservation.exposure_pusd == exposure_pusd
    else:
        assert isinstance(answer, Refusal)
        assert answer.code is Code.DOES_NOT_FIT


def test_a_call_alone_may_be_exposed_as_much_as_it_is_and_beside_it_only_what_is_not_exposed() -> None:
    state = opened(1000)
    do(state, exposed("r", 5000))
    assert isinstance(transition(state, exposed("s", 1), NOW_S), Refusal)
    do(state, exposed("s", 0))
    do(state, Post("r", 1))
    do(state, exposed("t", 250))
    assert state.pending_exposure("a") == Pending(2, 250)


def test_the_exposure_of_another_account_does_not_count() -> None:
    state = opened(1000)
    do(state, OpenAccount("b", "run", 1000, token_hash="other"))
    do(state, replace(exposed("r", 5000), account="b"))
    do(state, exposed("s", 5000))
    assert (state.pending_exposure("a"), state.pending_exposure("b")) == (Pending(1, 5000), Pending(1, 5000))


def test_an_exposure_is_not_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        transition(opened(), exposed("r", -1), NOW_S)


@each("end", [Post("r", 5), Void("r", "x"), Assume("r", 5), Post("r", 900)])
def test_an_exposure_ends_with_its_reservation(end: Command) -> None:
    state = opened(1000)
    do(state, exposed("r", 5000))
    do(state, SetGeneration("r", "g", "t"))
    do(state, MarkUnknown("r"))
    assert state.pending_exposure("a") == Pending(1, 5000)
    do(state, end)
    assert state.pending_exposure("a") == Pending(0, 0)


def test_a_purpose_is_kept_in_the_reservation() -> None:
    change = do(opened(), replace(hold("r"), purpose="weighing"))
    assert change.reservation is not None
    assert change.reservation.purpose == "weighing"


def test_an_account_keeps_the_last_rate_of_a_new_prompt() -> None:
    """A reservation without one, such as that of an embedding, changes nothing."""
    state, rate = opened(), PromptRate("m/x", 1000, 115, (PriceTier(-1, 10, 3 * 10**6),))
    do(state, hold("first"))
    assert (account(state).fits_tokens, account(state).fits_model) == (None, None)
    do(state, replace(hold("second"), rate=rate))
    do(state, hold("third"))
    assert (account(state).rate, account(state).fits_model) == (rate, "m/x")
    assert account(state).fits_tokens == fits_tokens(rate, account(state).available_pusd)
