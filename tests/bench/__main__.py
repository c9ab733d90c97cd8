"""`python -m tests.bench [--quick] [--rows cpu,p50] [--json FILE] [--write-docs]`: what a call costs.

Ours with everything on is compared with a naive pass-through, nginx, LiteLLM and no proxy, in the same run.

Exit code 0: measured, whether or not the bounds hold. 1: the run is void, or a call failed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from tests.bench import call_path, lifetime, machine, page, report, trials
from tests.bench.rounds import Bench, measure
from tests.bench.rows import Row, chosen_rows, why_void
from tests.bench.subjects import Kind, constant_upstream, installed_kinds

ROUNDS, QUICK_ROUNDS = 7, 3
SECONDS, QUICK_SECONDS = 2.0, 0.7
EXPERIMENTS = (*call_path.EXPERIMENTS, *lifetime.EXPERIMENTS, *trials.EXPERIMENTS)


def run(
    rows: Sequence[Row],
    *,
    rounds: int,
    seconds: float,
    kinds: Sequence[Kind] | None = None,
    image: str = "",
    say: Callable[[str], None] = lambda _text: None,
) -> report.Result:
    """Measure rows.

    Args:
        rows: What to measure.
        rounds: How often; the first, thrown away, is not counted.
        seconds: How long one load on one subject runs.
        kinds: The subjects; all that are installed unless given.
        image: An image with python3 for the rows of trials; empty: without them.
        say: Called with what is being done.
    """
    facts = machine.describe()
    figures = {figure for row in rows for figure in row.figures()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(machine.load_core())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-bench-")))
        bench = Bench(stack.enter_context(constant_upstream()), seconds, folder, stack, image)
        samples = uvloop.run(measure(bench, kinds or installed_kinds(), EXPERIMENTS, figures, rounds, say))
        void = why_void(samples) or bench.wrong_bill()
    return report.Result(facts, datetime.now(UTC).date().isoformat(), rows, samples, void)


def main() -> int:
    """Measure as asked and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds: within 3 minutes")
    parser.add_argument("--rows", default="", help="beginnings of the rows to measure, separated by commas")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="how long one load on one subject runs")
    parser.add_argument("--image", default="", help="an image with python3 for the rows of trials")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    parser.add_argument(
        "--write-docs",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="write docs/BENCHMARKS.md and its picture: from this run, or, measuring nothing, from FILEs of --json",
    )
    given = parser.parse_args()
    if given.write_docs:
        page.write_docs(report.merged([report.from_json(path.read_text("utf-8")) for path in given.write_docs]))
        return 0
    try:
        rows = chosen_rows([name for name in given.rows.split(",") if name], quick=given.quick)
    except ValueError as exc:
        parser.error(str(exc))
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    result = run(rows, rounds=rounds, seconds=seconds, image=given.image, say=say)
    print(report.table(result))
    if given.json:
        given.json.write_text(report.as_json(result), "utf-8")
    if given.write_docs is not None:
        page.write_docs(result)
    return 1 if result.void else 0


if __name__ == "__main__":
    sys.exit(main())
