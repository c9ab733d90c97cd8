"""The table that a run prints at its end. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from agent_preflight.kept_output import WORKSPACE
from agent_preflight.models import RunResult
from agent_preflight.terminal import plain

COLUMNS = ("alias", "cost", "time", "tools", "cache", "status")
STATUS_CHARS = 80


def final_lines(results: Sequence[RunResult], run_dir: Path) -> Iterator[str]:
    """Yield the lines of the table, sorted by alias, with the total, the cache figures if any, and where the files are."""
    if not results:
        return
    rows = [_row(result) for result in sorted(results, key=lambda result: result.alias)]
    costs = [Decimal(str(result.cost_usd)) for result in results if result.cost_usd is not None]
    rows.append(("TOTAL", f"${sum(costs):.4f}", "", str(sum(r.tool_calls for r in results)), "", ""))
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    yield ""
    for cells in (COLUMNS, *rows):
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
    yield from _cache_line(results)
    yield f"  Artifacts: {run_dir}"
    yield from (f"  {line}" for line in answers_lines(results, run_dir))


def answers_lines(results: Sequence[RunResult], run_dir: Path) -> Iterator[str]:
    """Yield where what the agents wrote is, or for whom it is not there."""
    outputs = {result.alias: result.preflight.get("output") or {} for result in results}
    kept = [alias for alias, output in outputs.items() if output.get("path")]
    if kept:
        place = run_dir / (kept[0] if len(kept) == 1 else "<alias>") / WORKSPACE
        yield f"Answers: {outputs[kept[0]]['path'] if len(kept) == 1 else place} ({len(kept)} of {len(results)} trials)"
    waiting = [result.alias for result in results if result.preflight.get("cleanup", {}).get("output", "ok") != "ok"]
    if waiting:
        yield f"Answers not copied yet: {', '.join(waiting)}; their stopped containers hold them until `agent-preflight sweep`"


def _row(result: RunResult) -> tuple[str, ...]:
    minutes, seconds = divmod(int(result.duration_s), 60)
    return (
        result.alias,
        "-" if result.cost_usd is None else f"${result.cost_usd:.4f}",
        f"{minutes}m{seconds:02d}s",
        str(result.tool_calls),
        f"{result.cache.hit_rate * 100:.0f}%" if result.cache.total_prompt_tokens else "-",
        plain("; ".join([result.error or _word(result), *map(str, result.preflight.get("notes", ()))]))[:STATUS_CHARS],
    )


def _word(result: RunResult) -> str:
    return "spent" if result.preflight.get("status") == "spent" else "ok"


def _cache_line(results: Sequence[RunResult]) -> Iterator[str]:
    prompt = sum(result.cache.total_prompt_tokens for result in results)
    cached = sum(result.cache.cached_tokens for result in results)
    if prompt:
        yield f"  Cache: {cached / prompt * 100:.1f}% of {prompt:,} prompt tokens came from a cache"
