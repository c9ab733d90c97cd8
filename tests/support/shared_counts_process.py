"""A run that notes counts until it is killed; run by the crash tests.

Usage: shared_counts_process.py PATH RUN. One line on stdout once something is written, then it notes on.
"""

import sys
import time
from itertools import count
from pathlib import Path

from preflight_proxy.base.clock import SystemClock
from preflight_proxy.ledger import shared_counts
from preflight_proxy.ledger.shared_counts import SharedCounts


def main(path: Path, run: str) -> None:
    """Note the same preamble first, then another one each time."""
    shared_counts.GATHER_S = 0.0
    counts = SharedCounts(path, run=run, upstream="https://openrouter.ai", clock=SystemClock())
    counts.note_preamble(b"first", 1000, 1)
    counts.begin()
    for number in count():
        counts.note_preamble(b"%d" % number, 1000, 1)
        time.sleep(0.0005)
        if number == 20:
            print("noted", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
