"""Results, budgets, cache figures and decisions: plain data that scripts read and build.

The dataclasses are mutable, and the order of their fields is part of the API.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from agent_preflight.base.usd import pusd
from preflight_proxy.core.budget_text import simple_text

__all__ = ["BudgetStatus", "CacheStats", "EjectDecision", "InfraResult", "RunResult"]


@dataclass
class BudgetStatus:
    """What is used of a budget. `str()` gives `format_simple()`.

    Attributes:
        used: Dollars used.
        limit: Dollars granted.
        spent: True if no further call fits, although `used` may be below `limit`.

    Examples:
        >>> str(BudgetStatus(used=0.05, limit=0.25))
        'Budget: $0.200 remaining of $0.25 (80% left)'
    """

    used: float
    limit: float
    spent: bool = False

    @property
    def remaining(self) -> float:
        """Dollars left: `limit - used`, at least 0."""
        return max(0.0, self.limit - self.used)

    @property
    def pct_spent(self) -> float:
        """`used / limit` as a fraction, so 0.5 is half; 1.0 if the limit is 0 or less."""
        return self.used / self.limit if self.limit > 0 else 1.0

    @property
    def exceeded(self) -> bool:
        """Whether the budget is at its end: `used` has reached `limit`, or `spent` is true."""
        return self.used >= self.limit or self.spent

    def format_simple(self) -> str:
        """Return the line of the simple budget.txt, without its newline."""
        return simple_text(pusd(self.used), pusd(self.limit)).rstrip("\n")

    def __str__(self) -> str:
        return self.format_simple()


@dataclass
class CacheStats:
    """Prompt-cache figures of one trial: sums over its requests.

    Attributes:
        total_prompt_tokens: Prompt tokens, including those read from a cache.
        cached_tokens: Prompt tokens read from a cache.
        cache_creation_tokens: Prompt tokens written to a cache.
        request_count: Requests whose usage is known.
        cache_hit_requests: Requests that read from a cache.
    """

    total_prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_creation_tokens: int = 0
    request_count: int = 0
    cache_hit_requests: int = 0

    @property
    def hit_rate(self) -> float:
        """`cached_tokens / total_prompt_tokens` as a fraction; 0.0 if there are no prompt tokens."""
        return self.cached_tokens / self.total_prompt_tokens if self.total_prompt_tokens else 0.0

    def to_dict(self) -> dict[str, int | float]:
        """Return the five counts and `hit_rate`, rounded to 4 decimals, in the order of summary.json."""
        return {**asdict(self), "hit_rate": round(self.hit_rate, 4)}


@dataclass
class EjectDecision:
    """What a policy decides about a trial.

    Attributes:
        should_eject: True ends the trial.
        reason: Why, for the trial's `error`, which begins with `ejected: `. Empty if the trial stays.
    """

    should_eject: bool
    reason: str = ""


@dataclass
class InfraResult:
    """The result of an infrastructure check.

    Attributes:
        ok: True for a pass, False for a failure, None for a warning.
        detail: What was found, in one line.
        hint: What to do about it; shown unless the check passed.
    """

    ok: bool | None
    detail: str = ""
    hint: str = ""


@dataclass
class RunResult:
    """The result of one trial, after its end.

    Attributes:
        alias: The trial's name, also the name of its folder.
        model_id: The model that the trial ran for.
        budget_usd: Dollars granted.
        started_at: UTC, ISO 8601.
        finished_at: UTC, ISO 8601.
        duration_s: Seconds that the agent ran, to the millisecond.
        cost_usd: Dollars posted in the ledger; None if unknown.
        error: Why the trial failed or was ejected; None if it ended well. Begins with `ejected: ` or `provisioning_failed: `,
            or is the text of the failure.
        tool_calls: Tool calls that the agent's events reported.
        events_count: Events that the agent printed.
        output: Free for callers; never filled by a run.
        cache: Prompt-cache figures.
        preflight: What summary.json has under `preflight`: the status, exact amounts as decimal text, calls, clean-up.
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

    @property
    def score(self) -> float | None:
        """The trial's score; None if it has none, and then `preflight["score"]` may say why."""
        return (self.preflight.get("score") or {}).get("score")

    @property
    def success(self) -> bool | None:
        """Whether the trial is a success by its score; None if it has none."""
        return (self.preflight.get("score") or {}).get("success")

    def to_dict(self) -> dict[str, Any]:
        """Return the twelve keys that summary.json begins with. `preflight` is not one of them.

        `cost_usd` is rounded to 4 decimals, `duration_s` to 3; `cache` is a dict.
        """
        return {
            **{each.name: getattr(self, each.name) for each in fields(self) if each.name != "preflight"},
            "duration_s": round(float(self.duration_s), 3),
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 4),
            "cache": self.cache.to_dict(),
        }
