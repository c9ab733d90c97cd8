"""The table that a run prints at its end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent_preflight.base.tables import table_of, text_of, width_of
from agent_preflight.models import RunResult
from agent_preflight.runs.costs import LEDGER
from agent_preflight.runs.result import summary_document
from agent_preflight.runs.status import TRIAL_COLUMNS, TrialStatus, status_of_summary
from agent_preflight.sandboxes.kept_output import WORKSPACE
from agent_preflight.sandboxes.process import BUDGET_LINK

SHOWN = ("trial", "status", "cost", "time", "tools", "cached")
"""The titles of its columns."""


def final_lines(results: Sequence[RunResult], run_dir: Path, where: str = "") -> Iterator[str]:
    """Yield the lines of the table, sorted by alias, with the total, the cache figures if any, and where the files are.

    Args:
        results: Of the trials.
        run_dir: The run's folder.
        where: The option that names the runs' folder, with a space before it.
    """
    if not results:
        return
    trials = sorted(map(_status, results), key=lambda trial: trial.alias)
    columns = [column for title in SHOWN for column in TRIAL_COLUMNS if column.title == title]
    table = table_of(columns, trials, [trial.note for trial in trials], with_total=True)
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


def _status(result: RunResult) -> TrialStatus:
    """Return what the table shows. Without an opened account the cost is not known: an earlier attempt may have spent something."""
    status = status_of_summary(result.alias, summary_document(result))
    return replace(status, posted_pusd=None) if result.cost_usd is None else status


def _cache_line(results: Sequence[RunResult]) -> Iterator[str]:
    prompt = sum(result.cache.total_prompt_tokens for result in results)
    cached = sum(result.cache.cached_tokens for result in results)
    if prompt:
        yield f"Cache: {cached / prompt * 100:.1f}% of {prompt:,} prompt tokens came from a cache"
