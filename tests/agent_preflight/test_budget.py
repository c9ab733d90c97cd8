"""A tracker follows usage, believes no refund, and writes no shell."""

import io
import logging
import tarfile

import pytest

import agent_preflight
from agent_preflight.budget import BudgetTracker
from agent_preflight.models import BudgetStatus
from tests.support.engine_container import Container
from tests.support.fake_clock import FakeClock
from tests.support.scripted_engine import ScriptedEngine


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


def polled(tracker: BudgetTracker, usage: Usage, used: float | None) -> BudgetStatus:
    usage.used = used
    return tracker.poll(force=True)


def test_the_package_s_get_usage_is_asked(usage: Usage) -> None:
    usage.used = 0.2
    assert BudgetTracker("key-1", 0.5).poll() == BudgetStatus(0.2, 0.5)
    assert usage.asked == ["key-1"]


def test_within_the_interval_the_last_figure_is_returned(usage: Usage) -> None:
    clock = FakeClock()
    tracker = BudgetTracker("k", 1.0, 30.0, clock=clock.monotonic_s)
    tracker.poll()
    clock.advance(29.9)
    usage.used = 0.5
    assert tracker.poll().used == 0.0
    assert tracker.poll(force=True).used == 0.5
    clock.advance(30)
    tracker.poll()
    assert len(usage.asked) == 3


def test_a_failed_question_counts_as_a_try_and_keeps_the_last_figure(usage: Usage) -> None:
    clock = FakeClock()
    tracker = BudgetTracker("k", 1.0, 30.0, clock=clock.monotonic_s)
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


def running_container(engine: ScriptedEngine, name: str, *directories: str) -> Container:
    container = engine.state.create(name, {"Image": "me/agent"})
    container.directories |= set(directories)
    engine.state.launch(name)
    return container


def written(container: Container) -> tuple[str, tarfile.TarInfo, str]:
    """The directory that something was put into, and the one file that it was."""
    ((directory, archive),) = container.archives
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        (member,) = opened.getmembers()
        file = opened.extractfile(member)
        assert file is not None
        return directory, member, file.read().decode()


@pytest.mark.wire
def test_the_budget_file_is_written_into_the_container(usage: Usage, docker_host: ScriptedEngine) -> None:
    container = running_container(docker_host, "c1", "/workspace/output")
    usage.used = 0.1
    assert BudgetTracker("k", 0.5).inject_to_docker("c1") == BudgetStatus(0.1, 0.5)
    directory, member, text = written(container)
    assert (directory, member.name, member.isreg()) == ("/workspace/output", "budget.txt", True)
    assert member.mode & 0o444 == 0o444, "an agent that is not root reads it too"
    assert text == "Budget: $0.400 remaining of $0.50 (80% left)\n"


@pytest.mark.wire
def test_a_hostile_tool_name_and_path_run_nothing(usage: Usage, docker_host: ScriptedEngine) -> None:
    hostile = "/a b;touch hacked'$(touch hacked)"
    container = running_container(docker_host, "c1", hostile)
    tracker = BudgetTracker("k", 0.5, mode="detailed")
    tracker.on_tool_start("x\nBUDGET_EOF\ntouch /hacked\n")
    usage.used = 0.1
    tracker.inject_to_docker("c1", hostile)
    directory, member, text = written(container)
    assert (directory, member.name) == (hostile, "budget.txt")
    assert "(x BUDGET_EOF touch" in text
    assert [call.partition("?")[0] for call in docker_host.calls if "PUT" in call] == ["PUT /containers/c1/archive"]


@pytest.mark.wire
def test_a_failed_write_is_logged_not_raised(
    usage: Usage, docker_host: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert BudgetTracker("k", 0.5).inject_to_docker("nobody") == BudgetStatus(0.0, 0.5)
    assert "No such container: nobody" in caplog.text


@pytest.mark.wire
def test_without_docker_the_failure_is_logged_too(
    usage: Usage, no_engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        BudgetTracker("k", 0.5).inject_to_docker("c1")
    assert f"no Docker engine answers at {no_engine}" in caplog.text
