"""The table that a run prints at its end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.base.tables import TableColumn, TextTable, duration, money, text_of, width_of
from agent_preflight.base.usd import pusd
from agent_preflight.models import RunResult
from agent_preflight.runs.costs import LEDGER
from agent_preflight.runs.trial_status import end_note, ending_word
from agent_preflight.sandboxes.kept_output import WORKSPACE
from agent_preflight.sandboxes.process import BUDGET_LINK

COLUMNS = (
    TableColumn("trial"),
    TableColumn("status"),
    TableColumn("cost", right=True),
    TableColumn("time", right=True, spare=1),
    TableColumn("tools", right=True, spare=3),
    TableColumn("cached", right=True, spare=2),
)


def final_lines(results: Sequence[RunResult], run_dir: Path, where: str = "") -> Iterator[str]:
    """Yield the lines of the table, sorted by alias, with the total, the cache figures if any, and where the files are.

    Args:
        results: Of the trials.
        run_dir: The run's folder.
        where: The option that names the runs' folder, with a space before it.
    """
    if not results:
        return
    ordered = sorted(results, key=lambda result: result.alias)
    costs = [Decimal(str(result.cost_usd)) for result in results if result.cost_usd is not None]
    table = TextTable(
        COLUMNS,
        [_row(result) for result in ordered],
        total=("TOTAL", "", money(pusd(sum(costs, Decimal(0)))), "", str(sum(r.tool_calls for r in results)), ""),
        notes=[end_note(result.error, result.preflight.get("notes", ())) for result in ordered],
    )
    yield ""
    yield from text_of(table, width=width_of(sys.stdout)).split("\n")
    yield from _cache_line(results)
    yield from place_lines(run_dir, where)
    yield from answers_lines(results, run_dir)


def place_lines(run_dir: Path, where: str = "") -> Iterator[str]:
    """Yield where a run's files are, and the command that shows its costs; nothing if the run left no folder."""
    if run_dir.is_dir():
        yield f"files: {run_dir}"
    if (run_dir / LEDGER).is_file():
        yield f"costs: agent-preflight costs {shlex.quote(run_dir.name)}{where}"


def answers_lines(results: Sequence[RunResult], run_dir: Path) -> Iterator[str]:
    """Yield where the agents' output is, how many wrote a file, and whose output is not copied yet."""
    outputs = {result.alias: result.preflight.get("output") or {} for result in results}
    written = [alias for alias, output in outputs.items() if _has_files(output)]
    if written:
        place = run_dir / (written[0] if len(written) == 1 else "<alias>") / WORKSPACE
        yield f"Answers: {outputs[written[0]]['path'] if len(written) == 1 else place} ({len(written)} of {len(results)} trials)"
    waiting = [result.alias for result in results if result.preflight.get("cleanup", {}).get("output", "ok") != "ok"]
    if waiting:
        yield f"Answers not copied yet: {', '.join(waiting)}; their stopped containers hold them until `agent-preflight sweep`"


def _has_files(output: Mapping[str, Any]) -> bool:
    """Whether an agent wrote a file. If files were not counted: whether its working directory has more than our link."""
    path, files = output.get("path"), output.get("files")
    if not path or files is not None:
        return bool(path and files)
    try:
        with os.scandir(path) as entries:
            return any(entry.name != BUDGET_LINK or not entry.is_symlink() for entry in entries)
    except OSError:
        return False


def _row(result: RunResult) -> tuple[str, ...]:
    return (
        result.alias,
        ending_word(result.error, result.preflight),
        "-" if result.cost_usd is None else money(pusd(result.cost_usd)),
        duration(result.duration_s),
        str(result.tool_calls),
        f"{result.cache.hit_rate * 100:.0f}%" if result.cache.total_prompt_tokens else "-",
    )


def _cache_line(results: Sequence[RunResult]) -> Iterator[str]:
    prompt = sum(result.cache.total_prompt_tokens for result in results)
    cached = sum(result.cache.cached_tokens for result in results)
    if prompt:
        yield f"Cache: {cached / prompt * 100:.1f}% of {prompt:,} prompt tokens came from a cache"
