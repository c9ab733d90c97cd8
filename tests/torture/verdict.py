"""Judges a torture run: compares the ledger with the simulator's bill, call by call.

Pure. It shares no code with the product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

PUSD = Decimal(10) ** 12
SLACK_S = 0.1
"""How far the times of one event differ, as two processes note them."""
KEPT_ALIVE_S = 15.0
"""A connection that upstream closed can fail another call for as long as it is idle."""
CLOSING = frozenset({"close_keepalive", "close_on_request", "early_answer", "reset", "silent_close"})
"""Faults that end a connection, and can fail the next call on it."""
LAGGING = "key_usage_lag"
"""A fault that makes the key's usage wrong by this call's cost, and so the decision about other calls."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account in the ledger, in pico-USD; `budget` is the text of its budget.txt."""

    id: str
    limit_pusd: int
    posted_pusd: int
    pending_pusd: int
    assumed_pusd: int
    overrun_pusd: int
    budget: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A row of the ledger's reservations; `exposure_pusd` is how much more its call can cost by the proven bound (M24)."""

    id: str
    account: str
    state: str
    reserved_pusd: int
    model: str
    tags: tuple[str, ...]
    tag: str
    generation_id: str
    created_at_s: float
    unknown_since_s: float | None
    exposure_pusd: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the ledger's entries."""

    entry_id: int
    reservation_id: str
    account: str
    kind: str
    cost_pusd: int
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that the proxy wrote.

    Attributes:
        cost_lines_agree: costs.jsonl has the lines of the entries, in order, and no other.
        quarantined: (model, tag) that were in quarantine at any time.
        cleared_s: When each (model, tag) was taken out of quarantine.
    """

    accounts: Mapping[str, Account]
    reservations: Mapping[str, Reservation]
    entries: Sequence[Entry]
    cost_lines_agree: bool = True
    quarantined: frozenset[tuple[str, str]] = frozenset()
    cleared_s: Mapping[tuple[str, str], Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Charge:
    """A call that upstream charged."""

    id: str
    account: str
    cost_pusd: int


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """A call that reached upstream.

    Attributes:
        id: Its generation id; empty if it failed before it had one.
        hides: It had a fault after which no generation record has its cost.
        lies: Upstream did not keep its price, its bound or its record.
        faults: Names of its faults.
        is_other: It was made beside the proxy.
    """

    id: str
    account: str
    at_s: float
    hides: bool
    lies: bool
    faults: tuple[str, ...] = ()
    is_other: bool = False


@dataclass(slots=True)
class Verdict:
    """The result, in pico-USD.

    Attributes:
        overshoot_pusd: The bill above the limits, summed over accounts.
        bound_pusd: The most that the promise allows for it: the overrun that the proxy states, and what a lying upstream
            billed and never told.
        untold_pusd: The second part of it, over all accounts: the most that the ledger can be too high or too low.
        drift_pusd: What is in the ledger and was not billed, plus what was billed and is not in the ledger.
        exposed_pusd: The part of the overrun that was assumed, each within the exposure of its call. It is no broken word.
        unknown_count: Calls for which upstream told neither a cost nor an id.
        untied: Assumed reservations without a fault that hides an id and without a kill.
        problems: Everything else that is wrong, in words.
    """

    spend_pusd: int = 0
    posted_pusd: int = 0
    overshoot_pusd: int = 0
    bound_pusd: int = 0
    untold_pusd: int = 0
    drift_pusd: int = 0
    assumed_pusd: int = 0
    assumed_count: int = 0
    overrun_pusd: int = 0
    exposed_pusd: int = 0
    pending_pusd: int = 0
    unknown_count: int = 0
    untied: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_lawful(self) -> bool:
        """Whether nothing exceeds a limit, is lost, pending, or assumed without a cause."""
        figures = self.overshoot_pusd or self.drift_pusd or self.pending_pusd
        return not (figures or self.overrun_pusd > self.exposed_pusd or self.untied or self.problems)

    @property
    def is_bounded(self) -> bool:
        """Whether each account lost at most what the promise allows for a lying upstream."""
        return not (self.pending_pusd or self.untied or self.problems)


def billed_pusd(cost_usd: str) -> int:
    """Return a charge in whole pico-USD."""
    return int((Decimal(cost_usd) * PUSD).quantize(Decimal(1), ROUND_HALF_EVEN))


def judge(ledger: Ledger, bill: Iterable[Charge], seen: Sequence[UpstreamCall], kills_s: Sequence[float]) -> Verdict:
    """Compare the ledger with the bill, account by account and call by call."""
    verdict = Verdict(unknown_count=count_unknown(ledger))
    by_account: dict[str, list[Charge]] = defaultdict(list)
    for charge in bill:
        by_account[charge.account].append(charge)
    reserved: dict[str, list[Reservation]] = defaultdict(list)
    for reservation in ledger.reservations.values():
        reserved[reservation.account].append(reservation)
    calls = {call.id: call for call in seen if call.id}
    sums = check_entries(ledger, verdict)
    for account in ledger.accounts.values():
        _judge_account(account, reserved, by_account.pop(account.id, []), calls, sums, verdict)
    verdict.problems += [f"{name}: billed, but no account" for name, rest in by_account.items() if rest]
    _tie(ledger, seen, kills_s, verdict)
    _check_overruns(ledger, sums, verdict)
    return verdict


@dataclass(slots=True)
class Sum:
    """The sum of the entries of one reservation."""

    cost_pusd: int = 0
    kinds: list[str] = field(default_factory=list)

    @property
    def is_assumed(self) -> bool:
        """Whether the reservation ended with an assumed cost."""
        return self.kinds == ["assumed"]


def check_entries(ledger: Ledger, verdict: Verdict) -> dict[str, Sum]:
    """Return the entries summed by reservation. A reservation that ended twice is a problem."""
    sums: dict[str, Sum] = defaultdict(Sum)
    posted: dict[str, int] = defaultdict(int)
    for number, entry in enumerate(ledger.entries, start=1):
        if entry.entry_id != number:
            verdict.problems.append(f"entry {entry.entry_id} is at place {number}")
        posted[entry.account] += entry.cost_pusd
        sums[entry.reservation_id].cost_pusd += entry.cost_pusd
        sums[entry.reservation_id].kinds.append(entry.kind)
    for name, ended in sums.items():
        if name and ended.kinds not in (["posted"], ["voided"], ["assumed"], ["assumed", "adjusted"]):
            verdict.problems.append(f"reservation {name} ended as {ended.kinds}")
    for account in ledger.accounts.values():
        if posted[account.id] != account.posted_pusd:
            verdict.problems.append(f"{account.id}: the posted cost is not the sum of its entries")
    if not ledger.cost_lines_agree:
        verdict.problems.append("costs.jsonl does not have the ledger's lines")
    return sums


def count_unknown(ledger: Ledger) -> int:
    """Return how many calls upstream told neither a cost nor an id for."""
    return sum(each.unknown_since_s is not None and not each.generation_id for each in ledger.reservations.values())


def _judge_account(
    account: Account,
    reserved: Mapping[str, Sequence[Reservation]],
    bill: Sequence[Charge],
    calls: Mapping[str, UpstreamCall],
    sums: Mapping[str, Sum],
    verdict: Verdict,
) -> None:
    spend_pusd = sum(charge.cost_pusd for charge in bill)
    over_pusd = max(0, spend_pusd - account.limit_pusd)
    verdict.spend_pusd += spend_pusd
    verdict.posted_pusd += account.posted_pusd
    verdict.overshoot_pusd += over_pusd
    verdict.assumed_pusd += account.assumed_pusd
    verdict.overrun_pusd += account.overrun_pusd
    verdict.pending_pusd += account.pending_pusd
    own = reserved.get(account.id, [])
    (surplus_pusd, missing_pusd), untold_pusd = drift(own, bill, sums), _untold(own, bill, calls, sums)
    verdict.drift_pusd += surplus_pusd + missing_pusd
    verdict.untold_pusd += untold_pusd
    if over_pusd:
        verdict.bound_pusd += account.overrun_pusd + untold_pusd
    if over_pusd > account.overrun_pusd + untold_pusd:
        verdict.problems.append(f"{account.id}: {over_pusd} above its limit, overrun says {account.overrun_pusd}")
    # One lie counts on both sides: a call without an id whose told cost is not its bill is posted too high and too low; a cost told
    # too high lowers what the key's usage leaves for another call.
    if max(surplus_pusd, missing_pusd) > untold_pusd:
        verdict.problems.append(
            f"{account.id}: {surplus_pusd} posted too much, {missing_pusd} too little, upstream did not tell {untold_pusd}"
        )
    overrun_pusd = sum(max(0, sums[each.id].cost_pusd - each.reserved_pusd) for each in own if each.id in sums)
    if overrun_pusd != account.overrun_pusd:
        verdict.problems.append(f"{account.id}: overrun says {account.overrun_pusd}, its calls {overrun_pusd}")
    check_budget_file(account, verdict)


def drift(own: Sequence[Reservation], bill: Sequence[Charge], sums: Mapping[str, Sum]) -> tuple[int, int]:
    """Return what is posted and was not billed, and what was billed and is neither posted nor assumed."""
    rest = {charge.id: charge.cost_pusd for charge in bill}
    surplus_pusd = missing_pusd = assumed_pusd = 0
    nameless: list[int] = []
    for each in own:
        ended = sums.get(each.id)
        if ended is None:
            continue
        if ended.is_assumed:
            assumed_pusd += ended.cost_pusd
        elif each.generation_id in rest:
            more_pusd = ended.cost_pusd - rest.pop(each.generation_id)
            surplus_pusd += max(0, more_pusd)
            missing_pusd += max(0, -more_pusd)
        elif ended.cost_pusd:
            nameless.append(ended.cost_pusd)
    left = sorted(rest.values())
    for cost_pusd in nameless:
        if cost_pusd in left:
            left.remove(cost_pusd)
        else:
            surplus_pusd += cost_pusd
    return surplus_pusd, missing_pusd + max(0, sum(left) - assumed_pusd)


def _untold(
    own: Sequence[Reservation], bill: Sequence[Charge], calls: Mapping[str, UpstreamCall], sums: Mapping[str, Sum]
) -> int:
    """Return the cost of all calls that upstream lied about and that the ledger could not post as billed.

    A cost above its reservation that upstream did tell is in the ledger's overrun.
    """
    ended = {each.generation_id: (each.reserved_pusd, sums[each.id]) for each in own if each.id in sums}
    untold_pusd = 0
    for charge in bill:
        call = calls.get(charge.id)
        reserved_pusd, posted = ended.get(charge.id, (charge.cost_pusd, Sum()))
        is_told = posted.cost_pusd == charge.cost_pusd and not posted.is_assumed
        breaks_word = (call is not None and call.lies) or charge.cost_pusd > reserved_pusd
        bends_usage = call is not None and LAGGING in call.faults
        if bends_usage or (breaks_word and not is_told):
            untold_pusd += charge.cost_pusd
    return untold_pusd


def check_budget_file(account: Account, verdict: Verdict) -> None:
    """Compare budget.txt with the account's balance."""
    if not account.budget or not account.limit_pusd:
        return
    left_pusd = max(0, account.limit_pusd - account.posted_pusd - account.pending_pusd)
    stated_usd = Decimal(account.budget.split("$")[1].split()[0])
    if abs(stated_usd * PUSD - left_pusd) > PUSD / 2000:
        verdict.problems.append(f"{account.id}: budget.txt says {stated_usd}, left are {left_pusd / PUSD}")


def _tie(ledger: Ledger, seen: Iterable[UpstreamCall], kills_s: Sequence[float], verdict: Verdict) -> None:
    """Find for each assumed reservation the fault or the kill that hid its cost. Each fault explains one."""
    hidden: dict[str, list[UpstreamCall]] = defaultdict(list)
    closing: list[UpstreamCall] = []
    for call in sorted(seen, key=lambda each: each.at_s):
        if call.hides:
            hidden[call.account].append(call)
        if not CLOSING.isdisjoint(call.faults):
            closing.append(call)
    assumed = {entry.reservation_id for entry in ledger.entries if entry.kind == "assumed"}
    verdict.assumed_count = len(assumed)
    reservations = [ledger.reservations[name] for name in assumed]
    for each in sorted(reservations, key=lambda reservation: reservation.unknown_since_s or 0.0):
        until_s = (each.unknown_since_s or 0.0) + SLACK_S
        if any(each.created_at_s <= killed_s <= until_s for killed_s in kills_s):
            continue
        if _take(hidden[each.account], each.created_at_s - SLACK_S, until_s):
            continue
        if not _take(closing, each.created_at_s - KEPT_ALIVE_S, until_s):
            verdict.untied.append(each.id)


def _take(calls: list[UpstreamCall], from_s: float, until_s: float) -> bool:
    for index, call in enumerate(calls):
        if from_s <= call.at_s <= until_s:
            del calls[index]
            return True
        if call.at_s > until_s:
            break
    return False


def _check_overruns(ledger: Ledger, sums: Mapping[str, Sum], verdict: Verdict) -> None:
    """Check that an endpoint which billed above a reservation was quarantined, and that no later call went to it."""
    posted_s = {entry.reservation_id: entry.at_s for entry in ledger.entries}
    began_s: dict[tuple[str, str], list[float]] = defaultdict(list)
    for each in ledger.reservations.values():
        for tag in each.tags:
            began_s[each.model, tag].append(each.created_at_s)
    for each in ledger.reservations.values():
        ended = sums.get(each.id)
        if ended is None or ended.cost_pusd <= each.reserved_pusd:
            continue
        if ended.is_assumed and ended.cost_pusd <= each.reserved_pusd + each.exposure_pusd:
            verdict.exposed_pusd += ended.cost_pusd - each.reserved_pusd
            continue
        for endpoint in ((each.model, tag) for tag in ((each.tag,) if each.tag else each.tags)):
            from_s = posted_s[each.id]
            until_s = min((at_s for at_s in ledger.cleared_s.get(endpoint, ()) if at_s > from_s), default=float("inf"))
            if endpoint not in ledger.quarantined:
                verdict.problems.append(f"{endpoint} billed above a reservation and is not quarantined")
            if any(from_s < at_s < until_s for at_s in began_s[endpoint]):
                verdict.problems.append(f"{endpoint} billed above a reservation and was called again")
