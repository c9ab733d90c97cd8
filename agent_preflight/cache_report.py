"""How well the prompts of a run were cached, trial by trial and in all."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import RUNS_DIR, find_run, latest_run, number, read_json_object, trial_dirs
from agent_preflight.console import say
from agent_preflight.terminal import plain

__all__ = ["RUNS_DIR", "generate_cache_report", "latest_run", "main"]

WIDTH = 70
ASSUMED_PRICE_PER_M = 1.0
"""Dollars per million prompt tokens that the estimate of savings takes, for want of a price in old summaries."""
ASSUMED_DISCOUNT = 0.5

COUNTS = ("request_count", "total_prompt_tokens", "cached_tokens", "cache_creation_tokens")


def generate_cache_report(run_dir: str | Path) -> str:
    """Return the report on a run as text of several lines."""
    run = Path(run_dir)
    head = ["", f"Cache Analytics Report: {plain(run.name)}", "=" * WIDTH]
    trials = trial_dirs(run)
    if not trials:
        return "\n".join([*head, "  No model directories found."])
    figures = {trial.name: _figures(trial) for trial in trials}
    models = [_model_line(alias, found) for alias, found in figures.items()]
    head += ["", "Per-Model Cache Performance:", "-" * WIDTH, *models, ""]
    return "\n".join([*head, *_aggregate(list(filter(None, figures.values()))), "=" * WIDTH, ""])


def main(run_id: str | None = None, runs_dir: str | Path = RUNS_DIR) -> None:
    """Print the report on one run, the latest where none is named; say so if there is none."""
    run_dir = find_run(run_id, runs_dir)
    if run_dir is None:
        say(f"  No runs found in {runs_dir}/" + (f" (no run is named {plain(run_id)})" if run_id else ""))
        return
    say(generate_cache_report(run_dir))


def _figures(trial: Path) -> dict[str, Any] | None:
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
        yield "No cache data was recorded in this run."
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


if __name__ == "__main__":
    main(*sys.argv[1:2])
