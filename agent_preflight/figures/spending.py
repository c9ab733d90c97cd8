"""Where the money of a run went: over time, by model, tool, turn and kind of token, and when. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import accumulate, chain

import msgspec
from msgspec.structs import replace

from agent_preflight.runs.call import Call
from agent_preflight.runs.record import RunRecord, TrialRecord
from preflight_proxy.core.money import PUSD_PER_USD

POINTS_MAX, POINTS_MIN = 2000, 6
"""Points of all curves of a run together; the fewest of one."""
SPANS_MAX = 300
"""Calls of a trial that are nearer to each other than this part of the run's time are drawn as one."""
NAMES_MAX, TURNS_MAX = 20, 12
OTHER, NO_TOOL = "other", "no tool"


class Curve(msgspec.Struct, frozen=True):
    """What a trial had spent, over time.

    Attributes:
        number: The place of its model in the plan, from 0.
        points: Moment (seconds since the epoch) and posted pico-USD, oldest first: a step up at each. The first is its start with
            0, the last is the end, or now, with the posted amount.
    """

    alias: str
    base: str
    number: int
    limit_pusd: int | None
    points: tuple[tuple[float, int], ...]


class CostShare(msgspec.Struct, frozen=True):
    """What a part of the calls cost. `tokens` are those of prompts and completions, or of the kind of token."""

    name: str
    cost_pusd: int
    calls: int
    tokens: int


class CostBreakdown(msgspec.Struct, frozen=True):
    """The posted costs, divided in four ways; each adds up to all of them exactly."""

    by_model: tuple[CostShare, ...]
    by_tool: tuple[CostShare, ...]
    by_turn: tuple[CostShare, ...]
    by_kind: tuple[CostShare, ...]


class TimelineRow(msgspec.Struct, frozen=True):
    """When a trial ran, and when it waited for a model. Moments are in seconds since the epoch.

    Attributes:
        ended_at_s: Now, if it runs.
        calls: Start and end of its calls; those that overlap or nearly touch are one.
    """

    alias: str
    base: str
    number: int
    began_at_s: float
    ended_at_s: float
    calls: tuple[tuple[float, float], ...]


class Timeline(msgspec.Struct, frozen=True):
    """The trials of a run that have begun, and the time that all of them take."""

    began_at_s: float
    ended_at_s: float
    rows: tuple[TimelineRow, ...]


def _numbers(record: RunRecord) -> dict[str, int]:
    """Return the place of each model in the plan."""
    return {base: place for place, base in enumerate(dict.fromkeys(trial.base for trial in record.trials))}


def curves_of(record: RunRecord, at_s: float) -> tuple[Curve, ...]:
    """Return a curve for each trial that has begun and whose ledger can be read."""
    numbers, calls = _numbers(record), record.calls_by_trial
    share = max(POINTS_MAX // max(len(record.trials), 1), POINTS_MIN)
    return tuple(
        Curve(trial.status.alias, trial.base, numbers[trial.base], trial.status.limit_pusd, decimated(points, share))
        for trial in record.trials
        if trial.account is not None
        and (points := _points(trial, calls.get(trial.status.alias, ()), trial.account.posted_pusd, at_s))
    )


def _points(trial: TrialRecord, calls: Sequence[Call], posted_pusd: int, at_s: float) -> list[tuple[float, int]]:
    sums = accumulate(call.cost_pusd for call in calls)
    points = [(call.at_s, sum_pusd) for call, sum_pusd in zip(calls, sums, strict=True)]
    began_s = trial.began_at_s if trial.began_at_s is not None else points[0][0] if points else None
    if began_s is None:
        return []
    end_s = trial.ended_at_s if trial.status.ended else at_s
    last_s = max(began_s, points[-1][0] if points else began_s, end_s or began_s)
    return [(min(began_s, points[0][0]) if points else began_s, 0), *points, (last_s, posted_pusd)]


def decimated(points: Sequence[tuple[float, int]], count: int) -> tuple[tuple[float, int], ...]:
    """Return at most `count` of the points: the first and the last, and of equal parts between them first, least, most and last."""
    if len(points) <= count:
        return tuple(points)
    parts = (count - 2) // 4
    inner = range(1, len(points) - 1)
    kept = {0, len(points) - 1}
    for n in range(parts):
        part = inner[len(inner) * n // parts : len(inner) * (n + 1) // parts]
        kept |= {part[0], part[-1], min(part, key=lambda i: points[i][1]), max(part, key=lambda i: points[i][1])}
    return tuple(points[i] for i in sorted(kept))


def costs_of(record: RunRecord) -> CostBreakdown:
    """Return what was spent on what. A call is counted to the last tool that had begun when it was posted."""
    tools = {trial.status.alias: sorted(trial.tools, key=lambda tool: tool[0]) for trial in record.trials}
    turns: Counter[tuple[str, str]] = Counter()
    by_model, by_tool, by_turn, by_kind = _Shares(), _Shares(), _Shares(), _Shares()
    for call in record.calls:
        if not call.is_call and not call.cost_pusd:
            continue
        tokens = call.prompt_tokens + call.completion_tokens
        by_model.add(call.model or OTHER, call, call.cost_pusd, tokens)
        began = tools.get(call.trial, [])
        place = bisect_right(began, call.at_s, key=lambda tool: tool[0])
        by_tool.add(began[place - 1][1] if place else NO_TOOL, call, call.cost_pusd, tokens)
        turn = OTHER
        if call.is_call and call.conversation:
            turns[call.trial, call.conversation] += 1
            number = turns[call.trial, call.conversation]
            turn = str(number) if number <= TURNS_MAX else f"after {TURNS_MAX}"
        by_turn.add(turn, call, call.cost_pusd, tokens)
        rest_pusd = call.cost_pusd
        for kind, count, price in _kinds(call):
            cost_pusd = int(count * price * PUSD_PER_USD)
            rest_pusd -= cost_pusd
            by_kind.add(kind, call, cost_pusd, count)
        if rest_pusd:
            by_kind.add(OTHER, call, rest_pusd, 0)
    return CostBreakdown(by_model.largest(), by_tool.largest(), by_turn.in_order(), by_kind.largest())


def _kinds(call: Call) -> Iterator[tuple[str, int, Decimal]]:
    """Yield kind, count and price of a call's tokens. An endpoint without a price for cached tokens bills them as plain ones."""
    prices = call.prices if call.has_cost and call.prices is not None else {}
    plain = call.prompt_tokens - call.cached_tokens - call.cache_write_tokens
    for kind, count, name in (
        ("prompt", plain, "prompt"),
        ("cache read", call.cached_tokens, "cache_read"),
        ("cache write", call.cache_write_tokens, "cache_write"),
        ("completion", call.completion_tokens - call.reasoning_tokens, "completion"),
        ("reasoning", call.reasoning_tokens, "completion"),
    ):
        if count > 0 and (price := prices.get(name, prices.get("prompt"))) is not None:
            yield kind, count, price


class _Shares:
    """Sums of cost, calls and tokens by name, in the order of their first call."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, name: str, call: Call, cost_pusd: int, tokens: int) -> None:
        """Add a call, or a part of it."""
        sums = self._sums[name]
        sums[0] += cost_pusd
        sums[1] += call.is_call
        sums[2] += tokens

    def in_order(self) -> tuple[CostShare, ...]:
        """Return the sums in the order of their first call, and `other` last."""
        shares = (CostShare(name, *sums) for name, sums in self._sums.items())
        return tuple(sorted(shares, key=lambda share: share.name == OTHER))

    def largest(self) -> tuple[CostShare, ...]:
        """Return the sums, the largest cost first; what `NAMES_MAX` leaves out is one sum, because agents choose names."""
        ranked = sorted(self.in_order(), key=lambda share: -share.cost_pusd)
        if rest := ranked[NAMES_MAX:]:
            sums = (sum(getattr(share, name) for share in rest) for name in ("cost_pusd", "calls", "tokens"))
            ranked[NAMES_MAX:] = [CostShare(f"{len(rest)} more", *sums)]
        return tuple(ranked)


def timeline_of(record: RunRecord, at_s: float) -> Timeline:
    """Return when trials and their calls ran."""
    numbers, calls, rows = _numbers(record), record.calls_by_trial, list[TimelineRow]()
    for trial in record.trials:
        alias = trial.status.alias
        mine = [(c.at_s - (c.duration_ms or 0) / 1000, c.at_s) for c in calls.get(alias, ()) if c.is_call]
        now = at_s if trial.status.status == "running" else None
        moments = [*chain(*mine), *(each for each in (trial.began_at_s, trial.ended_at_s, now) if each is not None)]
        if moments:
            rows.append(
                TimelineRow(alias, trial.base, numbers[trial.base], min(moments), max(moments), tuple(sorted(mine)))
            )
    began_s = min((row.began_at_s for row in rows), default=at_s)
    ended_s = max((row.ended_at_s for row in rows), default=at_s)
    gap_s = (ended_s - began_s) / SPANS_MAX
    return Timeline(began_s, ended_s, tuple(replace(row, calls=_merged(row.calls, gap_s)) for row in rows))


def _merged(spans: Sequence[tuple[float, float]], gap_s: float) -> tuple[tuple[float, float], ...]:
    """Return spans of time, sorted, with those joined that overlap or are at most this far apart."""
    merged: list[tuple[float, float]] = []
    for start, end in spans:
        if merged and start - merged[-1][1] <= gap_s:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
