"""The report on prompt caching in a run: by trial, model and conversation, and why caches missed.

The figures come from the run's ledger. A run of an older version has none: its summaries have counts and no prices, so the
saving is an estimate. `python -m agent_preflight.cache_report [RUN_ID]` prints the report.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from msgspec.structs import astuple

from agent_preflight.artifacts import RUNS_DIR, latest_run, number, read_json_object, trial_dirs
from agent_preflight.base.tables import TableColumn, TextTable, money, text_of
from agent_preflight.base.usd import exact, pusd
from agent_preflight.figures.cache_figures import WHY, CacheSums, CacheView, cache_view
from agent_preflight.runs.call import Call, call_of
from agent_preflight.runs.choice import print_run
from agent_preflight.runs.costs import entries_of
from preflight_proxy.core.errors import ConfigError, OperatingError

__all__ = ["RUNS_DIR", "cache_report_json", "generate_cache_report", "latest_run", "main", "report_parts"]

CONVERSATIONS_SHOWN = 20
"""How many conversations the report shows, the longest prompts first. The JSON has all."""
ASSUMED_PRICE_PER_M = 1.0
"""Dollars per million prompt tokens, assumed because old summaries have no prices."""
ASSUMED_DISCOUNT = 0.5
"""The fraction of the price that a cached token saves, assumed for the same reason."""

ESTIMATE = (
    "The savings are estimates, because this run has no ledger, which has the prices.",
    f"Assumed: ${ASSUMED_PRICE_PER_M:.2f} per million prompt tokens, and {ASSUMED_DISCOUNT:.0%} less for cached ones.",
)
COUNTS = ("request_count", "cache_hit_requests", "total_prompt_tokens", "cached_tokens", "cache_creation_tokens")
"""Counts in a summary, in the order of `CacheSums`."""
SUMS = (
    TableColumn("calls", right=True),
    TableColumn("hits", right=True, spare=2),
    TableColumn("cached", right=True),
    TableColumn("prompt", right=True),
    TableColumn("written", right=True, spare=1),
    TableColumn("saved", right=True),
)
"""The columns of `_sums_cells`."""


def generate_cache_report(run_dir: str | Path) -> str:
    """Return the report on a run as text of several lines. Never raises for what is missing or corrupt in the folder.

    Args:
        run_dir: The run's folder.
    """
    return text_of(*report_parts(run_dir))


def report_parts(run_dir: str | Path) -> Iterator[TextTable | str]:
    """Yield the tables and lines of the report on a run.

    Args:
        run_dir: The run's folder.
    """
    run = Path(run_dir)
    calls, trouble = _calls(run)
    view = cache_view(calls)
    trials = _trials(run, calls, view)
    known = [sums for sums, _ in trials.values() if sums is not None]
    yield f"Cache Analytics Report: {run.name}"
    yield ""
    if known:
        yield _trial_table(trials, known)
        yield ""
        yield from ESTIMATE if view is None else _ledger_parts(view)
    else:
        yield "No cache data recorded for this run." if trials else "No trials found."
    if trouble is not None:
        yield f"From the summaries: {trouble}"


def cache_report_json(run_dir: str | Path) -> dict[str, Any]:
    """Return the report on a run for machines.

    Args:
        run_dir: The run's folder.

    Returns:
        `run`: the run's name. `trials`: by alias, a dict of `request_count`, `cache_hit_requests`, `total_prompt_tokens`,
        `cached_tokens`, `cache_creation_tokens` and `cost_usd` (exact text), or None if the trial has no cache figures. `ledger`:
        sums in all, by model and by conversation with exact savings, and the reasons of misses; None without a ledger.
        `estimate`: for a run without a ledger, `saved_usd` in dollars and the price and discount assumed for it; else None.
    """
    run = Path(run_dir)
    calls, _ = _calls(run)
    view = cache_view(calls)
    trials = _trials(run, calls, view)
    cached = sum(sums.cached_tokens for sums, _ in trials.values() if sums is not None)
    estimate = {
        "saved_usd": f"{_estimated_usd(cached):.4f}",
        "assumed_price_usd_per_m": ASSUMED_PRICE_PER_M,
        "assumed_discount": ASSUMED_DISCOUNT,
    }
    return {
        "run": run.name,
        "trials": {alias: sums and _figures(sums, cost_pusd) for alias, (sums, cost_pusd) in trials.items()},
        "ledger": view.to_json() if view else None,
        "estimate": None if calls else estimate,
    }


def main(run_id: str | None = None, runs_dir: str | Path = RUNS_DIR) -> None:
    """Print the report on one run. Prints a line that says so if there is no such run.

    Args:
        run_id: The run's name. None means the only live run, else the latest.
        runs_dir: The folder that has the runs.
    """
    print_run(run_id, runs_dir, report_parts)


def _calls(run: Path) -> tuple[list[Call], str | None]:
    """Return the calls in the run's ledger, and why it cannot be read. A run without a ledger has no calls and no reason."""
    try:
        return list(map(call_of, entries_of(run))), None
    except ConfigError:
        return [], None
    except OperatingError as exc:
        return [], str(exc)


def _trials(run: Path, calls: Sequence[Call], view: CacheView | None) -> dict[str, tuple[CacheSums | None, int]]:
    """Return each trial's cache figures, if it has any, and its cost in pico-dollars: from the ledger, else from the summaries."""
    if not calls:
        return {trial.name: _of_summary(trial) for trial in trial_dirs(run)}
    costs_pusd = Counter[str]()
    for call in calls:
        costs_pusd[call.trial] += call.cost_pusd
    accounts = view.accounts if view else {}
    return {name: (accounts.get((name,)), cost_pusd) for name, cost_pusd in sorted(costs_pusd.items())}


def _of_summary(trial: Path) -> tuple[CacheSums | None, int]:
    summary = read_json_object(trial, "summary.json") or {}
    cache = summary.get("cache")
    if not isinstance(cache, dict) or not number(cache.get("request_count")):
        return None, 0
    calls, hits, prompt, cached, written = (int(number(cache.get(name))) for name in COUNTS)
    saved_pusd = pusd(_estimated_usd(cached))
    return CacheSums(calls, hits, prompt, cached, written, saved_pusd), pusd(number(summary.get("cost_usd")))


def _estimated_usd(cached_tokens: int) -> float:
    return cached_tokens / 1_000_000 * ASSUMED_PRICE_PER_M * ASSUMED_DISCOUNT


def _figures(sums: CacheSums, cost_pusd: int) -> dict[str, Any]:
    return {**dict(zip(COUNTS, astuple(sums), strict=False)), "cost_usd": exact(cost_pusd)}


def _trial_table(trials: Mapping[str, tuple[CacheSums | None, int]], known: Sequence[CacheSums]) -> TextTable:
    """Return the table of trials, the most prompt tokens first."""
    rows = sorted(
        ((alias, sums or CacheSums()) for alias, (sums, _) in trials.items()), key=lambda row: -row[1].prompt_tokens
    )
    return TextTable(
        [TableColumn("trial"), *SUMS],
        [(alias, *_sums_cells(sums)) for alias, sums in rows],
        total=("TOTAL", *_sums_cells(reduce(add, known))),
        notes=[
            f"the saving of {sums.unpriced:,} of its calls is not known" if sums.unpriced else "" for _, sums in rows
        ],
    )


def _ledger_parts(view: CacheView) -> Iterator[TextTable | str]:
    models = view.models.items()
    yield TextTable([TableColumn("model"), *SUMS], [(model, *_sums_cells(sums)) for (model,), sums in models])
    yield ""
    yield from _conversation_parts(view)
    yield ""
    yield from _miss_parts(view)


def _conversation_parts(view: CacheView) -> Iterator[TextTable | str]:
    shown = list(view.conversations.items())[:CONVERSATIONS_SHOWN]
    yield TextTable(
        [
            TableColumn("trial"),
            TableColumn("conversation"),
            TableColumn("model", spare=3),
            *SUMS,
            TableColumn("why it missed", fold=14),
        ],
        [
            (account, conversation or "-", model, *_sums_cells(sums), _counted(view.misses_of(account, conversation)))
            for (account, conversation, model), sums in shown
        ],
    )
    if more := len(view.conversations) - len(shown):
        yield f"and {more} more conversations, see --json"


def _miss_parts(view: CacheView) -> Iterator[TextTable | str]:
    reasons = view.misses_by_reason()
    if not reasons:
        yield "No call read less than it could."
        return
    yield TextTable(
        [
            TableColumn("why caches missed"),
            TableColumn("calls", right=True),
            TableColumn("prompt tokens", right=True),
            TableColumn("what that means, and what to do", fold=30),
        ],
        [(reason, f"{calls:,}", f"{tokens:,}", WHY.get(reason, "")) for reason, (calls, tokens) in reasons.items()],
    )


def _sums_cells(sums: CacheSums) -> tuple[str, ...]:
    if not sums.calls:
        return ("-",) * len(SUMS)
    return (
        f"{sums.calls:,}",
        f"{sums.hits:,}",
        f"{sums.hit_rate * 100:.1f}%",
        f"{sums.prompt_tokens:,}",
        f"{sums.cache_write_tokens:,}",
        money(sums.saved_pusd),
    )


def _counted(missed: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({calls} times)" if calls > 1 else reason for reason, calls in missed.items())


if __name__ == "__main__":
    sys.exit(print_run(next(iter(sys.argv[1:]), None), RUNS_DIR, report_parts))
