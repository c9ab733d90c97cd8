"""Whether the ledger is still where a restart would look for it (M21)."""

from __future__ import annotations

import asyncio

from preflight_proxy.ledger.store import GONE, Store

LOOK_S = 1.0


async def watch_place(store: Store, every_s: float = LOOK_S) -> None:
    """Close the store once its file is gone from its place; returns then, or when it is closed for another reason.

    What is committed to a file without a name is lost at the end of the process, and the next one would begin whole budgets.
    """
    while not store.poisoned:
        await asyncio.sleep(every_s)
        if not await asyncio.to_thread(store.is_in_place):
            store.poison(GONE)
