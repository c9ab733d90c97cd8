"""A page is rendered once for all who look at it, and only what changed is sent."""

import asyncio
import threading
from collections.abc import Callable, Mapping

from agent_preflight.views.feed import Feed


class Counted:
    """Renders by a function of how often it has rendered."""

    def __init__(self, page: Callable[[int], Mapping[str, str]]) -> None:
        self.page, self.count = page, 0

    def __call__(self) -> Mapping[str, str]:
        self.count += 1
        return self.page(self.count)


async def renew(feed: Feed, render: Counted) -> None:
    """Look until the page has been rendered again."""
    before = render.count
    while render.count == before:
        await feed.refresh()
        await asyncio.sleep(0)


async def test_many_viewers_cost_one_rendering() -> None:
    render = Counted(lambda count: {"a": str(count)})
    feed = Feed(render, every_s=3600)
    await asyncio.gather(*(feed.refresh() for _ in range(10)))
    assert render.count == 1


async def test_only_what_changed_since_a_version_is_sent() -> None:
    render = Counted(lambda count: {"a": "1", "b": str(min(count, 2))})
    feed = Feed(render, every_s=0)
    await feed.refresh()
    first = feed.version
    assert feed.since(0) == {"a": "1", "b": "1"}
    assert feed.since(first) == {}
    await renew(feed, render)
    second = feed.version
    assert second > first
    assert feed.since(first) == {"b": "2"}
    await renew(feed, render)
    assert feed.version == second, "nothing changed"
    assert list(feed.fragments) == ["a", "b"]


async def test_a_feed_that_is_made_anew_sends_all_to_those_who_saw_an_earlier_one() -> None:
    earlier, later = Feed(lambda: {"a": "1"}), Feed(lambda: {"a": "1"})
    await earlier.refresh()
    await later.refresh()
    assert later.since(earlier.version) == {"a": "1"}


async def test_a_page_that_takes_long_rests_for_longer() -> None:
    pause = threading.Event()

    def page(_count: int) -> Mapping[str, str]:
        pause.wait(0.2)
        return {}

    render = Counted(page)
    feed = Feed(render, every_s=0)
    await feed.refresh()
    await feed.refresh()
    assert render.count == 1


async def test_after_a_failure_the_next_viewer_tries_again() -> None:
    def page(count: int) -> Mapping[str, str]:
        if count == 1:
            raise OSError("gone")
        return {"a": "1"}

    feed = Feed(Counted(page), every_s=3600)
    results = await asyncio.gather(feed.refresh(), feed.refresh(), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, type(None)]
    assert feed.since(0) == {"a": "1"}
