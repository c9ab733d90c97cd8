"""Where the files and answers of a run are, in lines that scripts may read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_preflight.models import RunResult
from agent_preflight.runs.costs import LEDGER
from agent_preflight.sandboxes.kept_output import WORKSPACE
from agent_preflight.sandboxes.process import BUDGET_LINK


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
