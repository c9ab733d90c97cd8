"""What a finished run leaves is its owner's alone, except what agents must read (C17)."""

import json
import os
import stat
from pathlib import Path

import pytest

from tests.support.trial_field import Field, agent

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


def test_a_run_keeps_its_own_prompt_and_command_in_its_plan_and_nothing_of_calls_or_variables(
    trials: Field, tmp_path: Path
) -> None:
    """The agent prints nothing of it; what it prints itself would stand in its events."""
    source = "sys.stdin.read(); open(sys.argv[1], 'wb').write(call(text='ASKED-' + 'x')[1]); say('agent_end')"
    command = [*agent(source), str(tmp_path / "answer"), "ARGUED-x"]
    trials.run({"a": ""}, command=command, env={"TOKEN": "VALUED-x"}, initial_prompt="PROMPTED-x", stdin="close")
    answer = json.loads((tmp_path / "answer").read_bytes())["choices"][0]["message"]["content"]
    (run_dir,) = trials.run_dirs
    files = {path.relative_to(run_dir).as_posix(): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    found = {
        text: {name for name, content in files.items() if text.encode() in content}
        for text in ("PROMPTED-x", "ARGUED-x", "VALUED-x", "ASKED-x", answer)
    }
    nowhere: set[str] = set()
    assert found == {
        "PROMPTED-x": {"plan.json"},
        "ARGUED-x": {"plan.json"},
        "VALUED-x": nowhere,
        "ASKED-x": nowhere,
        answer: nowhere,
    }
    assert stat.S_IMODE((run_dir / "plan.json").stat().st_mode) == 0o600


def _expected(run_dir: Path, name: str) -> int:
    below_trial = name.partition("/")[2]
    return READ_BY_AGENTS.get(below_trial) or (0o700 if (run_dir / name).is_dir() else 0o600)
