"""Whether the trials of a run had the same conditions. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from agent_preflight.base.tables import counted, duration
from agent_preflight.base.usd import dollars
from agent_preflight.figures.refusals import refusals_of
from agent_preflight.runs.call import Call
from agent_preflight.runs.record import RunRecord

START_S_MAX = 60.0
"""First calls that are further apart than this may have met another load and other prices."""
UNKNOWN = "unknown"


class FairnessRow(msgspec.Struct, frozen=True):
    """One condition. `is_fair` is None if it is not known, or if it is what the run was to find out; `answer` says so."""

    question: str
    answer: str
    is_fair: bool | None


def fairness_of(record: RunRecord) -> tuple[FairnessRow, ...]:
    """Return the conditions of a run, the same ones for every run."""
    return tuple(FairnessRow(question, answer, is_fair) for question, answer, is_fair in _rows(record))


def _rows(record: RunRecord) -> Iterator[tuple[str, str, bool | None]]:
    by_trial, groups = record.calls_by_trial, dict[str, list[Call]]()
    for trial in record.trials:
        mine = groups.setdefault(trial.base, [])
        mine += [call for call in by_trial.get(trial.status.alias, ()) if call.is_call]
    calls = [call for group in groups.values() for call in group]
    priced = sum(call.prices is not None for call in calls)  # none if an older version ran, which kept no waits either
    yield "same budget", *_budget(record)
    yield "first calls apart", *_starts(list(by_trial.values()))

    prices = {
        base: len({tuple(sorted(call.prices.items())) for call in group if call.prices is not None})
        for base, group in groups.items()
    }
    changed = [f"{base}: {count} price lists" for base, count in prices.items() if count > 1]
    same = "yes" if priced == len(calls) else f"yes, of {priced} calls; those of {len(calls) - priced} are not known"
    yield "same prices all the time", *_verdict(changed, same if priced else UNKNOWN, is_bad=True)

    providers = {base: Counter(call.provider for call in group if call.provider) for base, group in groups.items()}
    several = [f"{base}: {len(each)} ({_counted(each)})" for base, each in providers.items() if len(each) > 1]
    yield "providers of a model", *_verdict(several, "one each" if any(providers.values()) else UNKNOWN, is_bad=True)

    waits = {base: [call.waited_ms / 1000 for call in group if call.waited_ms] for base, group in groups.items()}
    waited = [f"{base} {duration(sum(each))} in {counted(len(each), 'call')}" for base, each in waits.items() if each]
    yield "waited for room", *_verdict(waited, "no call" if priced else UNKNOWN)

    refused, faults = Counter[str](), defaultdict[str, Counter[str]](Counter)
    for refusal in refusals_of(record):
        if refusal.source == "budget":
            refused[refusal.base] += refusal.count
        elif refusal.source == "upstream":
            faults[refusal.base][refusal.code.removeprefix("upstream_").replace("_", " ")] += refusal.count
    is_known = any(trial.account is not None or trial.block for trial in record.trials)
    none = "none" if is_known else UNKNOWN
    yield "refused for budget", *_verdict([f"{base} {count}" for base, count in refused.items()], none)
    failed = [
        f"{base} {', '.join(f'{count} × {code}' for code, count in each.items())}" for base, each in faults.items()
    ]
    yield "faults upstream", *_verdict(failed, none, is_bad=True)


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in names.most_common())


def _verdict(exceptions: Sequence[str], usual: str, *, is_bad: bool = False) -> tuple[str, bool | None]:
    """Return the answer and whether it is fair: exceptions are not if they are bad; without any, what is usual is, if known."""
    if exceptions:
        return "; ".join(exceptions), False if is_bad else None
    return usual, None if usual == UNKNOWN else True


def _budget(record: RunRecord) -> tuple[str, bool | None]:
    limits = [trial.status.limit_pusd for trial in record.trials if trial.status.limit_pusd is not None]
    if not limits or len(limits) < len(record.trials):
        return UNKNOWN, None
    if len(set(limits)) == 1:
        return f"yes, {dollars(limits[0])} a trial", True
    return f"no: {dollars(min(limits))} to {dollars(max(limits))} a trial", False


def _starts(calls_of_trials: Sequence[Sequence[Call]]) -> tuple[str, bool | None]:
    """Return how far the starts of the first calls of all trials are apart. What one trial did says nothing."""
    starts = [min(call.at_s - (call.duration_ms or 0) / 1000 for call in calls) for calls in calls_of_trials]
    if len(starts) < 2:
        return UNKNOWN, None
    apart_s = max(starts) - min(starts)
    return duration(apart_s), apart_s <= START_S_MAX
