"""Writes the calls or the trials of a run as CSV or as JSON lines, one row at a time."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

from agent_preflight.run_data import COLUMNS, Call, TrialRow, read_run, row_document
from agent_preflight.runs.call import call_of
from agent_preflight.runs.costs import entries_of
from preflight_proxy.core.terminal import plain

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""First characters of a text that a spreadsheet takes for a formula, the wide ones of East Asian input included."""


def rows_of(folder: Path, what: str) -> Iterator[Call | TrialRow]:
    """Yield the `calls` or the `trials` of a folder.

    Raises:
        ConfigError: It has none of them, because it is not the folder of a run, or has no ledger.
        LedgerError: Its ledger cannot be read.
    """
    yield from read_run(folder).trials if what == "trials" else map(call_of, entries_of(folder))


def write_rows(rows: Iterator[Call | TrialRow], what: str, form: str, path: Path | None) -> bool:
    """Write rows to a file, or to standard output, and return whether there were any.

    Args:
        rows: The rows. If the first cannot be read, nothing is written.
        what: `calls` or `trials`.
        form: `csv` or `jsonl`.
        path: The file; None for standard output.

    Raises:
        OSError: The file cannot be written. One that was there is as it was.
    """
    first = list(islice(rows, 1))
    with _output(path) as file:
        writer = csv.writer(file)  # lines end with CRLF: RFC 4180
        if form == "csv":
            writer.writerow(COLUMNS[what])
        for row in chain(first, rows):
            document = row_document(row)
            if form == "csv":
                writer.writerow(cell_of(getattr(row, name), value) for name, value in document.items())
            else:
                file.write(json.dumps(document) + "\n")
    return bool(first)


def cell_of(value: object, document: object) -> object:
    """Return what a cell of a CSV has for a value. Text is made plain, and a formula gets an apostrophe in front."""
    match value:
        case str():
            text = plain(value)
            return f"'{text}" if text.lstrip().startswith(FORMULA) else text
        case bool() | Mapping() | tuple():
            return json.dumps(document)
    return document


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Yield where to write. A file is replaced at the end; a device or a pipe is written at once."""
    if path is None:
        assert isinstance(sys.stdout, io.TextIOWrapper)
        sys.stdout.reconfigure(encoding="utf-8", newline="")
        yield sys.stdout
        sys.stdout.flush()  # here, where a closed pipe is no traceback
        return
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    place = path.resolve()  # a link stays
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with draft.open("x", encoding="utf-8", newline="") as file:
            yield file
        draft.replace(place)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc
    finally:
        draft.unlink(missing_ok=True)
