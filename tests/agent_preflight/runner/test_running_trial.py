"""A running trial."""

import asyncio
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.eject import EjectDecision, EjectPolicy
from agent_preflight.runner import output
from agent_preflight.runner import watch as watch_module
from agent_preflight.runner.api import request_of
from agent_preflight.runner.loop import StopSignal
from agent_preflight.runner.notices import Notices
from agent_preflight.runner.preparation import SandboxSetup, trials_of
from agent_preflight.runner.progress import RunProgress, TrialProgress
from agent_preflight.runner.running_trial import GATE_BACK_S_MAX, MissingGate, RunContext, RunningTrial, TrialLogs
from agent_preflight.runs.folder import open_new
from agent_preflight.runs.plan import policy_for_trial
from agent_preflight.sandboxes.process import ProcessSandbox
from agent_preflight.sidecar.keeper import Sidecar
from preflight_proxy.base.config import Config
from preflight_proxy.base.control_messages import Balance, LedgerEvent
from tests.support.trial_field import MODEL, Field, agent


def test_a_gate_that_does_not_come_back_to_a_restarted_proxy_is_lost() -> None:
    absence = MissingGate()
    late_s = GATE_BACK_S_MAX + 1.0
    assert not absence.is_too_long("ready", 0.0)
    assert not absence.is_too_long("waiting", 100.0)
    assert not absence.is_too_long("ready", 100.0 + late_s)
    assert not absence.is_too_long("waiting", 200.0)
    assert not absence.is_too_long("waiting", 200.0 + GATE_BACK_S_MAX)
    assert absence.is_too_long("waiting", 200.0 + late_s)


def test_a_trial_without_a_gate_has_no_missing_gate() -> None:
    absence = MissingGate()
    assert not absence.is_too_long(None, 0.0)
    assert not absence.is_too_long(None, 1000.0)


RUNNER = """
import json, resource, sys
from agent_preflight.runner import run_multi
options = json.load(sys.stdin)
def fill(event):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if event["type"] == "full":
        open(event["marker"], "w").close()  # a file without a byte can be made
(result,) = run_multi(log_fn=lambda line: None, on_event=fill, **options)
print(json.dumps({"error": result.error, **result.preflight}))
"""
"""A runner whose files take not another byte from its agent's first event on: what a full disk does."""

FULL = """
call(); say("full", marker=os.path.abspath("full"))
while not os.path.exists("full"): time.sleep(0.01)
for _ in range(50): say("more")
call(); sys.exit(3)
"""
"""An agent that goes on once the disk is full."""


def test_the_logs_of_a_trial_are_private(tmp_path: Path) -> None:
    with TrialLogs(tmp_path) as records:
        records.log("x")
        records.line("said")
    assert records.lost == 0
    assert [record["type"] for record in TrialLogs.read(records.path)] == ["x"]
    assert (tmp_path / "run.log").read_text() == "said\n"
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_every_record_has_its_source(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with TrialLogs(tmp_path) as records:
        records.log("preflight_state", state="running")
        records.record({"type": "x", "source": "agent", "deep": deep})
    while deep:
        deep = deep[0]
    ours, theirs = TrialLogs.read(records.path)
    assert (ours["source"], ours["state"], theirs["source"], theirs["unreadable"]) == (
        *("preflight", "running"),
        *("agent", "RecursionError"),
    )


@pytest.mark.wire
def test_on_a_full_disk_log_lines_are_lost_but_the_clean_up_is_complete(trials: Field) -> None:
    given = {
        "models": [(MODEL, "a")],
        "admin_key": trials.simulator.admin_key,
        "or_key": "",
        "budget_usd": 0.05,
        "runs_dir": str(trials.runs_dir),
        "sandbox": "process",
        "command": agent(FULL),
        "skip_preflight": True,
        "openrouter_base_url": trials.simulator.base_url,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert (found["error"], found["calls"]) == ("the agent ended with exit code 3", 2)
    assert set(found["cleanup"].values()) == {"ok"}
    assert found["caps_hit"]["log_lines"] > 50
    assert not (trials.run_dirs[-1] / "a" / "summary.json").exists()


EVENTS = 2000


class Looking(EjectPolicy):
    """Looks at the events, as a policy of a script may, and ends nothing."""

    def check(self, *, events: list[dict[str, Any]], **_: Any) -> EjectDecision:
        return EjectDecision(len(events) > 10**9)


@pytest.mark.parametrize("policy", [None, Looking()], ids=["counted", "looked at"])
async def test_lines_and_ledger_events_without_end_leave_nothing_in_memory(
    policy: EjectPolicy | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is another: its text, its tool, its usage, its balance, the cause of a refusal. What grows leaves a piece each."""
    monkeypatch.setattr(watch_module, "AGENT_EVENTS_KEPT", 100)
    monkeypatch.setattr(output, "GATHER_S", 0.0)
    options = {
        "models": [(MODEL, "a")],
        "admin_key": "k",
        "or_key": "k",
        "budget_usd": 1,
        "runs_dir": tmp_path / "runs",
    }
    more = {"sandbox": "process", "command": ["true"], "skip_preflight": True, "log_fn": lambda line: None}
    request, upstream = request_of({**options, **more, "eject_policy": policy}), "http://127.0.0.1:1/api/v1"
    with open_new(tmp_path / "runs", "r") as folder:
        (plan,), progress = trials_of(request, "r"), RunProgress()
        progress.put(TrialProgress(plan.alias, plan.model_id, plan.limit_pusd))
        config = Config(data=str(folder.path), upstream=upstream)
        sidecar = Sidecar(config, folder.short_dir, _ignore, _ignore, _ignore)
        of_run = RunContext(request, "r", folder, StopSignal(), progress, upstream)
        of_run.sidecar, of_run.setup, of_run.authority = sidecar, SandboxSetup(ProcessSandbox), None
        of_run.notices = Notices(folder.path, "r", None, None, _ignore)
        trial = RunningTrial(plan, 0, policy_for_trial(policy, 1e9), of_run)
        trial.started()
        stream = asyncio.StreamReader()
        reading = trial.tasks.spawn(trial.output.read_stdout(stream), "stdout")
        watching = trial.tasks.spawn(trial.watch.run("watch"), "watch")

        async def pieces_after(first: int) -> int:
            for number in range(first, first + EVENTS):
                tool = {"type": "tool_use", "id": f"t{number}", "name": f"tool {number}"}
                usage = {"input_tokens": number, "output_tokens": 1}
                message = {"id": f"m{number}", "content": [tool], "usage": usage}
                stream.feed_data(
                    json.dumps({"type": "assistant", "session_id": "s", "message": message}).encode() + b"\n"
                )
                balance = Balance(limit_pusd=10**12, posted_pusd=number, calls=number, as_of=number)
                trial.on_ledger_event(LedgerEvent(type="settled", seq=number, balance=balance, digest=f"d{number}"))
                cause = LedgerEvent(
                    type="unserved", seq=number, code=f"c{number}", source="upstream", text=f"text {number}", model="m"
                )
                trial.on_ledger_event(cause)
                if number % 50 == 49:
                    while (
                        trial.output.events_count < 3 * (number + 1) or trial.watch._count_in > trial.watch._count_out
                    ):
                        await asyncio.sleep(0)
            gc.collect()
            return sys.getallocatedblocks()

        await pieces_after(0)  # what is remembered up to a limit has reached it
        pieces = await pieces_after(EVENTS)
        assert await pieces_after(2 * EVENTS) - pieces < EVENTS / 10
        assert trial.watch.dropped == 0
        stream.feed_eof()
        await reading
        trial.watch.close()
        assert await watching is None
        await trial.tasks.cancel()
        trial.events.close()


def _ignore(_: object) -> None: ...
