"""How well the prompts of a run were cached, trial by trial and in all; from its ledger also by conversation, and why not."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import RUNS_DIR, find_run, latest_run, number, read_json_object, trial_dirs
from agent_preflight.cache_figures import WHY, CacheSums, CacheView, cache_view
from agent_preflight.console import say
from agent_preflight.costs import cost_lines, sums_by_account, sums_of
from agent_preflight.terminal import plain
from preflight_proxy.errors import OperatingError

__all__ = ["RUNS_DIR", "cache_report_json", "generate_cache_report", "latest_run", "main"]

WIDTH = 70
CONVERSATIONS_SHOWN = 20
"""The longest ones; the others are in the JSON."""
ASSUMED_PRICE_PER_M = 1.0
"""Dollars per million prompt tokens that the estimate of savings takes, for want of a price in old summaries."""
ASSUMED_DISCOUNT = 0.5

COUNTS = ("request_count", "total_prompt_tokens", "cached_tokens", "cache_creation_tokens")


def generate_cache_report(run_dir: str | Path) -> str:
    """Return the report on a run as text of several lines: its trials' summaries, then what its ledger tells."""
    run = Path(run_dir)
    head = ["", f"Cache Analytics Report: {plain(run.name)}", "=" * WIDTH]
    lines = _lines(run)
    view, figures = cache_view(lines), _trial_figures(run, lines)
    if not figures:
        return "\n".join([*head, "  No model directories found."])
    models = [_model_line(alias, found) for alias, found in figures.items()]
    head += ["", "Per-Model Cache Performance:", "-" * WIDTH, *models, ""]
    told = [*head, *_aggregate(list(filter(None, figures.values()))), "=" * WIDTH, ""]
    return "\n".join([*told, *(_ledger_part(view) if view else ())])


def cache_report_json(run_dir: str | Path) -> dict[str, Any]:
    """Return the report on a run for machines: `run`, `trials` by alias, `ledger` (null without one)."""
    run = Path(run_dir)
    lines = _lines(run)
    view = cache_view(lines)
    return {"run": run.name, "trials": _trial_figures(run, lines), "ledger": view.to_json() if view else None}


def main(run_id: str | None = None, runs_dir: str | Path = RUNS_DIR) -> None:
    """Print the report on one run, the latest where none is named; say so if there is none."""
    run_dir = find_run(run_id, runs_dir)
    if run_dir is None:
        say(f"  No runs found in {runs_dir}/" + (f" (no run is named {plain(run_id)})" if run_id else ""))
        return
    say(generate_cache_report(run_dir))


def _lines(run: Path) -> list[dict[str, Any]]:
    """The lines of the run's ledger; none for runs without one, as old ones are, or with one that cannot be read."""
    try:
        return list(cost_lines(run))
    except OperatingError:
        return []


def _trial_figures(run: Path, lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """Each trial's figures: from its summary, else, while it runs, from the ledger. Where there is one, it names the trials."""
    summed = {trial.name: _summary_figures(trial) for trial in trial_dirs(run)}
    booked = {account: _ledger_figures(account, lines) for account in sums_by_account(lines)}
    named = [name for name, found in summed.items() if found or not booked or name in booked]
    return {name: summed.get(name) or booked.get(name) for name in sorted({*named, *booked})}


def _ledger_figures(account: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    mine = [line for line in lines if line["account"] == account]
    if (view := cache_view(mine)) is None:
        return None
    total = view.total
    counts = (total.calls, total.prompt_tokens, total.cached_tokens, total.cache_write_tokens)
    return {**dict(zip(COUNTS, counts, strict=True)), "cost": float(sums_of(mine).cost_usd)}


def _summary_figures(trial: Path) -> dict[str, Any] | None:
    """Return a trial's counts and cost, None if it told nothing of caching."""
    summary = read_json_object(trial, "summary.json") or {}
    cache = summary.get("cache")
    if not isinstance(cache, dict) or not number(cache.get("request_count")):
        return None
    return {**{name: int(number(cache.get(name))) for name in COUNTS}, "cost": number(summary.get("cost_usd"))}


def _model_line(alias: str, found: dict[str, Any] | None) -> str:
    name = f"  {plain(alias):<20}"
    if found is None:
        return f"{name} [no cache data]"
    rate = _rate(found["cached_tokens"], found["total_prompt_tokens"])
    cost = f" (${found['cost']:.4f})" if found["cost"] else ""
    return (
        f"{name} hit_rate={rate * 100:5.1f}%  cached={found['cached_tokens']:6d}  "
        f"total={found['total_prompt_tokens']:7d}  requests={found['request_count']:3d}{cost}"
    )


def _aggregate(figures: list[dict[str, Any]]) -> Iterator[str]:
    if not figures:
        yield "No cache data recorded for this run."
        return
    requests, prompt, cached, created = (sum(found[name] for found in figures) for name in COUNTS)
    savings = cached / 1_000_000 * ASSUMED_PRICE_PER_M * ASSUMED_DISCOUNT
    yield "=" * WIDTH
    yield "Aggregate Cache Statistics:"
    yield "-" * WIDTH
    yield f"  Total requests with cache data:     {requests:,}"
    yield f"  Total prompt tokens:                {prompt:,}"
    yield f"  Total cached tokens:                {cached:,}"
    yield f"  Total cache creation tokens:        {created:,}"
    yield f"  Overall cache hit rate:             {_rate(cached, prompt) * 100:.1f}%"
    yield f"  Est. cache savings (50% discount):  ${savings:.4f}"


def _rate(cached: int, prompt: int) -> float:
    return cached / prompt if prompt else 0.0


def _ledger_part(view: CacheView) -> Iterator[str]:
    yield "From the ledger, by model:"
    yield "-" * WIDTH
    for (model,), sums in view.models.items():
        yield f"  {plain(model):<34} {_sums_text(sums)}"
    yield f"  {'in all':<34} {_sums_text(view.total)}"
    yield from ("", "By conversation:", "-" * WIDTH)
    shown = list(view.conversations.items())[:CONVERSATIONS_SHOWN]
    for (account, conversation, model), sums in shown:
        yield f"  {plain(account):<16} {plain(conversation) or '-':<12}  {_sums_text(sums)}  {plain(model)}"
        if missed := view.misses_of(account, conversation):
            yield f"  {'':<16} missed: {plain(_counted(missed))}"
    if more := len(view.conversations) - len(shown):
        yield f"  and {more} more"
    yield from ("", "Why caches missed:", "-" * WIDTH)
    reasons = view.misses_by_reason()
    for reason, (calls, tokens) in reasons.items():
        yield f"  {plain(reason):<14} {calls:>5} calls {tokens:>12,} tokens  {WHY.get(reason, '')}"
    yield from (["", ""] if reasons else ["  no call read less than it could", ""])


def _sums_text(sums: CacheSums) -> str:
    unpriced = f" ({sums.unpriced} calls without a price)" if sums.unpriced else ""
    rate = f"{sums.hit_rate * 100:5.1f}% of {sums.prompt_tokens:>9,} tokens cached"
    return f"{sums.hits:>4} of {sums.calls:<4} calls hit  {rate}  saved {_dollars(sums)}{unpriced}"


def _dollars(sums: CacheSums) -> str:
    return f"{'-' if sums.saved_usd < 0 else ''}${abs(sums.saved_usd):.4f}"


def _counted(missed: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ×{calls}" if calls > 1 else reason for reason, calls in missed.items())


if __name__ == "__main__":
    main(*sys.argv[1:2])
