"""`agent-preflight run`, from a file and from options, before a simulated OpenRouter."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import agent_preflight
from agent_preflight.cli import app
from openrouter_sim import FaultRule, Scenario, Simulator, make_fault
from tests.support.terminal import Terminal

pytestmark = pytest.mark.wire

AGENT = """
import json, os, sys, urllib.request
body = {"model": os.environ["PREFLIGHT_MODEL"], "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
headers = {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}
url = os.environ["OPENROUTER_BASE_URL"] + "/chat/completions"
urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()
print(json.dumps({"type": "agent_end", "said": sys.argv[1:], "task": os.environ.get("TASK")}))
"""
CONFIG = """
sandbox = "process"
command = ["{python}", "{agent}"]
arguments = ["--from-file"]
models = ["openai/gpt-4.1-nano=nano", {{ id = "openai/gpt-4.1-mini", alias = "mini", budget = 0.02 }}]
budget = 0.01

[env]
TASK = "file"

[preflight]
checks = ["math", "models"]
"""


@pytest.fixture
def folder(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a configuration, and keys in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OR_ADMIN_KEY", simulator.admin_key)
    monkeypatch.setenv("OPENROUTER_API_KEY", simulator.inference_key)
    agent = tmp_path / "agent.py"
    agent.write_text(AGENT)
    (tmp_path / "preflight.toml").write_text(CONFIG.format(python=sys.executable, agent=agent))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["run", *arguments])


def events(folder: Path, alias: str) -> dict[str, object]:
    (path,) = folder.glob(f"runs/*/{alias}/events.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return next(record for record in records if record["type"] == "agent_end")


def test_a_file_is_enough(folder: Path) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert f"Configured by {folder / 'preflight.toml'}" in result.output
    assert "Provisioning budget" in result.output
    assert (events(folder, "mini")["said"], events(folder, "mini")["task"]) == (["--from-file"], "file")
    (plan,) = folder.glob("runs/*/plan.json")
    budgets = {trial["alias"]: trial["budget_usd"] for trial in json.loads(plan.read_text())["trials"]}
    assert budgets == {"nano": "0.01", "mini": "0.02"}


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (100, 50), (60, 60)])
def test_on_a_terminal_the_checks_stand_whole_above_the_table_and_nothing_else_is_left(
    folder: Path, columns: int, rows: int
) -> None:
    """The live table comes once there is something to follow, and goes without a trace."""
    terminal = Terminal(columns, rows)
    code = terminal.run([sys.executable, "-m", "agent_preflight", "run"])
    lines = terminal.lines()
    assert code == 0, lines
    checks, end = (lines.index(text) for text in ("  PREFLIGHT CHECKS", "  All preflight checks passed."))
    assert any("Provisioning budget" in line for line in lines[checks:end])
    assert [n for n, line in enumerate(lines) if line.startswith("trial ")] == [end + 2]
    assert [line.split()[0] for line in lines[end + 3 : end + 6]] == ["nano", "mini", "TOTAL"]
    for text in ("PREFLIGHT CHECKS", "Provisioning budget", "TOTAL", "files: "):
        assert sum(text in line for line in lines) == 1, text
    assert not [line for line in lines if "Ctrl-C" in line]
    assert "\x1b[32mv" in terminal.shown
    assert terminal.shown.index("All preflight checks passed.") < terminal.shown.index("\x1b[1mtrial")
    assert "press Ctrl-C to stop it" in " ".join(terminal.shown.split())


@pytest.mark.parametrize("columns", [62, 63, 64, 65, 73, 74, 75, 76])
def test_a_ctrl_c_leaves_nothing_of_the_live_table(folder: Path, columns: int) -> None:
    """The terminal itself writes `^C` behind the table's last line."""
    (folder / "agent.py").write_text("import time\ntime.sleep(60)")
    terminal = Terminal(columns, 30)
    code = terminal.run([sys.executable, "-m", "agent_preflight", "run", "--run-id", "r"], interrupt_at="running")
    lines = terminal.lines()
    assert code == 130, lines
    assert sum(line.startswith("trial ") for line in lines) == 1, lines
    assert not [line for line in lines if "another terminal" in line], lines
    assert sum("Stopping: no new trial" in line for line in lines) == 1, lines


def test_an_agents_input_is_kept_open_where_an_option_says_so(folder: Path) -> None:
    (folder / "agent.py").write_text("import select, sys\nprint(select.select([sys.stdin], [], [], 1.0)[0] == [])")
    assert run("--stdin", "open", "--model", "openai/gpt-4.1-nano=open").exit_code == 0
    assert run("--model", "openai/gpt-4.1-nano=auto").exit_code == 0
    said = {path.parent.name: path.read_text() for path in folder.glob("runs/*/*/events.jsonl")}
    assert ('"data": "True"' in said["open"], '"data": "False"' in said["auto"]) == (True, True)


def test_options_win_and_json_has_standard_output_for_itself(folder: Path) -> None:
    result = run(
        "--json", "--model", "openai/gpt-4.1-nano=x", "--budget", "0.03", "--env", "TASK=option", "--", "--own"
    )
    assert result.exit_code == 0, result.output
    (summary,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (summary["alias"], summary["preflight"]["limit_usd"], summary["error"]) == ("x", "0.03", None)
    assert (events(folder, "x")["said"], events(folder, "x")["task"]) == (["--own"], "option")
    assert "Provisioning budget" in result.stderr


SPENDER = """
import json, os, sys, urllib.error, urllib.request
def call(model, text):
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 20}
    headers = {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["OPENROUTER_BASE_URL"] + "/chat/completions"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()
if "nothing" in sys.argv: sys.exit(0)
if "cheap" in sys.argv: call(os.environ["PREFLIGHT_MODEL"], "hi")
call("anthropic/claude-sonnet-4.5", "x" * 50_000)
"""


@pytest.mark.parametrize(
    ("kind", "code", "status", "said"),
    [
        ("cheap", 0, "spent", "the budget of $0.01 is spent: it did not cover the last call"),
        ("dear", 1, "failed", "the budget of $0.01 covers no call"),
        ("nothing", 0, "done", "the agent made no call: does it read OPENROUTER_BASE_URL?"),
    ],
)
def test_the_exit_code_and_the_table_tell_what_became_of_the_calls(
    folder: Path, kind: str, code: int, status: str, said: str
) -> None:
    (folder / "agent.py").write_text(SPENDER)
    result = run("--model", "openai/gpt-4.1-nano=a", "--", kind)
    assert result.exit_code == code, result.output
    (row,) = [line for line in result.output.splitlines() if line.startswith("a ")]
    assert status in row.split()
    assert said in " ".join(result.output.split())
    (path,) = folder.glob("runs/*/a/summary.json")
    assert json.loads(path.read_text())["preflight"]["status"] == status


def test_an_account_without_credit_ends_the_run_with_1_and_says_how_it_goes_on(
    folder: Path, simulator: Simulator
) -> None:
    simulator.account.credits_usd = simulator.account.used_usd
    first = run("--run-id", "r", "--max-workers", "1", "--skip-preflight")
    assert first.exit_code == 1, first.output
    assert "the OpenRouter account has no credit" in first.output
    assert "agent-preflight run --resume r" in first.output
    assert not (folder / "runs" / "r" / "mini").exists()
    simulator.account.credits_usd += 10
    again = run("--resume", "r", "--max-workers", "1", "--skip-preflight")
    assert again.exit_code == 0, again.output
    for alias in ("nano", "mini"):
        assert json.loads((folder / "runs" / "r" / alias / "summary.json").read_text())["preflight"]["served"] == 1


def test_a_run_whose_trials_did_well_is_not_complete_if_others_were_held_back(
    folder: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    broke = make_fault("http_error", {"status": 402, "message": "Insufficient credits. Add more"})
    simulator.scenario = Scenario(faults=(FaultRule(broke, after=1),))
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda key: (0.0, 1.0, 1.0), raising=False)
    once_more = "urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers))"
    (folder / "agent.py").write_text(f"{AGENT}\ntry: {once_more}\nexcept OSError: pass\n")
    result = run("--run-id", "r", "--max-workers", "1", "--skip-preflight")
    summary = json.loads((folder / "runs" / "r" / "nano" / "summary.json").read_text())
    assert (summary["error"], summary["preflight"]["served"]) == (None, 1)
    assert "had no model at its end" in " ".join(result.output.split())
    assert result.exit_code == 1, result.output


def test_a_mistake_in_the_file_starts_nothing(folder: Path) -> None:
    (folder / "preflight.toml").write_text("modls = []")
    result = run()
    assert result.exit_code == 1
    assert "do you mean 'models'?" in result.stderr
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("arguments", [("--service", "los"), ("--run-id", "a", "--resume", "b")])
def test_an_option_of_another_form_is_a_usage_error(folder: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_options_of_containers_are_named_where_there_are_none(folder: Path) -> None:
    result = run("--memory", "1g", "--network", "sealed")
    assert result.exit_code == 0, result.output
    assert "  [!] Sandbox  not used with --sandbox process: network, memory\n" in result.output
    assert "not used" not in run().output
