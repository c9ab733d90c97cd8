"""A thread for one trial's user code."""

import asyncio
import threading

import pytest

from agent_preflight.runner.user_thread import Lane


async def test_functions_run_in_order_in_one_thread_that_is_not_the_loops() -> None:
    lane, seen = Lane("t"), []
    for number in range(3):
        await lane.call(lambda number=number: seen.append((number, threading.current_thread().name)))  # type: ignore[misc]
    lane.close()
    assert seen == [(0, "t"), (1, "t"), (2, "t")]


async def test_results_and_exceptions_come_back() -> None:
    lane = Lane("t")
    assert await lane.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await lane.call(lambda: 1 // 0)
    lane.close()


async def test_a_function_that_exits_the_thread_is_an_error_and_no_end() -> None:
    lane = Lane("t")

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await lane.call(leave)
    assert await lane.call(lambda: 1) == 1
    lane.close()


async def test_the_loop_goes_on_while_user_code_is_slow() -> None:
    lane, release = Lane("t"), threading.Event()
    slow = asyncio.ensure_future(lane.call(release.wait))
    await asyncio.sleep(0)
    release.set()  # only a free loop comes to this line
    assert await slow
    lane.close()


async def test_a_wait_that_was_given_up_leaves_the_lane_usable() -> None:
    lane, release = Lane("t"), threading.Event()
    slow = asyncio.ensure_future(lane.call(release.wait))
    await asyncio.sleep(0)
    slow.cancel()
    release.set()
    assert await lane.call(lambda: 1) == 1
    lane.close()
