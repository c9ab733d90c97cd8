"""Exported calls and trials: exact, readable by every reader of CSV and JSON, harmless in a spreadsheet, never half written."""

import csv
import io
import json
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.operate.export import cell_of, rows_of, write_rows
from agent_preflight.run_data import COLUMNS, Call, TrialRow
from agent_preflight.runs.costs import accounts_of
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Assume, Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.docs.pages import ROOT
from tests.support.cases import each
from tests.support.ledger_on_disk import call, open_account, open_store, reserve
from tests.support.records import a_call
from tests.support.run_on_disk import finish, keep_ledger, plan


def written(path: Path, rows: Iterator[Call | TrialRow], what: str = "calls", form: str = "csv") -> str:
    """Return what is written of rows, with its line ends."""
    write_rows(rows, what, form, path)
    return path.read_bytes().decode()


def of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def of_jsonl(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@given(costs=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2**45)), max_size=12))
def test_exported_costs_add_up_to_the_ledger_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, costs: list[tuple[str, int]]
) -> None:
    data = tmp_path_factory.mktemp("data")
    store = open_store(data)
    for account in "ab":
        open_account(store, account, 10**15)
    for number, (account, cost_pusd) in enumerate(costs):
        store.commit(reserve(str(number), max(cost_pusd, 1), account))
        store.commit(Post(str(number), cost_pusd) if number % 3 else Assume(str(number), cost_pusd))
    store.close()
    for form, read in (("csv", of_csv), ("jsonl", of_jsonl)):
        rows: list[Any] = read(written(data / f"calls.{form}", rows_of(data, "calls"), form=form))
        for account in "ab":
            total_usd = sum(Decimal(row["cost_usd"]) for row in rows if row["trial"] == account)
            assert total_usd * 10**12 == accounts_of(data)[account].posted_pusd
        assert not [row for row in rows if "E" in row["cost_usd"] or "E" in row["reserved_usd"]]


def test_a_csv_has_a_header_crlf_and_each_value_as_it_is(tmp_path: Path) -> None:
    row = a_call("nano", -1_500_000, 1_800_000_000.25, model='a,"b', reason="größe", streamed=True, tags={"task": "x"})
    text = written(tmp_path / "calls.csv", iter([row]))
    header, line, end = text.split("\r\n")
    assert (header, end) == (",".join(COLUMNS["calls"]), "")
    assert "\n" not in header + line
    (cells,) = of_csv(text)
    assert cells["time"] == "2027-01-15T08:00:00.250Z"
    assert (cells["cost_usd"], cells["trial"], cells["model"], cells["reason"]) == (
        *("-0.0000015", "nano", 'a,"b'),
        "größe",
    )
    assert (cells["streamed"], cells["status"], cells["ttft_ms"], cells["tags"]) == ("true", "200", "", '{"task": "x"}')
    assert json.loads(cells["prices"])["completion"] == "0.000004"


def test_a_line_of_json_has_the_same_values_with_their_types(tmp_path: Path) -> None:
    row = a_call("nano", 1_500_000, 1_800_000_000.25, reason="\x1b[31m=größe\n", tags={"task": "x"})
    text = written(tmp_path / "calls.jsonl", iter([row, row]), form="jsonl")
    assert text.isascii()
    first, second = of_jsonl(text)
    assert first == second
    assert tuple(first) == COLUMNS["calls"]
    assert (first["cost_usd"], first["status"], first["streamed"], first["ttft_ms"]) == ("0.0000015", 200, False, None)
    assert (first["reason"], first["tags"]) == ("\x1b[31m=größe\n", {"task": "x"})


@each(
    "text, cell",
    [
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "' =1"),
        ("\r=1", "' =1"),
        ("  @x", "'  @x"),
        ("\x1b[31m=1", "'=1"),
        ("＝1", "'＝1"),
        ("a=1", "a=1"),
        ("1-1", "1-1"),
        ("\u202eevil\u0007\x9b1m\n", " evil  "),
        ("", ""),
    ],
)
def test_a_text_that_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(text: str, cell: str) -> None:
    assert cell_of(text, text) == cell


def test_cells_of_every_column_of_a_hostile_call_are_harmless(tmp_path: Path) -> None:
    hostile = "=cmd|'/C calc'!A0\x1b[2J\n"
    names = ("trial", "outcome", "model", "provider", "endpoint", "conversation", "cache_miss", "api", "reason")
    more: dict[str, Any] = {name: hostile for name in names if name != "trial"}
    row = a_call(hostile, -5, tags={hostile: hostile}, **more)
    text = written(tmp_path / "calls.csv", iter([row]))
    assert not set(text) & set(map(chr, [*range(10), 11, 12, *range(14, 32), 127]))
    (cells,) = of_csv(text)
    assert [name for name in names if not cells[name].startswith("'=")] == []
    assert cells["cost_usd"] == "-0.000000000005"
    assert cells["tags"].startswith("{")


def test_trials_are_exported_with_figures_of_the_ledger(tmp_path: Path) -> None:
    run = plan(tmp_path / "run-1", "nano", "mini")
    keep_ledger(run, "nano", "mini", pending=True)
    finish(
        run,
        "nano",
        {"status": "ejected", "notes": ["=too slow"]},
        error="ejected: idle",
        started_at="2026-01-01T00:00:00+00:00",
    )
    rows = {row["alias"]: row for row in of_csv(written(tmp_path / "t.csv", rows_of(run, "trials"), "trials"))}
    assert [*rows] == ["nano", "mini"]
    nano = rows["nano"]
    assert (nano["posted_usd"], nano["pending_usd"], nano["limit_usd"]) == ("0.01", "0.02", "0.25")
    assert (nano["status"], nano["error"], nano["notes"]) == ("ejected", "ejected: idle", '["=too slow"]')
    assert (nano["prompt_tokens"], nano["cached_tokens"], nano["calls"]) == ("2000", "500", "1")
    assert (nano["started_at"], rows["mini"]["started_at"], nano["score"]) == ("2026-01-01T00:00:00.000Z", "", "")
    (first, _) = of_jsonl(written(tmp_path / "t.jsonl", rows_of(run, "trials"), "trials", "jsonl"))
    assert (first["posted_usd"], first["notes"], first["success"]) == ("0.01", ["=too slow"], None)


def test_rows_are_written_as_they_are_read(tmp_path: Path) -> None:
    """10,000 calls are not held as text: the draft grows while the rows are made."""
    sizes = []

    def rows() -> Iterator[Call]:
        for number in range(10_000):
            if number % 1000 == 0:
                sizes.append(sum(path.stat().st_size for path in tmp_path.glob(".calls.csv.*")))
            yield (a_call("nano", number))

    write_rows(rows(), "calls", "csv", tmp_path / "calls.csv")
    assert sizes[0] == 0
    assert sorted(set(sizes)) == sizes
    assert len((tmp_path / "calls.csv").read_text().splitlines()) == 10_001


def test_a_ledger_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_text("old")

    def rows() -> Iterator[Call]:
        yield (a_call("nano", 1))
        raise LedgerError("the ledger cannot be read")

    with pytest.raises(LedgerError):
        write_rows(rows(), "calls", "csv", path)
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_nothing_is_written_where_the_first_row_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.sqlite3").write_text("none")
    with pytest.raises(LedgerError):
        write_rows(rows_of(tmp_path, "calls"), "calls", "csv", None)
    assert capsys.readouterr().out == ""


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real.csv", tmp_path / "link.csv", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    write_rows(iter([]), "calls", "csv", link)
    assert link.is_symlink()
    assert real.read_text().startswith("entry_id,")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_rows(iter([]), "calls", "csv", pipe)
    assert os.read(reader, 9) == b"entry_id,"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def ten_thousand(run: Path) -> Path:
    """Write a ledger of enough calls that their export is larger than any buffer."""
    run.mkdir()
    store = open_store(run)
    open_account(store, "a", 10**12)
    for number in range(2000):
        call(store, str(number), 10, "a")
    store.close()
    return run


@pytest.mark.wire
def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(tmp_path: Path) -> None:
    data, output = ten_thousand(tmp_path / "data"), tmp_path / "out"
    output.mkdir()
    (output / "calls.csv").write_text("old")
    command = [sys.executable, "-m", "agent_preflight", "export", "--data", str(data), "-o", str(output / "calls.csv")]
    limit = (100_000, 100_000)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{output / 'calls.csv'}: File too large.")
    assert done.stderr.count("\n") == 1
    assert [(path.name, path.read_text()) for path in output.iterdir()] == [("calls.csv", "old")]


@pytest.mark.wire
def test_a_reader_that_leaves_early_gets_its_lines_and_no_traceback(tmp_path: Path) -> None:
    data = ten_thousand(tmp_path / "data")
    command = [sys.executable, "-m", "agent_preflight", "export", "--data", str(data), "--format", "jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["trial"] == "a"
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize("what", COLUMNS)
def test_the_page_lists_each_field_in_its_order(what: str) -> None:
    page = (ROOT / "docs" / "export.md").read_text("utf-8")
    section = page.split(f"\n## {what.capitalize()}\n")[1].split("\n## ")[0]
    listed = [
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert listed == [*COLUMNS[what]]


def test_facts_of_a_real_line_arrive(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store, "a", 10**12)
    store.commit(reserve("r", 50, "a"))
    facts = CallFacts("m/y", "Acme", "gen-1", "acme", 10, 5, 2, 7, 3, 200, 15, 90, "talk", "", 4)
    store.commit(Post("r", 50, facts))
    store.close()
    (row,) = rows_of(tmp_path, "calls")
    assert isinstance(row, Call)
    assert (row.model, row.provider, row.conversation) == ("m/y", "Acme", "talk")
    assert (row.prompt_tokens, row.cached_tokens, row.cache_write_tokens) == (10, 5, 2)
    assert (row.completion_tokens, row.reasoning_tokens, row.status, row.ttft_ms, row.duration_ms) == (
        7,
        3,
        200,
        15,
        90,
    )
    assert (row.cost_usd, row.reserved_usd, row.cache_saved_usd) == (*[Decimal("5E-11")] * 2, Decimal("4E-12"))
    assert (row.reservation_id, row.outcome, row.trial) == ("r", "posted", "a")
