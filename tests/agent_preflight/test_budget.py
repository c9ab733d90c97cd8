"""A tracker follows usage, believes no refund, and writes no shell."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

import agent_preflight
from agent_preflight.budget import BudgetTracker
from agent_preflight.models import BudgetStatus


class Usage:
    """A stand-in that a script may assign: it tells what it is set to, and counts the questions."""

    def __init__(self) -> None:
        self.used: float | None = 0.0
        self.asked: list[str] = []

    def __call__(self, api_key: str) -> float | None:
        self.asked.append(api_key)
        return self.used


@pytest.fixture
def usage(monkeypatch: pytest.MonkeyPatch) -> Usage:
    usage = Usage()
    monkeypatch.setattr(agent_preflight, "get_usage", usage)
    return usage


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def polled(tracker: BudgetTracker, usage: Usage, used: float | None) -> BudgetStatus:
    usage.used = used
    return tracker.poll(force=True)


def test_the_package_s_get_usage_is_asked(usage: Usage) -> None:
    usage.used = 0.2
    assert BudgetTracker("key-1", 0.5).poll() == BudgetStatus(0.2, 0.5)
    assert usage.asked == ["key-1"]


def test_within_the_interval_the_last_figure_is_returned(usage: Usage) -> None:
    clock = Clock()
    tracker = BudgetTracker("k", 1.0, 30.0, clock=clock)
    tracker.poll()
    clock.now = 29.9
    usage.used = 0.5
    assert tracker.poll().used == 0.0
    assert tracker.poll(force=True).used == 0.5
    clock.now += 30
    tracker.poll()
    assert len(usage.asked) == 3


def test_a_failed_question_counts_as_a_try_and_keeps_the_last_figure(usage: Usage) -> None:
    clock = Clock()
    tracker = BudgetTracker("k", 1.0, 30.0, clock=clock)
    polled(tracker, usage, 0.3)
    assert polled(tracker, usage, None).used == 0.3
    asked = len(usage.asked)
    tracker.poll()
    assert len(usage.asked) == asked


@pytest.mark.parametrize("answer", [0.1, -5.0, float("nan"), float("inf")])
def test_usage_that_goes_backwards_or_is_no_sum_is_not_believed(usage: Usage, answer: float) -> None:
    tracker = BudgetTracker("k", 1.0)
    polled(tracker, usage, 0.3)
    assert polled(tracker, usage, answer).used == 0.3


def test_reaching_the_limit_is_reported_once(usage: Usage) -> None:
    fired: list[bool] = []
    tracker = BudgetTracker("k", 0.5, on_exceeded=lambda: fired.append(True))
    polled(tracker, usage, 0.4)
    assert not tracker.exceeded
    polled(tracker, usage, 0.5)
    polled(tracker, usage, 0.6)
    assert tracker.exceeded
    assert fired == [True]


def test_the_simple_message(usage: Usage) -> None:
    usage.used = 0.088
    assert BudgetTracker("k", 0.5).status_message() == "Budget: $0.412 remaining of $0.50 (82% left)"


def test_any_other_mode_is_simple(usage: Usage) -> None:
    assert BudgetTracker("k", 0.5, mode="loud").status_message().startswith("Budget: $0.500")


def test_an_overspent_message_has_no_negative_percentage(usage: Usage) -> None:
    usage.used = 1.19
    assert BudgetTracker("k", 1.0).status_message() == "Budget: $0.000 remaining of $1.00 (0% left)"


def test_the_detailed_message_names_the_tool_that_ran(usage: Usage) -> None:
    tracker = BudgetTracker("k", 0.5, mode="detailed")
    tracker.on_tool_start("grep")
    polled(tracker, usage, 0.031)
    tracker.on_tool_end("grep")
    polled(tracker, usage, 0.088)
    assert tracker.status_message(force_poll=True) == (
        "Budget: $0.412 remaining of $0.50 (82% left)\n\n"
        "Recent costs:\n  - $0.0310  (grep)\n  - $0.0570  (thinking)\n\n"
        "Total actions: 2  |  Avg cost/action: $0.0440\nEstimated actions remaining: ~9"
    )


def test_before_any_spend_the_detailed_message_says_so(usage: Usage) -> None:
    assert BudgetTracker("k", 0.5, mode="detailed").status_message().endswith("\n\n(No cost data yet)")


def test_small_spends_add_up_to_an_action(usage: Usage) -> None:
    tracker = BudgetTracker("k", 0.5, mode="detailed")
    for step in range(1, 4):
        polled(tracker, usage, step * 0.00005)
    assert "  - $0.0002  (thinking)" in tracker.status_message()
    assert "Total actions: 1" in tracker.status_message()


def test_the_attributes_that_callers_read() -> None:
    def fire() -> None: ...

    tracker = BudgetTracker("k", 0.5, 7.0, "detailed", fire)
    assert (tracker.api_key, tracker.limit_usd, tracker.poll_interval_s, tracker.mode) == ("k", 0.5, 7.0, "detailed")
    assert tracker.on_exceeded is fire


FakeDocker = Callable[[str], Path]


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """A `docker` of a few lines of shell, first on PATH; its log holds what it was called with."""

    def install(script: str) -> Path:
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        return tmp_path

    return install


RUN_INNER_COMMAND = 'shift 3; exec "$@"'
"""Does what `docker exec -i NAME` does, without a container."""


@pytest.mark.wire
def test_the_budget_file_is_written_into_the_container(usage: Usage, fake_docker: FakeDocker) -> None:
    folder = fake_docker(RUN_INNER_COMMAND)
    usage.used = 0.1
    assert BudgetTracker("k", 0.5).inject_to_docker("c", str(folder)) == BudgetStatus(0.1, 0.5)
    assert (folder / "budget.txt").read_text() == "Budget: $0.400 remaining of $0.50 (80% left)\n"


@pytest.mark.wire
def test_a_hostile_tool_name_and_path_run_nothing(usage: Usage, fake_docker: FakeDocker) -> None:
    folder = fake_docker(RUN_INNER_COMMAND)
    workspace = folder / "a b;touch hacked'$(touch hacked)"
    workspace.mkdir()
    tracker = BudgetTracker("k", 0.5, mode="detailed")
    tracker.on_tool_start(f"x\nBUDGET_EOF\ntouch {folder}/hacked\n")
    usage.used = 0.1
    tracker.inject_to_docker("c", str(workspace))
    assert [p.name for p in folder.rglob("*hacked*") if p != workspace] == []
    assert "(x BUDGET_EOF touch" in (workspace / "budget.txt").read_text()


@pytest.mark.wire
def test_a_failed_write_is_logged_not_raised(
    usage: Usage, fake_docker: FakeDocker, caplog: pytest.LogCaptureFixture
) -> None:
    fake_docker("exit 7")
    with caplog.at_level(logging.WARNING):
        assert BudgetTracker("k", 0.5).inject_to_docker("c") == BudgetStatus(0.0, 0.5)
    assert "ended with 7" in caplog.text


def test_without_docker_the_failure_is_logged_too(
    usage: Usage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        BudgetTracker("k", 0.5).inject_to_docker("c")
    assert "NotInstalled" in caplog.text
