"""`agent-preflight report`, and how `ui` begins; what it serves: tests/agent_preflight/views/test_server.py."""

import json
import socket
import sys
from pathlib import Path

import pytest

from agent_preflight import views
from agent_preflight.cli.pages import GENERATOR
from tests.support.cli_commands import CommandResult, invoke
from tests.support.html import read_html
from tests.support.run_on_disk import alive, begin, finish, keep_ledger, plan

BLOCK = {"status": "done", "posted_usd": "0.01", "limit_usd": "0.25", "calls": 1, "refused": 0}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs below the working directory, with one run that is over."""
    monkeypatch.chdir(tmp_path)
    run = plan(tmp_path / "runs" / "run-1", "a", "b")
    keep_ledger(run, "a", "b")
    finish(run, "a", BLOCK)
    finish(run, "b", BLOCK)
    return tmp_path / "runs"


def report(*arguments: str) -> CommandResult:
    return invoke("report", *arguments)


def test_a_report_is_written_to_a_file_named_after_the_run(runs: Path) -> None:
    result = report()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "run-1.html\n", "")
    document = read_html(Path("run-1.html").read_text("utf-8"))
    assert document.by_id("models").rows()[1][2] == "$0.0100 of $0.25"
    assert Path("run-1.html").read_bytes().find(GENERATOR) in range(512)


def test_a_report_replaces_an_earlier_one_and_nothing_else(runs: Path) -> None:
    assert report("run-1", "-o", "r.html").exit_code == 0
    assert report("run-1", "-o", "r.html").exit_code == 0
    Path("thesis.html").write_text("years of work")
    Path("folder").mkdir()
    for name in ("thesis.html", "folder", "/dev/null"):
        result = report("run-1", "-o", name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert (
            result.stderr == f"{name} exists and is no report of agent-preflight. Name another with -o, or remove it.\n"
        )
    assert Path("thesis.html").read_text() == "years of work"
    assert Path("/dev/null").is_char_device()


def test_a_dash_is_standard_output(runs: Path) -> None:
    result = report("-o", "-")
    assert read_html(result.stdout).by_id("answer")
    assert list(Path().glob("*.html")) == []


def test_several_runs_are_compared_each_once(runs: Path) -> None:
    finish(plan(runs / "run-2", "a"), "a", BLOCK)
    assert report("run-1", "run-2", "run-1").stdout == "run-1-and-others.html\n"
    assert read_html(Path("run-1-and-others.html").read_text("utf-8")).all("h1")[0].text == "2 runs compared"


def test_a_run_that_goes_on_is_reported_as_it_stands(runs: Path) -> None:
    live = plan(runs / "run-live", "a", "b")
    begin(live, "a", {"timestamp": "2026-01-01T00:00:00+00:00", "type": "agent_start"})
    with alive(live):
        result = report("-o", "-")
    assert "so far, at" in read_html(result.stdout).by_id("head").text


def test_bad_input_is_a_sentence_each(runs: Path) -> None:
    (runs / "photos").mkdir()
    (runs / "photos" / "cat.jpg").write_bytes(b"\xff\xd8")
    for arguments, sentence in (
        (["run-9"], 'There is no run "run-9" in runs/. Latest: '),
        (["../x"], 'There is no run "../x" in runs/.'),
        (["--runs-dir", "nowhere"], "No runs found in nowhere/."),
        (["photos"], "runs/photos"),
        (["run-1", "-o", "missing/r.html"], "missing/r.html: No such file or directory. "),
    ):
        result = report(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), arguments
        assert sentence in result.stderr
    assert list(Path().glob("*.html")) == []


def test_runs_that_are_incomplete_have_a_report_too(runs: Path) -> None:
    """One that has just begun, one whose runner died, one of an older version, and one whose ledger is damaged."""
    plan(runs / "empty")
    plan(runs / "new", "a")
    begin(plan(runs / "crashed", "a"), "a", {"timestamp": "2026-01-01T00:00:00+00:00", "type": "agent_start"})
    finish(runs / "old", "a")
    keep_ledger(plan(runs / "damaged", "a"), "a")
    (runs / "damaged" / "ledger.sqlite3").write_bytes(b"no database")
    (plan(runs / "half", "a") / "plan.json").write_text('{"trials": [{"ali')
    finish(runs / "half", "a", BLOCK)
    for name in ("empty", "new", "crashed", "old", "damaged", "half"):
        result = report(name, "-o", "-")
        assert (result.exit_code, result.stderr) == (0, ""), name
        read_html(result.stdout)
    assert "lost" in read_html(report("crashed", "-o", "-").stdout).by_id("endings").text
    assert read_html(report("damaged", "-o", "-").stdout).by_id("answer").all("p", "warn")


def test_without_jinja2_a_sentence_says_what_to_install(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "agent_preflight.views.page", raising=False)
    monkeypatch.delattr(views, "page", raising=False)
    result = report("run-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Pages need jinja2: pip install jinja2\n"


def test_what_a_plan_says_is_text(runs: Path) -> None:
    run = plan(runs / "run-3", "a")
    document = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps({**document, "tags": {"task": "<script>alert(1)</script>"}}))
    assert "<script>" not in report("run-3", "-o", "-").stdout


def test_ui_says_which_runs_there_are_and_serves_nothing(runs: Path) -> None:
    result = invoke("ui", "run-2", "--no-open")
    assert result.exit_code == 1
    assert result.stderr == 'There is no run "run-2" in runs/. Latest: run-1.\n'


@pytest.mark.wire
def test_ui_says_that_its_port_is_taken(runs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = invoke("ui", "--no-open", "--port", str(port))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Port {port} on 127.0.0.1 cannot be used: Address already in use. Choose another with --port.\n"
    )
