"""What the viewers of one page share: it is rendered about once a second, and only while somebody looks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping

from preflight_proxy.base.clock import SystemClock

EVERY_S = 1.0
"""A page is rendered at most this often, however many look at it."""
IDLE_SHARE = 4
"""A page that takes long to render is rendered less often: it rests this many times as long as it took."""

_versions = itertools.count(1)  # of the whole process: a feed that is made anew goes on above what its viewers have


class Feed:
    """One page and its newest fragments.

    Args:
        render: Returns the HTML of each fragment by its name. It is called in a thread, never twice at a time.
        every_s: How often at most.

    Attributes:
        fragments: The newest, in the order of the page: each with the version in which it last changed.
        version: Grows with each change.
    """

    def __init__(self, render: Callable[[], Mapping[str, str]], every_s: float = EVERY_S) -> None:
        self.fragments: dict[str, tuple[str, int]] = {}
        self.version = 0
        self._render, self._every_s, self._due_s = render, every_s, 0.0
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Render the page, unless that was done less than a second ago; any number of viewers may ask.

        Raises:
            ConfigError: The run is not there any more.
        """
        async with self._lock:
            begun_s = SystemClock.monotonic_s()
            if begun_s < self._due_s:
                return
            rendered, version = await asyncio.to_thread(self._render), next(_versions)
            before, self.fragments = self.fragments, {}
            for name, html in rendered.items():
                is_same = name in before and before[name][0] == html
                self.fragments[name] = before[name] if is_same else (html, version)
            self.version = max((changed for _, changed in self.fragments.values()), default=version)
            now_s = SystemClock.monotonic_s()
            self._due_s = now_s + max(self._every_s, IDLE_SHARE * (now_s - begun_s))

    def since(self, version: int) -> dict[str, str]:
        """Return the HTML of the fragments that changed after that version; of all after 0."""
        return {name: html for name, (html, changed) in self.fragments.items() if changed > version}
