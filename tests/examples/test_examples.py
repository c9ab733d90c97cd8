"""The examples run as they stand, offline, with agents as processes; containers are for CI's own step."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.wire

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OURS = ("OPENROUTER_BASE_URL", "OPENROUTER_API_KEY", "OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY")


def run(name: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Run an example in a folder; what it printed, and its trials' summaries by alias."""
    env = {key: value for key, value in os.environ.items() if key not in OURS}
    command = [sys.executable, str(EXAMPLES / name / "run.py")]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    paths = folder.glob("runs/*/*/summary.json")
    return done.stdout, {path.parent.name: json.loads(path.read_text()) for path in paths}


def test_underwriters_decide_within_the_office_s_cap_and_their_own(tmp_path: Path) -> None:
    printed, summaries = run("underwriting", tmp_path)
    assert "[v] loan office  version=2.1.0" in printed
    assert "nano    6 of 6 decided, $55,000 lent" in printed
    assert {alias for alias, each in summaries.items() if each["error"] is None} >= {"nano", "mini"}
    assert "lending cap" in "".join(path.read_text() for path in tmp_path.glob("runs/*/nano/events.jsonl"))


def test_who_dreams_of_a_bot_is_ejected_and_who_tests_is_not(tmp_path: Path) -> None:
    printed, summaries = run("strategy_game", tmp_path)
    assert summaries["tester"]["error"] is None
    assert summaries["dreamer"]["error"].endswith("spent without a test")
    assert "best score: 656" in "".join(path.read_text() for path in tmp_path.glob("runs/*/tester/events.jsonl"))
    assert "remaining of $0.04" in printed


def test_each_change_is_named_as_what_broke_the_cache(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key not in OURS}
    command = [sys.executable, str(EXAMPLES / "cache_breaks.py")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    table, report = done.stdout.split("\n\n", 1)
    words = [line.split("tokens read")[1].strip() for line in table.splitlines()]
    assert words == ["", "tools", "system", "message 2 (user)", "message 3 (assistant)", "field response_format"]
    assert "why caches missed" in report


def test_five_models_sort_letters_and_one_is_sent_home_for_idleness(tmp_path: Path) -> None:
    printed, summaries = run("best_for_the_dollar", tmp_path)
    assert len(summaries) == 20
    assert "gemini-3: no events for " in printed
    assert all(summaries[f"sonnet-{n}"]["preflight"]["status"] == "spent" for n in range(1, 5))
    filed = {path.parts[-3]: json.loads(path.read_text()) for path in tmp_path.glob("runs/*/*/workspace/trays.json")}
    assert len(filed["haiku-1"]) == 16 > len(filed["sonnet-1"]) > len(filed["gemini-3"]) == 6
    scores = {alias: summary["preflight"]["score"] for alias, summary in summaries.items()}
    assert scores["haiku-1"]["score"] == scores["haiku-1"]["details"]["right"] / 16 == 14 / 16
    solved = {name: sum(scores[f"{name}-{n}"]["success"] for n in range(1, 5)) for name in ("nano", "gemini", "haiku")}
    assert solved == {"nano": 2, "gemini": 2, "haiku": 4}
