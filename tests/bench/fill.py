"""Fills the ledger of a stand-alone proxy that does not run: `python -m tests.bench.fill DATA CALLS`."""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import uuid4

from preflight_proxy.base.clock import SystemClock
from preflight_proxy.core.ledger.commands import Post, Reserve
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.ledger.store import Store
from tests.bench.subjects import ACCOUNT
from tests.bench.upstream import MODEL, PROVIDER

RESERVED_PUSD, COST_PUSD = 5 * 10**9, 10**9
BOUND = 200


def fill(data: Path, calls: int) -> None:
    """Commit so many reserved and posted calls as the proxy does, without its files for people.

    Raises:
        LedgerError: The ledger cannot be used.
    """
    store = Store(data / "ledger.sqlite3", clock=SystemClock())
    try:
        for number in range(calls):
            reservation = uuid4().hex
            store.commit(Reserve(reservation, ACCOUNT, RESERVED_PUSD, "chat", MODEL, ("bench",), BOUND))
            facts = CallFacts(
                provider=PROVIDER,
                generation_id=f"gen-1764400000-{number:020d}",
                tag="bench",
                prompt_tokens=950,
                completion_tokens=50,
                status=200,
                ttft_ms=400,
                duration_ms=900,
            )
            store.commit(Post(reservation, COST_PUSD, facts))
    finally:
        store.close()


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
