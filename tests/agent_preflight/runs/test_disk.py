"""The minimum of free disk space."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent_preflight.runner.api import request_of
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import run_blocking
from agent_preflight.runs.disk import shortage
from tests.support.trial_field import MODEL, Field


def test_a_disk_with_room_stops_nothing_and_one_without_says_where_and_how_much(tmp_path: Path) -> None:
    assert shortage(tmp_path, 1) is None
    reason = shortage(tmp_path, 2**62)
    assert reason is not None
    assert str(tmp_path) in reason


def test_a_folder_that_is_gone_is_no_shortage(tmp_path: Path) -> None:
    assert shortage(tmp_path / "no", 2**62) is None


@pytest.mark.wire
def test_trials_below_the_floor_are_ended_in_order_and_their_summaries_say_so(trials: Field) -> None:
    options = trials.options({"a": "call(); time.sleep(60)", "b": "time.sleep(60)"})
    request = request_of({"models": [(MODEL, "a"), (MODEL, "b")], **options})
    finished = run_blocking(lambda stop: run_field(replace(request, free_bytes_min=2**62), stop))
    assert all("the disk is nearly full" in (result.error or "") for result in finished.results)
    for alias in ("a", "b"):
        extra = trials.summary(alias)["preflight"]
        assert extra["caps_hit"] == {"free_space": 1}
        assert set(extra["cleanup"].values()) == {"ok"}
