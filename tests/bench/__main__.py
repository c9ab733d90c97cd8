"""`python -m tests.bench [--quick] [--rows cpu,p50] [--json FILE]`: what a call costs, ours against a naive pass-through.

Exit code 0: measured, whether or not the bounds hold. 1: the run is void, or a call failed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from tests.bench import machine, report
from tests.bench.measures import Bench, Row, chosen_rows, measure, why_void
from tests.bench.subjects import NAIVE, NO_PROXY, OURS, constant_upstream, installed_kinds

ROUNDS, QUICK_ROUNDS = 7, 3
SECONDS, QUICK_SECONDS = 2.0, 1.0


def run(rows: list[Row], *, rounds: int, seconds: float, all_subjects: bool = True) -> report.Result:
    """Measure rows.

    Args:
        rows: What to measure.
        rounds: How often; the first, thrown away, is not counted.
        seconds: How long one load on one subject runs.
        all_subjects: nginx and LiteLLM take part where installed.
    """
    facts = machine.describe()
    kinds = installed_kinds() if all_subjects else [NO_PROXY, NAIVE, OURS]
    before = os.sched_getaffinity(0) if machine.cores() else None
    machine.pin_load()
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-bench-")))
            upstream = stack.enter_context(constant_upstream())
            subjects = [
                stack.enter_context(kind.serving(folder / kind.name.replace(" ", "-"), upstream)) for kind in kinds
            ]
            gc.freeze()
            samples = uvloop.run(measure(Bench(upstream, seconds), subjects, rows, rounds))
    finally:
        if before:
            os.sched_setaffinity(0, before)
    return report.Result(facts, datetime.now(UTC).date().isoformat(), rows, samples, why_void(samples))


def main() -> int:
    """Measure as asked and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds: within 3 minutes")
    parser.add_argument("--rows", default="", help="beginnings of the rows to measure, separated by commas")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="how long one load on one subject runs")
    parser.add_argument("--image", help="an image with python3 for the rows of trials")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    given = parser.parse_args()
    try:
        rows = chosen_rows([name for name in given.rows.split(",") if name], quick=given.quick)
    except ValueError as exc:
        parser.error(str(exc))
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    result = run(rows, rounds=rounds, seconds=seconds)
    print(report.table(result))
    if given.json:
        given.json.write_text(report.as_json(result), "utf-8")
    return 1 if result.void else 0


if __name__ == "__main__":
    sys.exit(main())
