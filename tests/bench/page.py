"""docs/BENCHMARKS.md and its picture, written from results: `python -m tests.bench --write-docs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.picture import draw
from tests.bench.report import Result, bound, cell, reached

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, PICTURE = DOCS / "BENCHMARKS.md", DOCS / "benchmarks.svg"

INTRODUCTION = """# Benchmarks

What a call through the proxy costs, with everything on: limits, the ledger on disk, `costs.jsonl`, `budget.txt`. The unit of most
rows is a naive pass-through: 40 lines of aiohttp that forward a request and its answer and do nothing else.

![Each measure as a multiple of a naive pass-through, with the bound that it must hold](benchmarks.svg)

`must` is the bound that the project sets itself, `aim` what it hopes for. `reached` is the median of the rounds, with the smallest
and the largest. Rows whose bound is missed say so.
"""

METHOD = """
## How it was measured

- One load generator and one upstream, both ours, on one core. The subject alone is on another core.
- In each round every subject is asked the same, one right after the other. A ratio is of one round. The first round is thrown away.
- Agents have growing conversations: each body repeats all messages before it. No two bodies and no two answers are equal.
- The upstream answers like OpenRouter: `X-Generation-Id`, usage with cost, comment lines in streams. It notes into each answer how
  long it kept the call waiting, so that its own time is not counted.
- "Added" is the time through the subject less the time without a proxy.
- The naive subject: uvloop, one session, no limit of connections, no decompression, no access log. If nginx is installed, the naive
  subject may take at most 12 times its CPU; else the run is void.
- Ours: `agent-preflight proxy` with its defaults. After the run its ledger must equal the upstream's bill to the last digit; else
  the run is void.
- CPU is that of the process and its children. Memory is their resident set.
- The longest hold of the loop is the longest answer to `GET /health` on another connection, asked every millisecond, while a body
  is read that the proxy has never seen.
- Trials in containers: agents that sleep for half a second, by `docker run` and as trials of one run, with what both commands need
  to start and to clean up.

## Repeat it

    make bench                  # all rows, about 20 minutes
    make bench QUICK=1          # within 3 minutes
    make bench ROWS=cpu,p50     # the rows that are named so, or begin so
    make bench BASE=IMAGE       # also trials in containers, in an image with python3; needs Docker

nginx takes part if it is installed, LiteLLM if `pip install -e '.[bench]'` installed it. `python -m tests.bench --json FILE` keeps
every figure of every round; `python -m tests.bench --write-docs FILE...` writes this page from such files.
"""


def write_docs(result: Result) -> None:
    """Write the page and its picture."""
    PICTURE.write_text(draw(result), "utf-8")
    PAGE.write_text(page(result), "utf-8")


def page(result: Result) -> str:
    """Return the page as Markdown."""
    subjects = result.subjects()
    head = ["measure", "", *subjects, "must", "aim", "reached"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in result.rows:
        cells = [cell(result.samples.get((name, row.figure), [])) for name in subjects]
        bounds = [bound(row, row.must), bound(row, row.aim)]
        lines.append(_line([row.title, row.shown_in, *cells, *bounds, reached(row, result.samples)]))
    facts = [f"- {name}: {value}" for name, value in {"date": result.date, **result.machine}.items()]
    void = f"\n**This run is void:** {result.void}.\n" if result.void else ""
    return f"{INTRODUCTION}{void}\n" + "\n".join(lines) + "\n\n## The machine\n\n" + "\n".join(facts) + "\n" + METHOD


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
