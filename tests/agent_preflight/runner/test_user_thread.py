"""A thread for one trial's user code."""

import asyncio
import threading

import pytest

from agent_preflight.runner.user_thread import UserThread


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
