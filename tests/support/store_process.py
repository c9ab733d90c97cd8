"""A process that commits to a ledger until it is killed or its disk is full; run by the crash tests.

Usage: store_child.py PATH FIRST_NUMBER [FILE_BYTES_MAX]. Each acknowledged step is one line on stdout.
"""

import resource
import sys
from itertools import count
from pathlib import Path

from preflight_proxy.base.clock import SystemClock
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import OpenAccount, Post, Reserve
from preflight_proxy.ledger import file
from preflight_proxy.ledger.store import Store

COST_PUSD = 7


def main(path: Path, first: int, file_bytes_max: int | None) -> None:
    """Reserve and post one call after the other. Print `reserved N`, `posted N`, and `failed N` at the first failure."""
    file.CHECKPOINT_S = 0.0005  # so that kills fall into projections and checkpoints
    store = Store(path, clock=SystemClock())
    store.commit(OpenAccount("a", "run", 10**18, "token of a"))
    if file_bytes_max is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
    for number in count(first):
        name = f"r{number}"
        try:
            store.commit(Reserve(name, "a", 10, "chat", "m/x", ("t",), 16))
            say(f"reserved {number}")
            store.commit(Post(name, COST_PUSD))
            say(f"posted {number}")
            store.project()
        except LedgerError as exc:
            say(f"failed {number}")
            say(f"poisoned {store.poisoned}")
            before = store.state.accounts["a"]
            try:
                store.commit(Reserve("later", "a", 10, "chat", "m/x", ("t",), 16))
            except LedgerError:
                say("closed")
            say(f"unchanged {store.state.accounts['a'] == before}")
            store.close()
            sys.stderr.write(str(exc))
            return


def say(line: str) -> None:
    """Print a line to the parent at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
