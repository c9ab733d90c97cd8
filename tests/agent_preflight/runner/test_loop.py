"""A run from a plain call, Ctrl-C, and user code in a thread."""

import asyncio
import os
import signal
import threading

import pytest

from agent_preflight.runner.loop import StopSignal, UserThread, done_before, run_blocking, run_cancellable


def test_it_works_where_a_loop_runs_already() -> None:
    async def work(_stop: StopSignal) -> int:
        return 7

    async def notebook() -> int:
        return run_blocking(work)

    assert asyncio.run(notebook()) == 7


def test_an_exception_comes_out_as_it_is() -> None:
    async def work(_stop: StopSignal) -> int:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        run_blocking(work)


@pytest.mark.usefixtures("usual_signals")
def test_the_first_interrupt_ends_the_second_hurries_and_it_is_raised_when_all_is_over() -> None:
    seen: list[str] = []

    async def work(stop: StopSignal) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await stop.ending.wait()
        seen.append(f"ending, hurry {stop.hurry.is_set()}")
        os.kill(os.getpid(), signal.SIGINT)
        await stop.hurry.wait()
        seen.append("hurry")

    with pytest.raises(KeyboardInterrupt):
        run_blocking(work)
    assert seen == ["ending, hurry False", "hurry"]


def test_the_first_press_is_reported_once_even_to_a_late_listener() -> None:
    told: list[str] = []

    async def work(stop: StopSignal) -> None:
        stop.on_first(lambda: told.append("listened before"))
        stop.press_here()
        stop.press_here()
        stop.on_first(lambda: told.append("listened after"))

    run_blocking(work)
    assert told == ["listened before", "listened after"]


def test_what_the_listener_raises_hinders_no_end() -> None:
    async def work(stop: StopSignal) -> bool:
        stop.on_first(lambda: 1 // 0)
        stop.press_here()
        stop.press_here()
        return stop.hurry.is_set()

    assert run_blocking(work)


def test_a_stop_can_be_pressed_from_any_thread() -> None:
    stop = StopSignal()

    async def work(bound: StopSignal) -> bool:
        threading.Thread(target=stop.press).start()
        await bound.ending.wait()
        return bound is stop

    assert run_blocking(work, stop)


async def test_cancelling_the_caller_ends_the_run_in_order_first() -> None:
    seen: list[str] = []

    async def work(stop: StopSignal) -> None:
        seen.append("began")
        await stop.ending.wait()
        await asyncio.sleep(0)
        seen.append("ended in order")

    caller = asyncio.ensure_future(run_cancellable(work))
    while not seen:
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert seen == ["began", "ended in order"]


async def test_the_wait_for_a_task_ends_when_the_event_comes_first() -> None:
    event, task = asyncio.Event(), asyncio.ensure_future(asyncio.sleep(60))
    event.set()
    assert not await done_before(task, event)
    task.cancel()
    assert await done_before(asyncio.ensure_future(asyncio.sleep(0)), asyncio.Event())


async def test_functions_run_in_order_in_one_thread_that_is_not_the_loops() -> None:
    user_thread, seen = UserThread("t"), []
    for number in range(3):
        await user_thread.call(lambda number=number: seen.append((number, threading.current_thread().name)))  # type: ignore[misc]
    user_thread.close()
    assert seen == [(0, "t"), (1, "t"), (2, "t")]


async def test_results_and_exceptions_come_back() -> None:
    user_thread = UserThread("t")
    assert await user_thread.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await user_thread.call(lambda: 1 // 0)
    user_thread.close()


async def test_a_function_that_exits_the_thread_is_an_error_and_no_end() -> None:
    user_thread = UserThread("t")

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await user_thread.call(leave)
    assert await user_thread.call(lambda: 1) == 1
    user_thread.close()


async def test_the_loop_goes_on_while_user_code_is_slow() -> None:
    user_thread, release = UserThread("t"), threading.Event()
    slow = asyncio.ensure_future(user_thread.call(release.wait))
    await asyncio.sleep(0)
    release.set()  # only a free loop comes to this line
    assert await slow
    user_thread.close()


async def test_a_wait_that_was_given_up_leaves_the_thread_usable() -> None:
    user_thread, release = UserThread("t"), threading.Event()
    slow = asyncio.ensure_future(user_thread.call(release.wait))
    await asyncio.sleep(0)
    slow.cancel()
    release.set()
    assert await user_thread.call(lambda: 1) == 1
    user_thread.close()
