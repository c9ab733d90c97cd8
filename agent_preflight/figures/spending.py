"""Where the money of a run went: over time, by model, tool, turn and kind of token, and what caching saved. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent_preflight.runs.record import Call, RunRecord

POINTS_MAX = 2000
"""Points of all curves of a run together."""


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


class CacheShare(msgspec.Struct, frozen=True):
    """Caching in the calls of one model, or of all.

    Attributes:
        saved_pusd: What it saved, less what writing cost above plain tokens; negative if it cost more.
        unpriced: Calls whose saving is not known; the sum lacks them.
    """

    model: str
    prompt_tokens: int
    cached_tokens: int
    share: float | None
    saved_pusd: int
    unpriced: int


class Caching(msgspec.Struct, frozen=True):
    """What caching saved, in all and by the model that served, the most prompt tokens first."""

    total: CacheShare
    models: tuple[CacheShare, ...]


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


def curves_of(record: RunRecord, at_s: float) -> tuple[Curve, ...]:
    """Return a curve for each trial with a ledger."""
    return ()


def costs_of(record: RunRecord) -> CostBreakdown:
    """Return what was spent on what."""
    return CostBreakdown((), (), (), ())


def caching_of(calls: Sequence[Call]) -> Caching:
    """Return what caching saved."""
    return Caching(CacheShare("all", 0, 0, None, 0, 0), ())


def timeline_of(record: RunRecord, at_s: float) -> Timeline:
    """Return when trials and calls ran."""
    return Timeline(record.begun_at_s, at_s, ())
