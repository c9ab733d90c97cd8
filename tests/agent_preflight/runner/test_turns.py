"""Whose turn it is."""

import asyncio

from agent_preflight.runner.turns import Turns


class Trial:
    """One that holds its place until it is let go."""

    def __init__(self, turns: Turns, alias: str) -> None:
        self.has_begun = asyncio.Event()
        self.goes = asyncio.Event()
        self._turns, self._alias = turns, alias
        self.task = asyncio.ensure_future(self._live())

    async def _live(self) -> None:
        async with self._turns.turn(self._alias):
            self.has_begun.set()
            await self.goes.wait()


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_so_many_at_once_and_the_next_when_one_is_over() -> None:
    turns = Turns(2)
    trials = [Trial(turns, alias) for alias in "abc"]
    await settle()
    assert [trial.has_begun.is_set() for trial in trials] == [True, True, False]
    trials[1].goes.set()
    await settle()
    assert trials[2].has_begun.is_set()
    assert turns.stopped("c") is None


async def test_one_that_is_stopped_does_not_wait_and_takes_nobodys_place() -> None:
    turns = Turns(0)
    first, second, third, fourth = (Trial(turns, alias) for alias in "abcd")
    await settle()
    turns.stop("b", "why")
    turns.stop("b", "again")
    await settle()
    assert (second.has_begun.is_set(), turns.stopped("b")) == (True, "why")
    second.goes.set()
    await settle()
    assert second.task.done()
    assert not third.has_begun.is_set()
    first.goes.set()
    await settle()
    assert (third.has_begun.is_set(), fourth.has_begun.is_set()) == (True, False)


async def test_a_stop_before_the_wait_counts_and_a_cancelled_wait_keeps_no_place() -> None:
    turns = Turns(1)
    turns.stop("b", "why")
    first, second, third, fourth = (Trial(turns, alias) for alias in "abcd")
    await settle()
    assert second.has_begun.is_set()
    third.task.cancel()
    first.goes.set()
    await settle()
    assert fourth.has_begun.is_set()
    assert not second.task.done()
