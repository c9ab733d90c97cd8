"""The result as a table for people and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.rows import ROWS, SUBJECTS, Row, Samples


@dataclass(frozen=True, slots=True)
class Result:
    """All of a run."""

    machine: Mapping[str, str]
    date: str
    rows: Sequence[Row]
    samples: Samples
    void: str | None
    """Why the run is worth nothing; None if it is not."""

    def subjects(self) -> list[str]:
        """Return the subjects that were measured, in their order."""
        measured = {subject for subject, _ in self.samples}
        return [name for name in SUBJECTS if name in measured]


def table(result: Result) -> str:
    """Return the result as text; each cell is a median, each ratio with its smallest and largest round."""
    subjects = result.subjects()
    lines = [f"{name}: {value}" for name, value in result.machine.items()]
    head = f"{'measure':56}" + "".join(f"{name:>11}" for name in subjects) + f"{'must':>9}{'aim':>7}  reached"
    lines += ["", head]
    lines += [
        f"{row.title + ', ' + row.shown_in:56}"
        + "".join(f"{cell(result.samples.get((name, row.figure), [])):>11}" for name in subjects)
        + f"{bound(row, row.must):>9}{bound(row, row.aim):>7}  {reached(row, result.samples)}"
        for row in result.rows
    ]
    if result.void:
        lines += ["", f"VOID: {result.void}"]
    return "\n".join(lines)


def cell(values: Sequence[float]) -> str:
    """Return a median as text."""
    return figure(statistics.median(values)) if values else "-"


def figure(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bound(row: Row, value: float | None) -> str:
    """Return `must` or `aim` as text."""
    if value is None:
        return "-"
    return f"{'>' if row.at_least else ''}{value:g}{row.sign}"


def reached(row: Row, samples: Samples) -> str:
    """Return the median of a row's rounds, the smallest, the largest, and whether it holds `must`."""
    values = row.reached(samples)
    if not values:
        return "-"
    text = f"{figure(statistics.median(values))}{row.sign} ({figure(min(values))}-{figure(max(values))})"
    if row.base:
        text += f" of {cell(samples.get(('ours', row.base), []))}"
    return text if row.must is None else f"{text} {'ok' if row.holds(samples) else 'MISSED'}"


def as_json(result: Result) -> str:
    """Return everything, each round of each subject too."""
    rows = {
        row.figure: {
            "title": row.title,
            "shown_in": row.shown_in,
            "unit": row.unit.value,
            "must": row.must,
            "aim": row.aim,
            "reached": row.reached(result.samples),
        }
        for row in result.rows
    }
    figures: dict[str, dict[str, list[float]]] = {}
    for (subject, name), values in result.samples.items():
        figures.setdefault(name, {})[subject] = values
    machine = dict(result.machine)
    document = {"date": result.date, "void": result.void, "machine": machine, "rows": rows, "figures": figures}
    return json.dumps(document, indent=1)


def from_json(text: str) -> Result:
    """Return the result that `as_json` wrote; rows that there are no more are left out.

    Raises:
        ValueError: It is no such text.
    """
    document = json.loads(text)
    samples: Samples = {}
    for figure_name, rounds in document["figures"].items():
        samples |= {(subject, figure_name): values for subject, values in rounds.items()}
    rows = [row for row in ROWS if row.figure in document["rows"]]
    return Result(document["machine"], document["date"], rows, samples, document["void"])


def merged(results: Sequence[Result]) -> Result:
    """Return one result of several runs on one machine; of a row that several have, the last one counts.

    Raises:
        ValueError: There is none.
    """
    if not results:
        raise ValueError("no results")
    samples: Samples = {}
    for result in results:
        replaced = {name for row in result.rows for name in row.figures()}
        samples = {key: values for key, values in samples.items() if key[1] not in replaced} | result.samples
    wanted = {row.figure for result in results for row in result.rows}
    void = next((result.void for result in results if result.void), None)
    return Result(results[-1].machine, results[-1].date, [row for row in ROWS if row.figure in wanted], samples, void)
