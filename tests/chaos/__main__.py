"""`python -m tests.chaos --rounds N --seed S`: run rounds of chaos, print each, and exit with 1 if anything is left."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import get_args

from agent_preflight.options.settings import GateChoice
from tests.chaos.rounds import Outcome, play


def main() -> int:
    """Run the rounds; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the first round; the others count on")
    parser.add_argument("--image", default="local/python:base", help="an image with python3 as `python3`")
    gates = get_args(GateChoice)
    parser.add_argument("--gate", default="auto", choices=gates, help="the kind of gates")
    given = parser.parse_args()
    outcomes = []
    for seed in range(given.seed, given.seed + given.rounds):
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
            outcomes.append(asyncio.run(play(seed, Path(folder), given.image, given.gate)))
        show(seed, outcomes[-1])
    return conclude(outcomes)


def show(seed: int, outcome: Outcome) -> None:
    """Print a round."""
    hits = ", ".join(f"{strike.target.value} at {strike.at_s:.1f} s" for strike in outcome.hit) or "nothing"
    print(
        f"{seed}: hit {hits}; {outcome.calls} calls, {outcome.doubts} accounts assumed above the bill, {outcome.took_s:.0f} s",
        flush=True,
    )
    for problem in outcome.problems:
        print(f"  ! {problem}", flush=True)


def conclude(outcomes: list[Outcome]) -> int:
    """Print the sum of all rounds; return the exit code."""
    bad = sum(bool(outcome.problems) for outcome in outcomes)
    gone_s = sorted(gone_s for outcome in outcomes for gone_s in outcome.gone_s)
    print(f"{len(outcomes)} rounds, {bad} of them left something or disagree; {sum(o.calls for o in outcomes)} calls")
    if gone_s:
        print(
            f"decision to gone: median {statistics.median(gone_s):.2f} s, longest {gone_s[-1]:.2f} s of {len(gone_s)}"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
