"""A run from a plain call, Ctrl-C, and user code in a thread."""

import asyncio
import os
import signal
import threading

import pytest

from agent_preflight.runner.loop import StopSignal, in_thread, run_blocking, run_cancellable, run_until


def test_a_blocking_run_works_inside_a_running_loop() -> None:
    async def work(_stop: StopSignal) -> int:
        return 7

    async def notebook() -> int:
        return run_blocking(work)

    assert asyncio.run(notebook()) == 7


def test_an_exception_of_the_coroutine_is_raised() -> None:
    async def work(_stop: StopSignal) -> int:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        run_blocking(work)


@pytest.mark.usefixtures("usual_signals")
def test_the_first_ctrl_c_ends_the_run_and_the_second_hurries() -> None:
    steps: list[str] = []

    async def work(stop: StopSignal) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await stop.ending.wait()
        steps.append(f"ending, hurry {stop.hurry.is_set()}")
        os.kill(os.getpid(), signal.SIGINT)
        await stop.hurry.wait()
        steps.append("hurry")

    with pytest.raises(KeyboardInterrupt):
        run_blocking(work)
    assert steps == ["ending, hurry False", "hurry"]


def test_the_first_request_is_reported_once_also_to_a_late_listener() -> None:
    calls: list[str] = []

    async def work(stop: StopSignal) -> None:
        stop.on_first(lambda: calls.append("listened before"))
        stop.press_here()
        stop.press_here()
        stop.on_first(lambda: calls.append("listened after"))

    run_blocking(work)
    assert calls == ["listened before", "listened after"]


def test_an_exception_of_the_listener_does_not_prevent_the_end() -> None:
    async def work(stop: StopSignal) -> bool:
        stop.on_first(lambda: 1 // 0)
        stop.press_here()
        stop.press_here()
        return stop.hurry.is_set()

    assert run_blocking(work)


def test_a_stop_can_be_requested_from_any_thread() -> None:
    stop = StopSignal()

    async def work(bound: StopSignal) -> bool:
        threading.Thread(target=stop.press).start()
        await bound.ending.wait()
        return bound is stop

    assert run_blocking(work, stop)


async def test_cancelling_the_caller_ends_the_run_in_order_first() -> None:
    steps: list[str] = []

    async def work(stop: StopSignal) -> None:
        steps.append("began")
        await stop.ending.wait()
        await asyncio.sleep(0)
        steps.append("ended in order")

    caller = asyncio.ensure_future(run_cancellable(work))
    while not steps:
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert steps == ["began", "ended in order"]


async def test_a_task_runs_to_its_end_or_until_the_event() -> None:
    event, task = asyncio.Event(), asyncio.ensure_future(asyncio.sleep(0))
    await run_until(task, event)
    assert (task.done(), task.cancelled()) == (True, False)
    event.set()
    task = asyncio.ensure_future(asyncio.sleep(60))
    await run_until(task, event)
    assert task.cancelled()


async def test_what_a_task_raises_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await run_until(asyncio.ensure_future(fail()), asyncio.Event())


async def test_results_and_exceptions_of_user_code_come_back() -> None:
    assert await in_thread(lambda: threading.current_thread().name, "t") == "t"
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, "t")


async def test_user_code_that_exits_its_thread_is_an_error_and_no_end() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await in_thread(leave, "t")


async def test_the_loop_goes_on_while_user_code_is_slow() -> None:
    release = threading.Event()
    slow = asyncio.ensure_future(in_thread(release.wait, "t"))
    await asyncio.sleep(0)
    release.set()  # only a free loop comes to this line
    assert await slow


async def test_a_wait_that_was_given_up_leaves_user_code_running() -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait()
        ended.set()

    slow = asyncio.ensure_future(in_thread(work, "t"))
    await asyncio.sleep(0)
    slow.cancel()
    release.set()
    assert await asyncio.to_thread(ended.wait, 60)
