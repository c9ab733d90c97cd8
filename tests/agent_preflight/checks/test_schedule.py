"""Checks run side by side, are reported in order, and have a time limit."""

import threading

from agent_preflight.checks.report import CheckLine, failed, passed
from agent_preflight.checks.schedule import Job, run_in_order
from tests.support.cases import each


def crashed(reason: str) -> CheckLine:
    return failed("job", reason, reason)


def flat(jobs: list[Job]) -> list[CheckLine]:
    return [line for lines in run_in_order(jobs) for line in lines]


def test_results_come_in_the_order_of_the_jobs() -> None:
    second_done = threading.Event()

    def first() -> list[CheckLine]:
        second_done.wait(60)
        return [passed("first")]

    def second() -> list[CheckLine]:
        second_done.set()
        return [passed("second")]

    jobs = [Job(first, crashed, 10, "a"), Job(second, crashed, 10, "b")]
    assert [line.name for line in flat(jobs)] == ["first", "second"]


def test_jobs_of_one_lane_run_one_after_another() -> None:
    ran: list[int] = []

    def job(number: int) -> Job:
        def run() -> list[CheckLine]:
            ran.append(number)
            return []

        return Job(run, crashed, 10, "own")

    assert flat([job(n) for n in range(5)]) == []
    assert ran == list(range(5))


@each("error", [ValueError("boom"), SystemExit("boom"), KeyboardInterrupt("boom")])
def test_a_job_that_raises_is_a_failed_check_with_its_reason(error: BaseException) -> None:
    def run() -> list[CheckLine]:
        raise error

    assert flat([Job(run, crashed, 10, "a")]) == [failed("job", "boom", "boom")]


def test_an_exception_without_text_is_named_by_its_kind() -> None:
    def run() -> list[CheckLine]:
        raise ValueError

    assert flat([Job(run, crashed, 10, "a")])[0].detail == "ValueError"


def test_a_job_that_does_not_end_fails_and_so_do_the_jobs_behind_it() -> None:
    release = threading.Event()

    def hang() -> list[CheckLine]:
        release.wait(60)
        return []

    def good() -> list[CheckLine]:
        return [passed("good")]

    jobs = [Job(hang, crashed, 0.02, "a"), Job(good, crashed, 10, "a"), Job(good, crashed, 10, "b")]
    lines = flat(jobs)
    release.set()
    assert [line.detail for line in lines] == ["no result within 0s", "not run: the check before it did not end", ""]
    assert lines[2] == passed("good")


def test_without_jobs_there_are_no_lines() -> None:
    assert flat([]) == []
