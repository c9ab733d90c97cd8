"""One look at an account: admit, clamp, wait or refuse (M9, M18)."""

import msgspec
import pytest
from msgspec import structs

from preflight_proxy.core.admission.admission import Admission, Wait, Weigh, admit, unread_refusal
from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.ledger.state import Pending
from preflight_proxy.core.pricing.quote import CacheRead, Quote, Quotes, WorstCase
from preflight_proxy.core.refusals.refusals import Code, Refusal

# The prompt costs 1000, each output token 1; asked for 4000 tokens, the floor is 1024.
PROMPT, ASKED, FLOOR = 1000, 4000, 1024
WORST, CHEAPEST = PROMPT + ASKED, PROMPT + FLOOR
LINE = WorstCase(fixed_pusd=PROMPT, output_price=10**6, tokens_max=None, tokens_min=0)
TAGS = ("t",)
QUOTE = Quote("m/x", TAGS, ASKED, ASKED, FLOOR, {}, 1, (LINE,))
FREE = Quote(
    "m/x:free", TAGS, ASKED, ASKED, FLOOR, {}, 1, (msgspec.structs.replace(LINE, fixed_pusd=0, output_price=0),)
)


def look(
    available: int,
    pending: int = 0,
    *,
    posted: int = 0,
    quote: Quote = QUOTE,
    busy: bool = False,
    has_unknown: bool = False,
    waited_s: float = 0.0,
    cheapest_pusd: int = 1,
) -> Admission | Wait | Weigh | Refusal:
    """Look at an account with so much available, pending and posted."""
    account = Account("a", "run", available + pending + posted, posted_pusd=posted, pending_pusd=pending)
    return admit(
        account,
        Quotes.of(quote),
        pending=Pending(1 if pending else 0),
        busy=busy,
        has_unknown=has_unknown,
        waited_s=waited_s,
        cheapest_pusd=cheapest_pusd,
    )


@pytest.mark.parametrize("busy", [False, True])
def test_a_call_that_fits_leaves_as_asked(busy: bool) -> None:
    """To the last pico-dollar, whoever else is there."""
    assert look(WORST, busy=busy) == Admission(ASKED, WORST, clamped=False, tags=TAGS)


def test_a_call_that_would_fit_if_others_settled_waits() -> None:
    """It is worth more whole than clamped."""
    assert look(WORST - 1, pending=1) == Wait(WORST)


def test_a_call_waits_for_a_weighing_too() -> None:
    """That is no call beside it (M24), yet what it reserves will be available again."""
    account = Account("a", "run", WORST, pending_pusd=1)
    assert admit(account, Quotes.of(QUOTE), pending=Pending(), busy=False, has_unknown=False, waited_s=0) == Wait(WORST)


def test_a_call_that_no_settling_would_make_fit_is_clamped_at_once() -> None:
    """Waiting would not help it."""
    assert look(WORST - 1) == Admission(ASKED - 1, WORST - 1, clamped=True, tags=TAGS)
    assert look(WORST - 2, pending=1) == Admission(ASKED - 2, WORST - 2, clamped=True, tags=TAGS)


def test_a_clamp_leaves_half_to_calls_beside_it() -> None:
    """So that one sub-agent does not take all that is left."""
    assert look(4500, busy=True) == Admission(1250, 2250, clamped=True, tags=TAGS)


def test_the_last_dollars_are_used_though_half_of_them_is_below_the_floor() -> None:
    """A sequential agent is busy by its own last call; half of little would refuse it with money left."""
    assert look(CHEAPEST + 10, busy=True) == Admission(FLOOR, CHEAPEST, clamped=True, tags=TAGS)


def test_no_clamp_goes_below_the_floor() -> None:
    """A shorter answer is of no use."""
    assert look(CHEAPEST) == Admission(FLOOR, CHEAPEST, clamped=True, tags=TAGS)
    refused = look(CHEAPEST - 1)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.needed_pusd) == (Code.DOES_NOT_FIT, CHEAPEST)


def test_a_call_whose_floor_would_fit_if_others_settled_waits_for_that() -> None:
    """Refused at once is only what cannot be helped."""
    assert look(CHEAPEST - 1, pending=1) == Wait(CHEAPEST)


def test_after_the_longest_wait_a_call_is_clamped_or_refused() -> None:
    """Before the client loses its patience."""
    assert look(3000, pending=9000, waited_s=CALL_WAIT_S_MAX) == Admission(2000, 3000, clamped=True, tags=TAGS)
    assert isinstance(look(CHEAPEST - 1, pending=9000, waited_s=CALL_WAIT_S_MAX), Refusal)


def test_an_account_is_spent_when_its_cheapest_call_no_longer_fits() -> None:
    """A large call that does not fit says nothing about smaller ones."""
    large = look(500, posted=100, cheapest_pusd=500)
    none = look(499, posted=100, cheapest_pusd=500)
    assert isinstance(large, Refusal)
    assert isinstance(none, Refusal)
    assert (large.code, none.code) == (Code.DOES_NOT_FIT, Code.SPENT)


def test_nobody_is_told_that_the_budget_is_spent_while_outcomes_are_unknown() -> None:
    """After a restart calls wait; if they must be refused, then not in that word."""
    assert look(0, pending=WORST, has_unknown=True) == Wait(WORST)
    refused = look(0, posted=WORST, has_unknown=True, waited_s=CALL_WAIT_S_MAX, cheapest_pusd=CHEAPEST)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.DOES_NOT_FIT


def test_a_free_model_is_allowed_while_nothing_is_overdrawn() -> None:
    """Its worst case is nothing."""
    assert look(0, posted=5, quote=FREE) == Admission(ASKED, 0, clamped=False, tags=TAGS)
    assert look(-1, pending=1, quote=FREE) == Wait(0)
    assert isinstance(look(-1, posted=10, quote=FREE), Refusal)


@pytest.mark.parametrize(("posted", "code"), [(0, None), (100, None), (101, Code.SPENT)])
def test_below_zero_a_call_is_refused_whatever_it_asks(posted: int, code: Code | None) -> None:
    """At zero it depends on the call: it may be free. What is pending may settle at nothing."""
    assert unread_refusal(Account("a", "run", 100, posted_pusd=posted, pending_pusd=50)) is code


@pytest.mark.parametrize(("reason", "code"), [(None, None), ("ejected", Code.FROZEN)])
def test_a_freeze_by_a_person_refuses_whatever_is_asked(reason: str | None, code: Code | None) -> None:
    """One that waits for the key's usage ends by itself."""
    assert unread_refusal(Account("a", "run", 100, frozen_reason=reason, usage_unread=True)) is code


def test_a_frozen_account_refuses_whatever_fits() -> None:
    """And at once: nobody waits for an operator."""
    frozen = structs.replace(Account("a", "run", 10 * WORST), frozen_reason="by hand")
    refused = admit(frozen, Quotes.of(QUOTE), busy=False, has_unknown=True, waited_s=0.0)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.FROZEN


def test_an_account_that_waits_for_its_keys_usage_lets_calls_wait() -> None:
    """M21: that freeze ends by itself."""
    unread = structs.replace(Account("a", "run", 10 * WORST), usage_unread=True)
    assert admit(unread, Quotes.of(QUOTE), busy=False, has_unknown=False, waited_s=0.0) == Wait(WORST)
    refused = admit(unread, Quotes.of(QUOTE), busy=False, has_unknown=False, waited_s=CALL_WAIT_S_MAX)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.FROZEN


DEARER = msgspec.structs.replace(LINE, fixed_pusd=8 * PROMPT)
TWO = msgspec.structs.replace(QUOTE, tags=("dearer", "t"), worst=(DEARER, LINE))


def test_a_call_leaves_for_every_endpoint_that_there_is_enough_for() -> None:
    """The dearest decides what is reserved."""
    dearest = TWO.worst_pusd(ASKED)
    assert look(dearest, quote=TWO) == Admission(ASKED, dearest, clamped=False, tags=("dearer", "t"))


def test_a_call_leaves_as_asked_for_the_endpoints_that_it_fits_on() -> None:
    """Neither clamped nor kept waiting for the sake of an endpoint that it can do without."""
    assert look(WORST, pending=9000, quote=TWO) == Admission(ASKED, WORST, clamped=False, tags=TAGS)


def test_a_call_waits_for_the_cheapest_endpoint() -> None:
    """What it needs is the least that it can leave with."""
    assert look(WORST - 1, pending=1, quote=TWO) == Wait(WORST)


def test_a_clamp_goes_no_lower_than_the_cheapest_endpoint_needs() -> None:
    """The greatest bound that one of them can be paid for."""
    assert look(WORST - 1, quote=TWO) == Admission(ASKED - 1, WORST - 1, clamped=True, tags=TAGS)
    assert look(CHEAPEST, quote=TWO) == Admission(FLOOR, CHEAPEST, clamped=True, tags=TAGS)
    assert isinstance(look(CHEAPEST - 1, quote=TWO), Refusal)


# M24: the measured prompt costs 1000 as above, by what is proven 1000 + its exposure.
LIMIT, QUARTER = 100_000, 25_000


def exposed(*exposures: int, prompts: tuple[int, ...] = ()) -> Quotes:
    """Return the two ways of a call, measured and proven, with so much exposure on each endpoint."""
    tags = tuple(f"t{place}" for place in range(len(exposures)))
    costs = prompts or (PROMPT,) * len(exposures)
    measured = tuple(structs.replace(LINE, fixed_pusd=cost) for cost in costs)
    proven = tuple(
        structs.replace(LINE, fixed_pusd=cost + exposure) for cost, exposure in zip(costs, exposures, strict=True)
    )
    by_bytes = structs.replace(QUOTE, tags=tags, worst=proven)
    return Quotes((structs.replace(QUOTE, tags=tags, worst=measured), by_bytes), by_bytes)


def beside(
    quotes: Quotes, others: Pending, *, posted: int = 0, reserved: int = 0, may_weigh: bool = False, **more: float
) -> Admission | Wait | Weigh | Refusal:
    """Look at an account with `LIMIT`, some of it posted and reserved by others."""
    account = Account("a", "run", LIMIT, posted_pusd=posted, pending_pusd=reserved)
    waited_s = more.get("waited_s", 0.0)
    return admit(account, quotes, pending=others, busy=False, has_unknown=False, waited_s=waited_s, may_weigh=may_weigh)


ALONE = Pending()


def by_measure(exposure_pusd: int, tags: tuple[str, ...] = ("t0",)) -> Admission:
    return Admission(ASKED, WORST, clamped=False, tags=tags, exposure_pusd=exposure_pusd)


def by_proof(exposure_pusd: int) -> Admission:
    return Admission(ASKED, WORST + exposure_pusd, clamped=False, tags=("t0",), exposure_pusd=0)


@pytest.mark.parametrize("others_pusd", [0, 1000, QUARTER])
def test_beside_others_all_exposures_together_are_at_most_a_quarter_of_the_limit(others_pusd: int) -> None:
    """The call's own is among them. The money for its proven bound is not there."""
    free, posted, others = QUARTER - others_pusd, LIMIT - WORST, Pending(1, others_pusd)
    assert beside(exposed(free), others, posted=posted) == by_measure(free)
    assert beside(exposed(free + 1), others, posted=posted) == Wait(WORST)
    refused = beside(exposed(free + ASKED), others, posted=posted, waited_s=CALL_WAIT_S_MAX)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.DOES_NOT_FIT


def test_an_exposure_that_is_not_allowed_is_reserved_if_there_is_money_for_it() -> None:
    """A call that can cost no more than its reservation need not wait."""
    assert beside(exposed(QUARTER + 1), Pending(1)) == by_proof(QUARTER + 1)
    assert beside(exposed(1), Pending(3, QUARTER)) == by_proof(1)


def test_a_call_that_is_not_exposed_goes_beside_any_other() -> None:
    """Though that one alone may have more than a quarter."""
    assert beside(exposed(0), Pending(1, LIMIT), posted=LIMIT - WORST) == by_measure(0)


@pytest.mark.parametrize("may_weigh", [False, True])
def test_alone_a_call_may_be_exposed_up_to_the_limit(may_weigh: bool) -> None:
    assert beside(exposed(LIMIT), ALONE, may_weigh=may_weigh) == by_measure(LIMIT)


def test_above_the_limit_it_is_weighed_and_where_that_cannot_be_it_goes_as_measured() -> None:
    assert beside(exposed(LIMIT + 1), ALONE, may_weigh=True) == Weigh()
    assert beside(exposed(LIMIT + 1), ALONE) == by_measure(LIMIT + 1)


def test_above_the_limit_a_clamped_call_is_weighed_too() -> None:
    posted = LIMIT - WORST + 1
    assert beside(exposed(LIMIT + 1), ALONE, posted=posted, may_weigh=True) == Weigh()
    assert beside(exposed(LIMIT + 1), ALONE, posted=posted) == Admission(ASKED - 1, WORST - 1, True, ("t0",), LIMIT + 1)


def test_a_call_that_does_not_fit_is_not_weighed_for_its_exposure() -> None:
    assert isinstance(beside(exposed(LIMIT + 1), ALONE, posted=LIMIT - CHEAPEST + 1, may_weigh=True), Refusal)


def test_beside_others_no_call_is_weighed() -> None:
    """They may settle first."""
    assert beside(exposed(LIMIT + 1), Pending(1), posted=1, may_weigh=True) == Wait(WORST)


def test_only_endpoints_with_a_small_exposure_may_serve_beside_others() -> None:
    """The reservation and the exposure are of those alone."""
    quotes = exposed(QUARTER + 1, 7, 9, prompts=(PROMPT, PROMPT + 1, PROMPT))
    posted = LIMIT - WORST - 1
    assert beside(quotes, Pending(1), posted=posted) == Admission(ASKED, WORST + 1, False, ("t1", "t2"), 8)


def test_of_several_endpoints_the_dearest_proof_decides_the_exposure() -> None:
    quotes = exposed(500, 100, prompts=(PROMPT, PROMPT + 200))
    assert beside(quotes, ALONE) == Admission(ASKED, WORST + 200, False, ("t0", "t1"), exposure_pusd=300)


def test_a_clamped_call_is_exposed_as_much() -> None:
    """Its prompt is as long."""
    short = LIMIT - WORST + 1000
    clamped = beside(exposed(QUARTER), Pending(1, 0), posted=short, waited_s=CALL_WAIT_S_MAX)
    assert clamped == Admission(ASKED - 1000, WORST - 1000, True, ("t0",), QUARTER)
    assert isinstance(beside(exposed(QUARTER + 1), Pending(1, 0), posted=short, waited_s=CALL_WAIT_S_MAX), Refusal)


# What a refused call needs


PROVEN_DEAR = structs.replace(QUOTE, worst=(structs.replace(LINE, fixed_pusd=9 * PROMPT),))
"""What is proven of a call that is measured at `QUOTE`."""
SMALL_LIMIT = 16 * PROMPT


def decide(available: int, pending: Pending) -> Admission | Wait | Weigh | Refusal:
    """Decide a measured call after the longest wait."""
    account = Account("a", "run", SMALL_LIMIT, posted_pusd=SMALL_LIMIT - available)
    quotes = Quotes((QUOTE, PROVEN_DEAR), PROVEN_DEAR)
    return admit(account, quotes, pending=pending, busy=False, has_unknown=False, waited_s=CALL_WAIT_S_MAX)


@pytest.mark.parametrize(
    ("pending", "needed"),
    [(Pending(), CHEAPEST), (Pending(1), 9 * PROMPT + FLOOR), (Pending(1, SMALL_LIMIT), 9 * PROMPT + FLOOR)],
)
def test_what_a_refusal_says_is_needed_is_the_least_that_admits_the_call(pending: Pending, needed: int) -> None:
    """Beside others its exposure may be too large: then it takes what is proven (M24)."""
    refused, admitted = decide(needed - 1, pending), decide(needed, pending)
    assert isinstance(refused, Refusal)
    assert refused.needed_pusd == needed
    assert isinstance(admitted, Admission)
    assert admitted.bound == FLOOR


READ = CacheRead(340.0, 7)
READING = structs.replace(
    QUOTE, worst=(structs.replace(LINE, fixed_pusd=PROMPT - 900),), cache_read=READ, prompt_tokens=7
)


def look_with_cache(
    available: int, *, limit: int = 10 * WORST, pending: Pending | None = None
) -> Admission | Wait | Weigh | Refusal:
    """Look at an account with so much available, whose cache makes the prompt 900 cheaper."""
    account = Account("a", "run", limit, posted_pusd=limit - available)
    quotes = Quotes((QUOTE, READING), QUOTE)
    return admit(account, quotes, pending=pending or Pending(), busy=False, has_unknown=False, waited_s=0.0)


def test_a_cache_read_is_counted_on_only_where_the_call_does_not_fit_without() -> None:
    """M24: what it saves is exposure."""
    assert look_with_cache(WORST) == Admission(ASKED, WORST, clamped=False, tags=TAGS)
    reading = Admission(ASKED, WORST - 900, clamped=False, tags=TAGS, exposure_pusd=900, cache_read=READ)
    assert look_with_cache(WORST - 1) == reading
    assert look_with_cache(WORST - 900) == reading


def test_a_call_that_reads_a_cache_can_be_clamped_to_its_floor() -> None:
    least = look_with_cache(CHEAPEST - 900)
    assert isinstance(least, Admission)
    assert (least.bound, least.reserve_pusd, least.cache_read) == (FLOOR, CHEAPEST - 900, READ)
    refused = look_with_cache(CHEAPEST - 901)
    assert isinstance(refused, Refusal)
    assert refused.needed_pusd == CHEAPEST - 900


def test_beside_others_a_cache_read_is_counted_on_within_a_quarter_of_the_limit() -> None:
    """Their exposure and its own."""
    limit = 10 * WORST
    free = Pending(1, limit // 4 - 900)
    assert isinstance(look_with_cache(WORST - 900, limit=limit, pending=free), Admission)
    full = Pending(1, limit // 4 - 899)
    assert look_with_cache(WORST - 900, limit=limit, pending=full) == Wait(WORST - 900)


def test_alone_a_cache_read_is_counted_on_within_the_limit() -> None:
    assert isinstance(look_with_cache(899, limit=899), Refusal)
    dear = structs.replace(QUOTE, worst=(structs.replace(LINE, fixed_pusd=100_000),))
    reading = structs.replace(READING, worst=(structs.replace(LINE, fixed_pusd=1),))
    for limit, kind in ((99_999, Admission), (99_998, Refusal)):
        account = Account("a", "run", limit)
        verdict = admit(account, Quotes((dear, reading), dear), busy=False, has_unknown=False, waited_s=0.0)
        assert isinstance(verdict, kind)
