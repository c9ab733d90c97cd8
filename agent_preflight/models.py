"""Plain data that people hold: results, budgets, cache figures, decisions.

These are ordinary mutable dataclasses, because scripts build and change them; the field order is part of the API.
"""

from dataclasses import dataclass, field
from typing import Any

from agent_preflight.base.usd import pusd
from preflight_proxy.core.budget_text import simple_text

__all__ = ["BudgetStatus", "CacheStats", "EjectDecision", "InfraResult", "RunResult"]


@dataclass
class BudgetStatus:
    """What is used of a budget, in USD.

    Attributes:
        used: dollars used.
        limit: dollars granted.
        spent: nothing more fits, although ``used`` may still be below ``limit``.
    """

    used: float
    limit: float
    spent: bool = False

    @property
    def remaining(self) -> float:
        """Dollars left, never below 0."""
        return max(0.0, self.limit - self.used)

    @property
    def pct_spent(self) -> float:
        """The used share of the limit as a fraction; 1.0 where there is no limit to share."""
        return self.used / self.limit if self.limit > 0 else 1.0

    @property
    def exceeded(self) -> bool:
        """Whether the budget is at an end: used up, or too small for any further call."""
        return self.used >= self.limit or self.spent

    def format_simple(self) -> str:
        """Return the line of the simple budget file, without its newline."""
        return simple_text(pusd(self.used), pusd(self.limit)).rstrip("\n")

    def __str__(self) -> str:
        return self.format_simple()


@dataclass
class CacheStats:
    """Prompt-cache figures of one trial, summed over its requests.

    Attributes:
        total_prompt_tokens: prompt tokens, those read from a cache included.
        cached_tokens: prompt tokens read from a cache.
        cache_creation_tokens: prompt tokens written to a cache.
        request_count: requests that told their usage.
        cache_hit_requests: those of them that read from a cache.
    """

    total_prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_creation_tokens: int = 0
    request_count: int = 0
    cache_hit_requests: int = 0

    @property
    def hit_rate(self) -> float:
        """Cached tokens as a fraction of all prompt tokens; 0.0 where there are none."""
        return self.cached_tokens / self.total_prompt_tokens if self.total_prompt_tokens else 0.0

    def to_dict(self) -> dict[str, int | float]:
        """Return the counts and the hit rate (4 decimals) in the order of summary.json."""
        return {
            "total_prompt_tokens": self.total_prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "cache_creation_tokens": self.cache_creation_tokens,
            "request_count": self.request_count,
            "cache_hit_requests": self.cache_hit_requests,
            "hit_rate": round(self.hit_rate, 4),
        }


@dataclass
class EjectDecision:
    """What a policy says about a trial."""

    should_eject: bool
    reason: str = ""


@dataclass
class InfraResult:
    """What an infrastructure check found: ``ok`` is True for a pass, False for a failure, None for a warning."""

    ok: bool | None
    detail: str = ""
    hint: str = ""


@dataclass
class RunResult:
    """One trial, ended.

    Attributes:
        alias: the trial's name, also its folder.
        model_id: the model it was run for.
        budget_usd: dollars granted.
        started_at: UTC, ISO 8601.
        finished_at: UTC, ISO 8601.
        duration_s: seconds that the agent ran, to the millisecond.
        cost_usd: dollars posted, None where unknown.
        error: why it failed or was ejected, None for a trial that ended well.
        tool_calls: tool calls that the agent's events reported.
        events_count: events that the agent printed.
        output: free for callers; never filled here.
        cache: prompt-cache figures.
        preflight: what only this version knows: how it ended, exact amounts, calls, clean-up; as in summary.json.
    """

    alias: str
    model_id: str
    budget_usd: float
    started_at: str = ""
    finished_at: str = ""
    duration_s: float = 0
    cost_usd: float | None = None
    error: str | None = None
    tool_calls: int = 0
    events_count: int = 0
    output: dict[str, Any] = field(default_factory=dict)
    cache: CacheStats = field(default_factory=CacheStats)
    preflight: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the trial ended without an error."""
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """Return the twelve keys of summary.json that scripts read; ``preflight`` is not among them."""
        return {
            "alias": self.alias,
            "model_id": self.model_id,
            "budget_usd": self.budget_usd,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "duration_s": round(float(self.duration_s), 3),
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 4),
            "error": self.error,
            "tool_calls": self.tool_calls,
            "events_count": self.events_count,
            "output": self.output,
            "cache": self.cache.to_dict(),
        }
