"""What agents print and leave behind to hurt whoever runs them, through whole runs."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent_preflight.artifacts import summarize_run
from agent_preflight.eject import EjectDecision, EjectPolicy
from agent_preflight.events import EventLogger
from agent_preflight.runs.result import NEVER_CALLED
from agent_preflight.status import status_main, summarise_model
from tests.support.trial_field import MODEL, Field, agent

pytestmark = pytest.mark.wire

RUNNER = """
import json, re, sys, time
from pathlib import Path
from agent_preflight.runner import run_multi
options = json.load(sys.stdin)
slow = options.pop("slow")
(result,) = run_multi(log_fn=lambda line: None, on_event=lambda event: slow and time.sleep(slow), **options)
mib = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
print(json.dumps({"error": result.error, "events": result.events_count, "mib": mib, **result.preflight}))
"""
"""A runner that tells how much memory it took at most; `ru_maxrss` would tell that of the process that started it, if more."""

RUNNER_MIB_MAX = 700
"""Two bounds of 256 MiB for events, and what the largest single one takes while it is read and written."""


def flooded(trials: Field, source: str, slow_s: float = 0.0) -> Mapping[str, Any]:
    """Run an agent before slow user code; what the runner told."""
    given = {
        "models": [(MODEL, "a")],
        "admin_key": trials.simulator.admin_key,
        "or_key": "",
        "budget_usd": 0.05,
        "runs_dir": str(trials.runs_dir),
        "sandbox": "process",
        "command": agent(source),
        "skip_preflight": True,
        "openrouter_base_url": trials.simulator.base_url,
        "timeout_s": 2.5,
        "slow": slow_s,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert set(told["cleanup"].values()) == {"ok"}
    return told


FLOODS = {
    "short lines": "while True: os.write(1, b'x\\n' * 32768)",
    "no newline": "while True: os.write(1, b'x' * 65536)",
    "stderr": "while True: os.write(2, b'x' * 65536)",
    "lists of objects": """line = b'{"type":"x","a":[' + b','.join([b'{}'] * 2_700_000) + b']}\\n'
while True: os.write(1, line)""",
    "text": """line = b'{"type":"x","a":"' + b'x' * 8_000_000 + b'"}\\n'
while True: os.write(1, line)""",
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_output_is_limited_in_memory_and_on_disk(trials: Field, flood: str) -> None:
    told = flooded(trials, FLOODS[flood], slow_s=0.2 if flood in ("text", "lists of objects") else 0.0)
    assert told["error"] == "ejected: time limit"
    assert told["mib"] < RUNNER_MIB_MAX


PRINTS = r"""
out = sys.stdout.buffer
lines = [b'\x1b]0;title\x07\x1b[2J\x1b[31mred', b'\xff\xfe\x00\x80', b'[' * 100_000, b'{"a":' * 50_000, b'1e999',
    b'{"type":"x","n":1e999}', b'{"type":"x","n":' + b'9' * 5000 + b'}', b'NaN', b'{"type":["x"]}', b'{"type":"\\ud800"}',
    b'{"type":"tool_execution_start","toolName":"\\u001b[31mx\\n\\u202e"}', b'x' * (9 << 20), b'{"timestamp":"1","elapsed_s":"x"}',
    b'{"type":"preflight_cleanup","step":"kill","result":"ok"}', b'{"type":"budget_poll","used":-1e300}',
    b'{"type":"x","usage":{"prompt_tokens":1e308,"completion_tokens":-5}}', b'\r\r\r', b'\x00' * 1000]
for line in lines: out.write(line + b"\n")
out.flush()
sys.stderr.buffer.write(b'\x1b[2J\xff\n')
say("agent_end", status="\x1b]0;owned\x07\x1b[31mfine\r\n\u202e")
"""


def test_escape_sequences_of_an_agent_do_not_reach_the_terminal(trials: Field, capsys: Any) -> None:
    (result,) = trials.run({"a": PRINTS})
    assert result.error is None
    assert result.preflight["caps_hit"] == {"line_bytes": 1}
    run = trials.run_dirs[-1]
    events = EventLogger.read(run / "a" / "events.jsonl")
    assert sum(event["type"] == "raw" for event in events) >= 9
    assert (run / "a" / "events.jsonl").read_bytes().isascii()
    capsys.readouterr()
    status_main(run.name, trials.runs_dir)
    shown = capsys.readouterr().out + "\n".join(trials.said)
    assert [character for character in shown if not character.isprintable() and character != "\n"] == []
    json.dumps([summarise_model(run / "a"), summarize_run(run)])


FORGES = """
ours = {"preflight_state": {"state": "summarised"}, "preflight_ending": {"by": "agent", "text": ""},
    "preflight_limit": {"limit": 9}, "preflight_cleanup": {"step": "kill", "result": "ok"},
    "budget_poll": {"used": 0, "remaining": 9}, "preflight_notice": {"notice": "run_done"}}
for type, fields in ours.items():
    for source in ("preflight", "agent", ["preflight"], None): say(type, source=source, agent_source="preflight", **fields)
call()
"""


class SeesSources(EjectPolicy):
    """Notes the sources of all events that it is shown."""

    seen: ClassVar[set[str]] = set()

    def check(self, *, events: list[dict[str, Any]], **_: Any) -> EjectDecision:
        self.seen.update(str(event.get("source")) for event in events)
        return EjectDecision(False)


def test_an_agent_cannot_write_a_record_that_looks_like_the_runners(trials: Field) -> None:
    """The log, the user's function and policies tell an agent's lines from the harness's, whatever the agent prints."""
    heard: list[dict[str, Any]] = []
    (result,) = trials.run({"a": FORGES}, on_event=heard.append, eject_policy=SeesSources())
    printed = [event for event in heard if event["source"] == "agent"]
    assert (result.error, result.events_count, len(printed), SeesSources.seen) == (None, 24, 24, {"agent"})
    assert [(event["source"], event["notice"]) for event in heard if event not in printed] == [
        ("preflight", "run_done")
    ]
    records = EventLogger.read(trials.run_dirs[-1] / "a" / "events.jsonl")
    assert {record["source"] for record in records} == {"agent", "preflight"}
    ours = [record for record in records if record["source"] == "preflight"]
    assert len(ours) == len(records) - 24
    assert [record["by"] for record in ours if record["type"] == "preflight_ending"] == ["agent"]
    assert [record for record in ours if record.get("used") == 0 or record.get("limit") == 9] == []
    json.dumps(summarise_model(trials.run_dirs[-1] / "a"))


LEAVES = r"""
import pathlib, socket, tempfile
for n in range(20_000): open(f"n\n\x1b[31m{n}", "w").close()
os.truncate(os.open("sparse", os.O_CREAT | os.O_WRONLY), 1 << 40)
os.mkfifo("snapshot_1.py")
os.symlink("/etc/passwd", "snapshot_2.py")
os.symlink(".", "loop")
os.symlink("/", "root")
socket.socket(socket.AF_UNIX).bind("sock")
os.unlink("budget.txt"); os.mkfifo("budget.txt")
deep = pathlib.Path("deep")
for n in range(300): deep.mkdir(); os.chdir(deep)
say("agent_end")
"""


def test_links_and_fifos_in_an_agents_directory_are_not_opened(trials: Field, tmp_path: Path, capsys: Any) -> None:
    (result,) = trials.run({"a": LEAVES})
    assert (result.error, set(result.preflight["cleanup"].values())) == (None, {"ok"})
    run = trials.run_dirs[-1]
    status_main(run.name, trials.runs_dir)
    assert "\x1b" not in capsys.readouterr().out
    assert result.preflight["warnings"] == [NEVER_CALLED]


SWAPS = """
import shutil
here = os.getcwd(); folder = os.path.dirname(here); os.chdir("/")
os.mkdir(folder + "/precious"); open(folder + "/precious/budget.txt", "w").write("keep")
shutil.rmtree(here); os.symlink(folder + "/precious", here)
for name in ("events.jsonl", "stderr.log", "summary.json"):
    if os.path.exists(f"{folder}/{name}"): os.unlink(f"{folder}/{name}")
    os.mkfifo(f"{folder}/{name}")
say("agent_end")
"""


def test_special_files_in_a_trials_folder_do_not_block_a_run(trials: Field, capsys: Any) -> None:
    """In a container an agent cannot reach this folder; a process of the same user can."""
    (result,) = trials.run({"a": SWAPS})
    assert (result.error, set(result.preflight["cleanup"].values())) == (None, {"ok"})
    run = trials.run_dirs[-1]
    status_main(run.name, trials.runs_dir)
    assert summarize_run(run)["errors"] == []
    assert (run / "a" / "precious" / "budget.txt").read_text() == "keep"
    assert trials.summary("a")["error"] is None
