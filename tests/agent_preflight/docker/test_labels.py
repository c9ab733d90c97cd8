"""Names and labels of what a run makes, and who made it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from agent_preflight.docker.labels import TrialLabels, this_process

TAG = TrialLabels(
    "run-2026-11-25", Path("/r/run-2026-11-25"), "claude", "boot:1:2", "2026-12-02T00:00:00+00:00", "abc123"
)


def test_an_owner_is_boot_process_and_start_time() -> None:
    boot, pid, start = this_process().split(":")
    assert boot
    assert int(pid) == os.getpid()
    assert float(start) > 0


def test_a_name_carries_run_and_trial_in_full() -> None:
    assert TAG.name("agent") == "ap-claude-run-2026-11-25-abc123"
    assert TAG.name("gate") == "ap-claude-run-2026-11-25-gate-abc123"


def test_a_name_has_only_characters_that_the_engine_allows() -> None:
    assert replace(TAG, alias="a:b/ü").name("agent") == "ap-a-b---run-2026-11-25-abc123"
