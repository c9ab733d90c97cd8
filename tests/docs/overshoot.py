"""How far a budget is passed by calls at the same moment: 32 of them against any proxy, and what the simulator then bills.

python -m tests.docs.overshoot BASE_URL KEY MODEL --bill http://127.0.0.1:8799/sim/bill
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

CALL_S_MAX = 120
OUTPUT_TOKENS_MAX = 8000
"""More than the simulator's scenario says in an answer, so that the bound cuts none."""


def ask(base_url: str, key: str, model: str, number: int) -> int:
    """Make one call and return the status of its answer."""
    message = {"role": "user", "content": f"Question {number}"}
    body = {"model": model, "max_tokens": OUTPUT_TOKENS_MAX, "messages": [message]}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base_url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=CALL_S_MAX) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def billed_usd(bill_url: str) -> Decimal:
    """Return what the simulator has billed in all."""
    with urllib.request.urlopen(bill_url) as answer:
        bill = json.load(answer)
    return sum((Decimal(row["cost_usd"]) for key in bill["keys"].values() for row in key["generations"]), Decimal(0))


def main(arguments: Sequence[str]) -> int:
    """Make the calls and say what became of them."""
    parser = argparse.ArgumentParser(description="Make calls at the same moment, and say what they cost together.")
    for name in ("base_url", "key", "model"):
        parser.add_argument(name)
    parser.add_argument("--bill", required=True)
    parser.add_argument("--calls", type=int, default=32)
    options = parser.parse_args(arguments)
    with ThreadPoolExecutor(options.calls) as pool:
        numbers = range(options.calls)
        statuses = Counter(pool.map(lambda number: ask(options.base_url, options.key, options.model, number), numbers))
    told = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    print(f"{options.calls} calls: {told}; billed ${billed_usd(options.bill):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
