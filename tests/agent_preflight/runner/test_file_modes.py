"""What a finished run leaves is its owner's alone, except what agents must read (C17)."""

import os
import stat
from pathlib import Path

import pytest

from tests.agent_preflight.runner.conftest import Field

pytestmark = pytest.mark.wire

READ_BY_AGENTS = {"budget": 0o755, "budget/budget.txt": 0o644}
"""Below a trial's folder, which nobody else can enter."""


def modes(folder: Path) -> dict[str, int]:
    """Return the mode of everything below a folder, by its path there; what the agent made itself is its own affair."""
    found = {"": folder, **{path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}}
    return {
        name: stat.S_IMODE(path.lstat().st_mode)
        for name, path in found.items()
        if "/workspace/" not in f"/{name}" and not path.is_symlink()
    }


def test_a_finished_runs_files_are_private(trials: Field) -> None:
    before = os.umask(0o000)  # what is private is so by its own mode, not by the grace of whoever starts the run
    try:
        trials.run({"a": "call(); print('x', file=sys.stderr); say('agent_end')"})
    finally:
        os.umask(before)
    (run_dir,) = trials.run_dirs
    found = modes(run_dir)
    assert {"costs.jsonl", "ledger.sqlite3", "plan.json", "proxy.log", "lock", "a/events.jsonl"} <= found.keys()
    assert {"a/summary.json", "a/run.log", "a/stderr.log", "a/budget/budget.txt"} <= found.keys()
    wrong = {name: oct(mode) for name, mode in found.items() if mode != _expected(run_dir, name)}
    assert wrong == {}


def _expected(run_dir: Path, name: str) -> int:
    below_trial = name.partition("/")[2]
    return READ_BY_AGENTS.get(below_trial) or (0o700 if (run_dir / name).is_dir() else 0o600)
