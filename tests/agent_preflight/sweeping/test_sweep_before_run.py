"""What dead runs left is told in lines, and costs the new run nothing."""

from pathlib import Path

import pytest

from agent_preflight.sweeping import Scope
from agent_preflight.sweeping.sweep_before_run import tidy
from tests.support.crashed_run import BUSY, crash
from tests.support.trial_field import Field


async def told(scope: Scope) -> list[str]:
    said: list[str] = []
    await tidy(scope, said.append)
    return said


async def test_where_nothing_was_left_nothing_is_said(tmp_path: Path) -> None:
    assert await told(Scope(tmp_path / "none", None, containers=False)) == []


@pytest.mark.wire
async def test_what_was_removed_and_what_is_left_is_said(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    scope = Scope(trials.runs_dir, "sk-or-wrong", trials.simulator.base_url, containers=False, settle_s=30)
    lines = await told(scope)
    assert [line.partition(":")[0] for line in lines[:3]] == [
        "removed what a dead run left",
        "removed what a dead run left",
        "a dead run left, and it is still there",
    ]
    assert any("list of keys" in line for line in lines)
    assert any("summary of" in line for line in lines)
    trials.may_differ = True


async def test_whatever_goes_wrong_is_a_line(tmp_path: Path) -> None:
    (line,) = await told(Scope(tmp_path / "nul\0", None, containers=False))
    assert line.startswith("could not look for what dead runs left: ValueError")
