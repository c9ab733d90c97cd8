"""`--json`: JSON lines and nothing else, with the fields that docs/json.md lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup

from openrouter_sim import Simulator
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.config import user_counts_file, user_quarantine_file
from preflight_proxy.core.ledger.rows import OPENROUTER, QuarantinedEndpoint
from preflight_proxy.core.pricing.token_factors import BY_BYTES
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from preflight_proxy.ledger.shared_counts import SharedCounts
from tests.support.cli_commands import COMMANDS, invoke, run_process
from tests.support.crashed_run import BUSY, crash
from tests.support.live_field import WAITING, LiveField
from tests.support.served_command import served
from tests.support.trial_field import MODEL, Field

wire = pytest.mark.wire
DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "json.md").read_text("utf-8")
NOT_FOR_PROGRAMS = {"init", "simulate", "report", "ui", "metrics", "export", "proxy"}
"""They write a file, serve, or have a format of their own."""


def documented(heading: str, page: str = PAGE) -> set[str]:
    """Return the fields in the first column of the tables below a heading."""
    part = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return {name for row in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}


def paths(value: object, at: str = "") -> Iterator[str]:
    """Yield where each value of a document is: `total.calls`, `accounts[].account`."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from paths(item, f"{at}.{name}" if at else str(name))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for item in value:
            yield from paths(item, f"{at}[]")
    else:
        yield at


def check(heading: str, printed: Sequence[Mapping[str, Any]], *, never: Sequence[str] = ()) -> None:
    """Fail unless the fields below a heading are those that were printed: `NAME` in a field stands for any word.

    Args:
        heading: Of the page.
        printed: What the command printed.
        never: Fields that these documents happen not to have.
    """
    fields = {field: re.compile(re.escape(field).replace("NAME", r"[^\[]+")) for field in documented(heading)}
    seen = set[str]()
    for path in {path for document in printed for path in paths(document)}:
        matching = [field for field, pattern in fields.items() if pattern.fullmatch(path)]
        above = [field for field in fields if field.startswith((f"{path}.", f"{path}["))]  # empty, or null
        assert matching or above, f"{heading}: {path} is not in docs/json.md"
        seen.update(matching)
    assert fields.keys() - seen == set(never), heading


def lines(*arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Run a command with --json, and return what it printed on standard output."""
    result = invoke(*arguments, "--json", env=env)
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_command_that_prints_data_has_the_option() -> None:
    def without(group: TyperGroup, prefix: str = "") -> Iterator[str]:
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                yield from without(command, f"{prefix}{name} ")
            elif not any("--json" in parameter.opts for parameter in command.params):
                yield f"{prefix}{name}"

    assert isinstance(COMMANDS, TyperGroup)
    assert set(without(COMMANDS)) <= NOT_FOR_PROGRAMS


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@wire
def test_the_commands_that_read_a_run(trials: Field) -> None:
    trials.run({"a": "call(); call('no/such')", "b": "call()"}, tags={"task": "x"}, run_id="r")
    where = ("--runs-dir", str(trials.runs_dir))
    check("runs", lines("runs", *where))
    check("status", lines("status", "r", *where))
    *calls, last = lines("costs", "r", *where)
    check("costs", [last])
    assert {name for call in calls for name in call} == documented(
        "costs.jsonl", (DOCS / "files.md").read_text("utf-8")
    )
    quarantined = [f"quarantined[].{name}" for name in ("model", "tag", "reason")]
    of_old_runs = [f"estimate.{name}" for name in ("saved_usd", "assumed_price_usd_per_m", "assumed_discount")]
    check("costs --reconcile", lines("costs", "r", "--reconcile", *where), never=quarantined)
    check("cache-report", lines("cache-report", "r", *where), never=of_old_runs)


@wire
def test_a_run_prints_its_summaries(trials: Field, here: Path) -> None:
    options = trials.options({"a": "call(); call('no/such')"})
    program = [*options["command"]["a"]]
    env = {"OR_ADMIN_KEY": trials.simulator.admin_key, "OPENROUTER_API_KEY": trials.simulator.inference_key}
    more = ("--skip-preflight", "--budget", "0.05", "--model", f"{MODEL}=a", "--json")
    result = run_process("run", "--sandbox", "process", *more, "--", *program, env=env)
    assert result.exit_code == 0, result.output
    (summary,) = map(json.loads, result.stdout.splitlines())
    assert summary["preflight"].keys() == documented("summary.json", (DOCS / "files.md").read_text("utf-8"))
    assert summary == json.loads(next((here / "runs").glob("*/a/summary.json")).read_text())


@wire
def test_the_commands_that_change_a_run(trials: Field) -> None:
    with LiveField(trials, {"a": WAITING, "later": WAITING}, max_workers=1):
        where = ("--runs-dir", str(trials.runs_dir))
        check("top-up", lines("top-up", "live", "a=0.05", *where, env={"OR_ADMIN_KEY": trials.simulator.admin_key}))
        stops = lines("stop", "live", *where)
    check("stop", stops)
    assert [(each["alias"], each["status"], each["verified"]) for each in stops] == [
        ("a", "stopped", True),
        ("later", None, None),
    ]


@wire
@pytest.mark.usefixtures("docker_host")
def test_a_sweep(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    where = ("--runs-dir", str(trials.runs_dir))
    parts = ("kind", "name", "note", "run_dir", "trial")
    not_met = [f"{kind}[].{part}" for kind in ("live", "unreadable") for part in parts]
    rehearsed = lines("sweep", "--dry-run", *where, code=5)
    check(
        "sweep", [*rehearsed, *lines("sweep", *where, env={"OR_ADMIN_KEY": trials.simulator.admin_key})], never=not_met
    )


@wire
def test_quarantined_endpoints(here: Path) -> None:
    QuarantineFile(user_quarantine_file()).add(QuarantinedEndpoint("m/w", "tag", "billed too much", 1.0))
    for run in ("a", "b"):
        counts = SharedCounts(user_counts_file(), run=run, upstream=OPENROUTER, clock=SystemClock())
        counts.begin()
        counts.note_factor("m/x", "tag", BY_BYTES)
        counts.close()
    check("quarantine", lines("quarantine"))
    cleared = lines("quarantine", "--clear", "m/x", "tag", "--upstream", OPENROUTER)
    check("quarantine --clear", cleared)


def test_the_doctor(here: Path) -> None:
    (report,) = lines("doctor", "--offline", "--no-containers")
    check("doctor", [report])


@wire
def test_checks_and_estimates(simulator: Simulator, here: Path) -> None:
    keys = {"OR_ADMIN_KEY": simulator.admin_key, "OPENROUTER_API_KEY": simulator.inference_key}
    found = lines("preflight", env={"PREFLIGHT_MODELS": MODEL, **keys})
    check("preflight", found)
    assert {each["finding"] for each in found} <= {"ok", "note"}
    failed = lines("preflight", code=1, env={"PREFLIGHT_MODELS": "no/such", **keys})
    assert "problem" in {each["finding"] for each in failed}
    check("estimate", [*lines("estimate", "--model", MODEL)], never=["not_estimated"])


@wire
def test_an_estimate_that_cannot_be_made(here: Path) -> None:
    nowhere = {"OPENROUTER_BASE_URL": "http://127.0.0.1:9/api/v1"}
    (row,) = lines("estimate", "--model", MODEL, code=1, env=nowhere)
    assert row.keys() == {"model", "budget_usd", "not_estimated"} < documented("estimate")


@wire
def test_a_proxy_and_its_accounts(simulator: Simulator, here: Path) -> None:
    data, ready = here / "data", here / "ready.json"
    where = ("--data", str(data))
    start = ("proxy", *where, "--listen", "127.0.0.1:0", "--account", "alice=1")
    with served(ready, *start, OPENROUTER_API_KEY=simulator.inference_key):
        added = lines("proxy", "account", "add", "bob=2", "eve=1", *where)
        changes = (("raise", "bob=1"), ("limit", "bob=4"), ("freeze", "bob"), ("unfreeze", "bob"), ("remove", "eve"))
        changed = [lines("proxy", "account", *change, *where) for change in changes]
        shown = lines("proxy", "account", "show", "bob", *where)
        check("proxy status", lines("proxy", "status", *where))
    check("proxy account", added)
    assert [[each["account"] for each in rows] for rows in changed] == [["bob"]] * 4 + [["eve"]]
    assert [rows[0]["limit_usd"] for rows in changed[:3]] == ["3", "4", "4"]
    assert [rows[0]["state"] for rows in changed[2:]] == ["frozen", "open", "frozen"]
    assert all(row.keys() == documented("proxy account") - {"api_key"} for rows in changed for row in rows)
    assert shown == [{"account": "bob", "api_key": added[0]["api_key"]}]
    listed = lines("proxy", "account", "list", *where)
    assert [row["account"] for row in listed] == ["alice", "bob"]


@wire
def test_the_demo(here: Path) -> None:
    (sums,) = lines("demo", "--sandbox", "process")
    check("demo", [sums])
    assert (sums["posted_usd"], sums["agree"]) == (sums["billed_usd"], True)


def test_an_error_is_a_sentence_on_standard_error(here: Path) -> None:
    result = invoke("costs", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("No runs found in runs/")
