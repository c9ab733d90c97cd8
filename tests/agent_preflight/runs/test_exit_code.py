"""What a command that ran trials exits with."""

from typing import Any

from agent_preflight.models import RunResult
from agent_preflight.runs.exit_code import exit_code
from tests.support.cases import each


def result(error: str | None = None, **extra: Any) -> RunResult:
    return RunResult("a", "m", 1.0, error=error, preflight=extra)


@each(
    "results, code",
    [
        ([], 0),
        ([result()], 0),
        ([result("ejected: idle")], 0),
        ([result("stopped by a person", status="stopped")], 0),
        ([result("stopped by a person", status="stopped"), result("x", status="failed")], 1),
        ([result("stopped by a person", status="stopped", cleanup={"kill": "unverified"})], 5),
        ([result("interrupted", status="interrupted")], 1),
        ([result("the agent ended with exit code 3")], 1),
        ([result(warnings=["drift: OpenRouter counts $1"])], 3),
        ([result(overrun_usd="0.1"), result("failed")], 4),
        ([result(overrun_usd="0.1"), result(cleanup={"kill": "unverified"})], 5),
        ([result(overrun_usd="0", cleanup={"kill": "ok"})], 0),
    ],
)
def test_the_gravest_result_decides(results: list[RunResult], code: int) -> None:
    assert exit_code(results) == code


def test_trials_that_were_held_back_are_a_failure_of_the_run() -> None:
    assert exit_code([result()], ["b"]) == 1
    assert exit_code([result(overrun_usd="0.1")], ["b"]) == 4
