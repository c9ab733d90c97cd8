"""What a run tells: its file, the user's command, `on_event`. No receiver harms it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agent_preflight
from agent_preflight.eject import EjectPolicy
from agent_preflight.models import RunResult
from agent_preflight.operate.live_changes import find_planned_run, top_up
from agent_preflight.runner import notices as module
from agent_preflight.runner.api import run_container
from agent_preflight.runner.notices import NOTICES_WAITING_MAX, Notices, SpendMarks, run_done
from agent_preflight.runner.progress import TrialProgress
from preflight_proxy.base.control_messages import Balance
from tests.support.live_field import LiveField
from tests.support.trial_field import DEAR_MODEL, MODEL, Field, agent

wire = pytest.mark.wire
KEY = "sk-or-v1-" + "0" * 64
NANO = TrialProgress("nano", "m/nano", 5 * 10**11, balance=Balance(posted_pusd=123_000_000_001))
COLLECT = "cat >> told.jsonl"
SPENDS = f"while call({DEAR_MODEL!r})[0] == 200: pass"


def balance(posted_cents: int, limit_cents: int = 100, *, spent: bool = False) -> Balance:
    return Balance(posted_pusd=posted_cents * 10**10, limit_pusd=limit_cents * 10**10, spent=spent)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Told:
    """Notices of a run in a folder, which is the working directory of its command too.

    Attributes:
        said: What was printed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def of(self, command: str | None, on_event: Callable[[dict[str, Any]], object] | None = None) -> Notices:
        return Notices(self.folder, "run-1", command, on_event, self.said.append)

    @property
    def received(self) -> list[dict[str, Any]]:
        """What the command `COLLECT` got."""
        return lines(self.folder / "told.jsonl")

    @property
    def written(self) -> list[dict[str, Any]]:
        return lines(self.folder / "notices.jsonl")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.chdir(tmp_path)
    return Told(tmp_path)


def test_a_mark_is_noticed_once_and_again_after_a_top_up_that_took_it_back() -> None:
    marks = SpendMarks()
    posted = [balance(79), balance(80), balance(99), balance(99, 105), balance(99, 200), balance(160, 200)]
    assert [list(marks.new(each)) for each in posted] == [[], ["budget_80"], [], [], [], ["budget_80"]]


def test_a_mark_says_what_is_spent() -> None:
    assert SpendMarks().new(balance(81)) == {"budget_80": "$0.8100 of $1.0000 is spent (81%)"}
    assert SpendMarks().new(balance(40, spent=True)) == {"spent": "$0.4000 of $1.0000 is spent; nothing more fits"}


def test_a_budget_that_is_used_up_is_spent_without_a_refusal_and_an_unknown_one_is_not() -> None:
    assert list(SpendMarks().new(balance(100))) == ["budget_80", "spent"]
    assert SpendMarks().new(Balance()) == {}


async def test_a_notice_is_a_private_line_without_keys_and_escapes(told: Told) -> None:
    told.of(None).add("drift", f"look: {KEY} \x1b[31mred", NANO)
    told.of(None).add("run_done", "over")
    (first, second) = told.written
    assert (first["trial"], first["kind"], second["trial"]) == ("nano", "drift", None)
    assert KEY not in first["text"]
    assert "\x1b" not in first["text"]
    assert set(first) == {"time", "trial", "kind", "text"}
    assert (told.folder / "notices.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    Notices(tmp_path / "gone", "run-1", None, None, print).add("drift", "text")
    (tmp_path / "notices.jsonl").symlink_to(tmp_path / "elsewhere")
    Notices(tmp_path, "run-1", None, None, print).add("drift", "text")
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "notices.jsonl").unlink()
    os.mkfifo(tmp_path / "notices.jsonl")  # nobody reads it
    Notices(tmp_path, "run-1", None, None, print).add("drift", "text")


@wire
async def test_the_command_gets_each_notice_but_warnings_in_order(told: Told) -> None:
    notices = told.of(COLLECT)
    for kind in ("budget_80", "warning", "spent"):
        notices.add(kind, f"text of {kind}", NANO)
    notices.add("run_done", "over", spent_usd="0.1", trials=[])
    await notices.close(asyncio.Event())
    first, second, last = told.received
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "run_id": "run-1",
        "trial": "nano",
        "model": "m/nano",
        "notice": "budget_80",
        "text": "text of budget_80",
        "spent_usd": "0.123000000001",
        "limit_usd": "0.5",
    }
    assert (second["notice"], last["notice"], last["trial"], last["spent_usd"]) == ("spent", "run_done", None, "0.1")
    assert [each["kind"] for each in told.written] == ["budget_80", "warning", "spent", "run_done"]
    assert told.said == []


@wire
async def test_the_command_has_the_users_variables_but_no_key(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("OPENROUTER_API_KEY", "OPENROUTER_ADMIN_KEY", "OR_ADMIN_KEY", "OR_KEY")
    for name in (*keys, "WEBHOOK", "ORDER", "OR_ELSE"):
        monkeypatch.setenv(name, "value")
    notices = told.of("env -0 > variables")
    notices.add("run_done", "over")
    await notices.close(asyncio.Event())
    names = {each.partition("=")[0] for each in (told.folder / "variables").read_text().split("\0")}
    assert {"WEBHOOK", "ORDER", "OR_ELSE", "PATH"} <= names
    assert not names & set(keys)


@wire
async def test_the_command_may_open_its_input_by_name(told: Told) -> None:
    notices = told.of("cat /dev/stdin >> told.jsonl")
    notices.add("run_done", "over")
    await notices.close(asyncio.Event())
    assert [each["notice"] for each in told.received] == ["run_done"]


@wire
@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("exit 22", "the command ended with exit code 22"),
        ("kill -9 $$", "the command ended with exit code -9"),
        ("no-such-program-of-anyone", "the command ended with exit code 127"),
        ("x" * 200_000, "OSError: [Errno 7] Argument list too long: '/bin/sh'"),
    ],
)
async def test_a_command_that_fails_is_said_once_and_goes_on_to_get_notices(told: Told, command: str, why: str) -> None:
    notices = told.of(f"echo x >> tries; {command}")
    for number in range(3):
        notices.add("spent", f"text {number}")
    await notices.close(asyncio.Event())
    assert told.said == [f"notify: {why}; no further failure of it is printed"]
    assert [each["text"] for each in told.written if each["kind"] == "warning"] == told.said
    if len(command) < 1000:
        assert (told.folder / "tries").read_text() == "x\n" * 3


@wire
async def test_a_command_that_takes_too_long_is_killed_with_what_it_started(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTIFY_S_MAX", 1.0)
    notices = told.of("mkfifo gate; (echo $BASHPID; exec cat gate) & echo $! > pids; cat gate")
    notices.add("spent", "text")
    await notices.close(asyncio.Event())
    assert told.said == ["notify: the command took more than 1 s and was killed; no further failure of it is printed"]
    (child,) = map(int, (told.folder / "pids").read_text().split())
    assert await asyncio.to_thread(is_gone, child)


def is_gone(pid: int) -> bool:
    """Wait until a process that was killed is gone, or only its entry is left for its parent."""
    for _ in range(1000):
        try:
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        threading.Event().wait(0.01)
    return False


@wire
async def test_a_command_that_floods_and_reads_nothing_is_no_trouble(told: Told) -> None:
    notices = told.of("head -c 50000000 /dev/zero; head -c 50000000 /dev/zero >&2; exec <&-; echo x >> tries")
    for _ in range(2):
        notices.add("run_done", "over", trials=["x" * 500_000])
    await notices.close(asyncio.Event())
    assert (told.folder / "tries").read_text() == "x\n" * 2
    assert told.said == []


@wire
async def test_the_end_waits_a_short_time_for_a_slow_command_and_kills_it(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTIFY_END_S", 0.5)
    notices = told.of("echo $$ >> pids; sleep 1000")
    for number in range(NOTICES_WAITING_MAX + 10):
        notices.add("spent", f"text {number}")
    assert told.said == ["notify: it is too slow: notices are dropped; no further failure of it is printed"]
    await notices.close(asyncio.Event())
    assert len(told.said) == 1
    (pid,) = map(int, (told.folder / "pids").read_text().split())
    assert await asyncio.to_thread(is_gone, pid)


@wire
async def test_a_hurry_waits_for_no_command(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOTIFY_END_S", 1000.0)
    notices = told.of("sleep 1000")
    notices.add("spent", "text")
    hurry = asyncio.Event()
    hurry.set()
    await notices.close(hurry)
    assert told.said == [
        "notify: it is too slow: the run is over, and its last notices are dropped; no further failure of it is printed"
    ]


async def test_on_event_gets_notices_as_events_of_the_harness(told: Told) -> None:
    events: list[dict[str, Any]] = []
    notices = told.of(None, events.append)
    notices.add("spent", "text", NANO)
    notices.add("warning", "text", NANO)
    await notices.close(asyncio.Event())
    (event,) = events
    assert (event["type"], event["source"], event["notice"]) == ("preflight_notice", "preflight", "spent")
    assert (event["trial"], event["spent_usd"]) == ("nano", "0.123000000001")


@pytest.mark.parametrize("error", [KeyError("usage"), SystemExit("usage")])
async def test_an_exception_of_on_event_is_said_once(told: Told, error: BaseException) -> None:
    heard: list[str] = []

    def broken(event: dict[str, Any]) -> None:
        heard.append(event["text"])
        raise error

    notices = told.of(None, broken)
    for number in range(3):
        notices.add("spent", f"text {number}")
    await notices.close(asyncio.Event())
    assert heard == ["text 0", "text 1", "text 2"]
    assert told.said == [f"on_event: {type(error).__name__}: {error}; no further failure of it is printed"]


async def test_an_on_event_that_never_returns_does_not_hold_up_the_end(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTIFY_END_S", 0.2)
    over = threading.Event()
    notices = told.of(None, lambda event: over.wait())
    notices.add("spent", "text")
    await notices.close(asyncio.Event())
    over.set()
    assert "its last notices are dropped" in told.said[0]


async def test_a_log_function_that_raises_is_no_trouble(tmp_path: Path) -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError

    notices = Notices(tmp_path, "run-1", None, lambda event: event["no such field"], broken)
    notices.add("spent", "text")
    await notices.close(asyncio.Event())
    assert [each["kind"] for each in lines(tmp_path / "notices.jsonl")] == ["spent", "warning"]


def test_the_end_of_a_run_is_told_with_its_sums_and_statuses() -> None:
    def result(alias: str, **extra: str) -> RunResult:
        return RunResult(alias=alias, model_id="m", budget_usd=0.5, started_at="", finished_at="", preflight=extra)

    amounts = {"posted_usd": "0.10000000001", "pending_usd": "0.02", "limit_usd": "0.5"}
    results = [result("a", status="done", **amounts), result("b", status="failed", **amounts), result("old")]
    text, facts = run_done(results, 2)
    assert text == "the run is over: 1 done, 1 failed, 1 ended, 2 not started; $0.2000 of $1.0000 is spent"
    assert (facts["spent_usd"], facts["pending_usd"], facts["limit_usd"]) == ("0.20000000002", "0.04", "1")
    assert facts["statuses"] == {"done": 1, "failed": 1, "ended": 1, "not started": 2}
    assert facts["trials"][1] == {
        "trial": "b",
        "model": "m",
        "status": "failed",
        "error": None,
        "spent_usd": "0.10000000001",
        "pending_usd": "0.02",
        "limit_usd": "0.5",
    }


@wire
def test_a_run_tells_what_is_spent_who_was_ejected_and_its_end(trials: Field, told: Told) -> None:
    events: list[dict[str, Any]] = []
    sources = {"greedy": f"{SPENDS}\ntime.sleep(60)", "idle": "call(); time.sleep(60)"}
    trials.run(sources, notify=COLLECT, on_event=events.append, budget_usd=0.01, idle_timeout_s=15.0)
    kinds = [(each["trial"], each["notice"]) for each in told.received]
    expected = {("greedy", "budget_80"), ("greedy", "spent"), ("greedy", "ejected"), ("idle", "ejected")}
    assert set(kinds[:-1]) == expected
    assert len(kinds) == len(expected) + 1
    assert kinds[-1] == (None, "run_done")
    heard = [(event["trial"], event["notice"]) for event in events if event["type"] == "preflight_notice"]
    assert heard == kinds
    over = told.received[-1]
    assert over["statuses"] == {"ejected": 2}
    assert [each["spent_usd"] for each in over["trials"]] == [
        trials.summary(alias)["preflight"]["posted_usd"] for alias in ("greedy", "idle")
    ]
    assert all(each["run_id"] == trials.run_dirs[0].name for each in told.received)


@wire
def test_an_agent_that_ends_at_the_first_call_that_does_not_fit_is_noticed_as_spent(trials: Field, told: Told) -> None:
    trials.run({"a": f"call(); call({DEAR_MODEL!r}, max_tokens=10_000)"}, notify=COLLECT, budget_usd=0.01)
    assert trials.summary("a")["preflight"]["status"] == "spent"
    assert [each["notice"] for each in told.received] == ["spent", "run_done"]


@wire
def test_after_a_top_up_the_same_marks_are_noticed_again(trials: Field, told: Told) -> None:
    flag = told.folder / "go"
    waits = f"while not os.path.exists({str(flag)!r}): time.sleep(0.02)"
    source = f"{SPENDS}\nsay('ready')\n{waits}\n{SPENDS}\nsay('ready')"
    options: dict[str, Any] = {"notify": COLLECT, "budget_usd": 0.01, "eject_policy": EjectPolicy()}
    with LiveField(trials, {"a": source}, **options) as live:
        plan = find_planned_run("live", trials.runs_dir)
        asyncio.run(top_up(plan, "a", 10**11, trials.simulator.admin_key, trials.simulator.base_url))
        flag.touch()
        live.results()
    told_of = [(each["notice"], each.get("limit_usd")) for each in told.received]
    assert sorted(told_of[:2]) == [("budget_80", "0.01"), ("spent", "0.01")]
    assert sorted(told_of[2:4]) == [("budget_80", "0.11"), ("spent", "0.11")]


@wire
def test_an_account_without_credit_is_told_with_the_sums_of_the_run(trials: Field, told: Told) -> None:
    trials.simulator.account.credits_usd = trials.simulator.account.used_usd
    trials.run({"a": "call()", "b": "call()"}, notify=COLLECT, max_workers=1)
    assert [each["notice"] for each in told.received] == ["no_credit", "run_done"]
    no_credit, over = told.received
    assert (no_credit["trial"], no_credit["spent_usd"], no_credit["limit_usd"]) == (None, "0", "0.1")
    assert over["statuses"] == {"failed": 1, "not started": 1}


@wire
def test_a_slow_command_and_function_hold_up_no_trial(
    trials: Field, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTIFY_END_S", 0.5)
    (result,) = trials.run({"greedy": SPENDS}, notify="echo $$ >> pids; sleep 1000", budget_usd=0.01)
    assert result.preflight["status"] == "spent"
    (pid,) = map(int, (told.folder / "pids").read_text().split())
    assert is_gone(pid)
    assert any("its last notices are dropped" in line for line in trials.said)


@wire
def test_a_single_trial_tells_too_and_a_key_above_the_ledger_is_drift(
    trials: Field, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_preflight, "get_usage", lambda key: 1.0, raising=False)
    run_container(
        image_name="",
        model_id=MODEL,
        alias="a",
        admin_key=trials.simulator.admin_key,
        budget_usd=0.05,
        run_dir=trials.runs_dir,
        run_id="r",
        sandbox="process",
        command=agent("call()"),
        log_fn=trials.said.append,
        notify=COLLECT,
    )
    assert [(each["trial"], each["notice"], each["run_id"]) for each in told.received] == [
        ("a", "drift", "r"),
        (None, "run_done", "r"),
    ]
    assert [each["kind"] for each in lines(trials.run_dirs[0] / "notices.jsonl")] == ["drift", "run_done"]


@wire
def test_an_unserved_call_is_a_warning_that_is_not_handed_on(trials: Field, told: Told) -> None:
    trials.run({"a": "call('no/such')"}, notify=COLLECT)
    assert [each["notice"] for each in told.received] == ["run_done"]
    written = lines(trials.run_dirs[0] / "notices.jsonl")
    assert [(each["trial"], each["kind"]) for each in written] == [("a", "warning"), (None, "run_done")]
    assert written[0]["text"].startswith("a call to no/such was refused: ")
