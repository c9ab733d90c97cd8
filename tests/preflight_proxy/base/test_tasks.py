"""A task is kept until it ends, and what it raises is heard of."""

import asyncio
import contextlib
import gc

import structlog

from preflight_proxy.base.tasks import Tasks


async def test_a_task_that_nobody_holds_runs_to_its_end() -> None:
    tasks, done = Tasks(), asyncio.Event()

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        done.set()

    tasks.spawn(work(), "work")
    gc.collect(0)  # the youngest: all that this test has made
    await done.wait()
    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_what_a_task_raises_is_logged_by_name() -> None:
    tasks = Tasks()

    async def work() -> None:
        raise ValueError("broken")

    with structlog.testing.capture_logs() as logs:
        tasks.spawn(work(), "fragile")
        assert await tasks.finish(10)
        await asyncio.sleep(0)
    (line,) = logs
    assert (line["event"], line["task"], line["error"]) == ("task.failed", "fragile", "ValueError")


async def test_a_cancelled_task_is_no_failure() -> None:
    tasks = Tasks()
    with structlog.testing.capture_logs() as logs:
        task = tasks.spawn(asyncio.Event().wait(), "waits")
        await tasks.cancel()
    assert task.cancelled()
    assert logs == []


async def test_finish_waits_for_tasks_that_are_started_meanwhile() -> None:
    tasks, inner_done = Tasks(), asyncio.Event()

    async def inner() -> None:
        await asyncio.sleep(0)
        inner_done.set()

    async def outer() -> None:
        await asyncio.sleep(0)
        tasks.spawn(inner(), "inner")

    tasks.spawn(outer(), "outer")
    assert await tasks.finish(10)
    assert inner_done.is_set()


async def test_finish_says_when_something_is_left() -> None:
    tasks = Tasks()
    tasks.spawn(asyncio.Event().wait(), "waits")
    assert not await tasks.finish(0.01)
    assert len(tasks) == 1
    await tasks.cancel()
    assert await tasks.finish(0)


async def test_cancel_returns_when_the_last_words_are_said() -> None:
    tasks, said = Tasks(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("bye")

    tasks.spawn(work(), "polite")
    await asyncio.sleep(0)
    await tasks.cancel()
    assert said == ["bye"]
    assert len(tasks) == 0


async def test_what_the_caller_awaits_is_not_logged_as_well() -> None:
    tasks = Tasks()

    async def work() -> None:
        raise ValueError("broken")

    with structlog.testing.capture_logs() as logs:
        task = tasks.spawn(work(), "awaited", awaited=True)
        with contextlib.suppress(ValueError):
            await task
        await asyncio.sleep(0)
    assert logs == []
    assert len(tasks) == 0


async def test_a_logged_failure_shows_no_variables() -> None:
    tasks = Tasks()

    async def work(password: str) -> None:
        assert password
        raise ValueError("broken")

    with structlog.testing.capture_logs() as logs:
        tasks.spawn(work("swordfish"), "fragile")
        assert await tasks.finish(10)
        await asyncio.sleep(0)
    assert "ValueError: broken" in logs[0]["exception"]
    assert "exc_info" not in logs[0]
    assert "swordfish" not in str(logs)
