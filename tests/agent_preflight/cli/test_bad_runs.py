"""Runs that are not whole: each command that reads a run prints what there is, or says in one sentence what is wrong.

No traceback, no figure that the ledger does not have, and nothing in the run is changed.
"""

import json
import resource
import shutil
import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from agent_preflight.operate.metrics import LedgerCollector
from preflight_proxy.ledger import schema
from tests.preflight_proxy.ledger.test_schema import write_version_4
from tests.support.cli_commands import CommandResult, invoke
from tests.support.ledger_on_disk import open_store
from tests.support.scored_run import ScoredRun
from tests.support.ui_thread import ui_thread

pytestmark = pytest.mark.wire

SENTENCE_CHARS_MAX = 400
RUN = "run-bad"

READERS: Mapping[str, Sequence[str]] = {
    "status": ("status", RUN),
    "status --watch": ("status", RUN, "--watch"),
    "status --json": ("status", RUN, "--json"),
    "costs": ("costs", RUN),
    "costs --json": ("costs", RUN, "--json"),
    "cache-report": ("cache-report", RUN),
    "report": ("report", RUN, "-o", "-"),
    "export": ("export", RUN),
    "export trials": ("export", RUN, "--what", "trials"),
    "export --json": ("export", RUN, "--what", "trials", "--format", "jsonl"),
}
"""Each command, with the arguments by which it reads the run."""


def whole(run: Path, scored: ScoredRun) -> None:
    shutil.copytree(scored.run_dir, run)


def copied(change: Callable[[Path], object]) -> Callable[[Path, ScoredRun], None]:
    """Return what copies the whole run and then changes something in it."""

    def make(run: Path, scored: ScoredRun) -> None:
        shutil.copytree(scored.run_dir, run)
        change(run)

    return make


def torn(name: str) -> Callable[[Path], None]:
    """Return what cuts every file of this name in the middle of a line, as a kill or a full disk does."""

    def cut(run: Path) -> None:
        paths = list(run.rglob(name))
        assert paths
        for path in paths:
            content = path.read_bytes().rstrip(b"\n}")
            path.write_bytes(content[: -min(len(content) // 2, 20)])

    return cut


def folders_for(*names: str) -> Callable[[Path], None]:
    """Return what puts a folder where a file of each of these names was: nobody can read that, root included."""

    def change(run: Path) -> None:
        for name in names:
            for path in list(run.rglob(name)):
                path.unlink()
                path.mkdir()

    return change


def without(*names: str) -> Callable[[Path], None]:
    """Return what removes all files of these names."""

    def change(run: Path) -> None:
        for path in [path for name in names for path in run.rglob(name)]:
            path.unlink()

    return change


def planned_only(run: Path, scored: ScoredRun) -> None:
    """Killed before its proxy began."""
    run.mkdir(parents=True)
    shutil.copy(scored.run_dir / "plan.json", run)
    (run / "lock").touch()


def without_entries(run: Path, scored: ScoredRun) -> None:
    """Killed before the first call."""
    planned_only(run, scored)
    open_store(run).close()


def of_version_4(run: Path, scored: ScoredRun) -> None:
    """A ledger, plan and summaries without all that came later."""
    whole(run, scored)
    without("ledger.sqlite3*", "costs.jsonl")(run)
    write_version_4(run / "ledger.sqlite3")
    plan = json.loads((run / "plan.json").read_text())
    for name in ("repeats", "tags", "score", "created_at"):
        plan.pop(name, None)
    for trial in plan["trials"]:
        trial.pop("base", None), trial.pop("repeat", None)
    (run / "plan.json").write_text(json.dumps(plan))
    for path in run.rglob("summary.json"):
        summary = json.loads(path.read_text())
        summary["preflight"].pop("score", None)
        path.write_text(json.dumps(summary))


def of_the_old_library(run: Path, scored: ScoredRun) -> None:
    """No ledger, no plan: event logs, budget files and summaries of seven keys."""
    whole(run, scored)
    without("ledger.sqlite3*", "costs.jsonl", "plan.json", "lock", "proxy.log", "notices.jsonl")(run)
    for path in run.rglob("summary.json"):
        summary = json.loads(path.read_text())
        del summary["preflight"]
        path.write_text(json.dumps(summary))


def newer(run: Path) -> None:
    with closing(sqlite3.connect(run / "ledger.sqlite3", isolation_level=None)) as ledger:
        ledger.execute(schema.PUT_META, ("schema_version", str(schema.VERSION + 1)))


def damaged(run: Path) -> None:
    without("ledger.sqlite3-*")(run)
    path = run / "ledger.sqlite3"
    path.write_bytes(path.read_bytes()[:4096] + b"\xee" * 20_000)


def foreign(run: Path, _: ScoredRun) -> None:
    """A folder that no run made."""
    (run / "2024").mkdir(parents=True)
    (run / "2024" / "beach.jpg").write_bytes(b"\xff\xd8\xff\xe0" * 100)
    (run / "notes.txt").write_text("milk\n")


def empty(run: Path, _: ScoredRun) -> None:
    run.mkdir(parents=True)


def a_file(run: Path, _: ScoredRun) -> None:
    run.parent.mkdir(parents=True, exist_ok=True)
    run.write_text("not a folder\n")


def unknown(run: Path, scored: ScoredRun) -> None:
    shutil.copytree(scored.run_dir, run.parent / "run-other")


BAD: Mapping[str, Callable[[Path, ScoredRun], None]] = {
    "whole": whole,
    "unknown": unknown,
    "a file": a_file,
    "empty": empty,
    "foreign": foreign,
    "plan only": planned_only,
    "no entries": without_entries,
    "no ledger": copied(without("ledger.sqlite3*", "costs.jsonl")),
    "no summaries": copied(without("summary.json")),
    "no plan": copied(without("plan.json")),
    "torn events": copied(torn("events.jsonl")),
    "torn summaries": copied(torn("summary.json")),
    "torn plan": copied(torn("plan.json")),
    "torn notices": copied(lambda run: (run / "notices.jsonl").write_text('{"time": "2026-01-01T00:00:00Z", "tri')),
    "damaged ledger": copied(damaged),
    "newer ledger": copied(newer),
    "version 4": of_version_4,
    "old library": of_the_old_library,
    "folders for files": copied(folders_for("plan.json", "summary.json", "events.jsonl", "costs.jsonl", "stderr.log")),
    "folder for the ledger": copied(folders_for("ledger.sqlite3")),
}


@pytest.fixture
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of runs; the working directory is the one above."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every file below, apart from those that SQLite's readers may make and empty."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(("-shm", "-wal"))
    }


def judge(name: str, result: CommandResult) -> list[str]:
    """Return what is wrong with an answer: a command prints, or complains in a sentence on standard error alone."""
    wrong = []
    complaint = result.stderr.strip()
    if "Traceback" in result.output:
        wrong.append("a traceback")
    if result.exit_code not in (0, 1):
        wrong.append(f"exit code {result.exit_code}")
    if result.exit_code == 1 and not (complaint and "\n" not in complaint and len(complaint) <= SENTENCE_CHARS_MAX):
        wrong.append(f"no single sentence: {complaint!r}")
    if result.exit_code == 1 and result.stdout:
        wrong.append("output beside a complaint")
    if result.exit_code == 0 and not result.output.strip() and not name.endswith("--json"):
        wrong.append("nothing said")
    if result.exit_code == 0 and name.endswith("--json"):
        [json.loads(line) for line in result.stdout.splitlines()]
    return wrong


@pytest.mark.parametrize("kind", BAD)
def test_each_command_prints_what_there_is_or_says_what_is_wrong(
    kind: str, runs_dir: Path, scored_run: ScoredRun
) -> None:
    BAD[kind](runs_dir / RUN, scored_run)
    before = contents(runs_dir)
    results = {name: invoke(*arguments) for name, arguments in READERS.items()}
    for name, result in results.items():
        print(f"{name}: exit {result.exit_code}\n{result.output}")
    wrong = {name: faults for name, result in results.items() if (faults := judge(name, result))}
    assert wrong == {}
    assert contents(runs_dir) == before


@pytest.mark.parametrize("kind", BAD)
def test_the_live_pages_and_a_scrape_show_what_there_is(kind: str, runs_dir: Path, scored_run: ScoredRun) -> None:
    """A page of such a run is a page, or says that there is no such run; a scrape has figures or says that it has none."""
    BAD[kind](runs_dir / RUN, scored_run)
    before = contents(runs_dir)
    with ui_thread(runs_dir) as ui:
        answers = {
            path: asked(ui.url(path)) for path in ("/", f"/run/{RUN}", f"/run/{RUN}/calls", f"/run/{RUN}/trial/nano-1")
        }
    assert answers["/"][0] == 200
    assert {status for status, _ in answers.values()} <= {200, 404}
    assert all("Traceback" not in text for _, text in answers.values())
    assert answers[f"/run/{RUN}"][0] == (404 if kind in ("unknown", "a file", "empty", "foreign") else 200)
    registry = CollectorRegistry()
    registry.register(LedgerCollector(runs_dir / RUN))
    scrape = generate_latest(registry).decode()
    has_ledger = (runs_dir / RUN / "ledger.sqlite3").is_file()
    is_whole = has_ledger and kind not in ("damaged ledger", "newer ledger")
    assert f"agent_preflight_up {float(is_whole)}" in scrape
    assert contents(runs_dir) == before


def asked(url: str) -> tuple[int, str]:
    """Return status and body of a page."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("command", [("export", RUN), ("report", RUN)])
def test_a_full_disk_is_a_sentence_and_leaves_the_file_of_before(
    command: Sequence[str], runs_dir: Path, scored_run: ScoredRun
) -> None:
    whole(runs_dir / RUN, scored_run)
    kept = runs_dir.parent / "kept"
    assert invoke(*command, "-o", str(kept)).exit_code == 0
    before = kept.read_bytes()
    with file_sizes_up_to(len(before) // 2):
        results = [invoke(*command, "-o", str(kept)), invoke(*command, "-o", str(runs_dir.parent / "new"))]
    results += [invoke(*command, "-o", str(path)) for path in (Path("/dev/full"), runs_dir / "no such folder" / "file")]
    assert [(result.exit_code, judge("full", result)) for result in results] == [(1, [])] * 4
    assert kept.read_bytes() == before
    assert sorted(path.name for path in runs_dir.parent.iterdir()) == ["kept", "runs"]


@contextmanager
def file_sizes_up_to(size_bytes: int) -> Iterator[None]:
    """Let this process write no file above a size, as on a disk that is full."""
    before, signal_before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal_before)
