"""`agent-preflight quarantine`."""

import json
from pathlib import Path

import pytest

from preflight_proxy.base.config import origin
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from preflight_proxy.ledger.quarantine_file import QuarantineFile
from tests.support.cli_commands import CommandResult, invoke
from tests.support.live_field import LiveField
from tests.support.trial_field import Field


@pytest.fixture(autouse=True)
def own_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's list lies in the test's folder, with one endpoint on it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    row = QuarantinedEndpoint("openai/gpt-4.1-nano", "azure", "billed $2 for a reservation of $1", 1_800_000_000.0)
    QuarantineFile(tmp_path / "agent-preflight" / "quarantine.jsonl").add(row)


def quarantine(tmp_path: Path, *arguments: str) -> CommandResult:
    return invoke("quarantine", *arguments, "--runs-dir", str(tmp_path / "runs"))


def test_it_lists_what_when_and_why(tmp_path: Path) -> None:
    told = quarantine(tmp_path)
    assert "openai/gpt-4.1-nano  azure  since 2027-01-15T08:00:00+00:00  billed $2" in told.output
    assert json.loads(quarantine(tmp_path, "--json").stdout)["tag"] == "azure"


def test_an_endpoint_is_cleared_once(tmp_path: Path) -> None:
    first, second = (quarantine(tmp_path, "--clear", "openai/gpt-4.1-nano", "azure") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 1)
    assert "cleared" in first.output
    assert "was not on the list" in second.output
    assert quarantine(tmp_path).output == "No endpoint is quarantined.\n"


def test_another_upstreams_endpoint_is_shown_with_it_and_cleared_by_it(tmp_path: Path) -> None:
    upstream = "http://127.0.0.1:9"
    QuarantineFile(tmp_path / "agent-preflight" / "quarantine.jsonl").add(
        QuarantinedEndpoint("openai/gpt-4.1-nano", "azure", "billed more", 1_800_000_000.0, upstream)
    )
    assert f"azure  of {upstream}  since" in quarantine(tmp_path).output
    assert [json.loads(line)["upstream"] for line in quarantine(tmp_path, "--json").stdout.splitlines()] == [
        upstream,
        "https://openrouter.ai",
    ]
    clear = ("--clear", "openai/gpt-4.1-nano", "azure")
    assert quarantine(tmp_path, *clear, "--upstream", f"{upstream}/api/v1").exit_code == 0
    assert upstream not in quarantine(tmp_path).output
    assert "azure" in quarantine(tmp_path).output
    missed = quarantine(tmp_path, *clear, "--upstream", f"{upstream}/api/v1")
    assert (missed.exit_code, f"was not on the list for {upstream}" in missed.output) == (1, True)


@pytest.mark.wire
def test_a_live_run_may_use_it_at_once(trials: Field, tmp_path: Path) -> None:
    upstream = trials.simulator.base_url
    QuarantineFile(tmp_path / "agent-preflight" / "quarantine.jsonl").add(
        QuarantinedEndpoint("openai/gpt-4.1-nano", "openai", "billed more", 1_800_000_000.0, origin(upstream))
    )
    QuarantineFile(tmp_path / "agent-preflight" / "quarantine.jsonl").add(
        QuarantinedEndpoint("openai/gpt-4.1-nano", "azure", "billed more", 1_800_000_000.0, origin(upstream))
    )
    flag = tmp_path / "go"
    source = f"""
        say('ready', status=call()[0])
        while not os.path.exists({str(flag)!r}): time.sleep(0.02)
        say('agent_end', status=call()[0])
    """
    with LiveField(trials, {"a": source}) as live:
        clear = ("--clear", "openai/gpt-4.1-nano", "openai", "--json")
        elsewhere = quarantine(tmp_path, *clear, "--upstream", "https://openrouter.ai/api/v1")
        told = quarantine(tmp_path, *clear)  # OPENROUTER_BASE_URL names the simulator
        flag.touch()
        assert json.loads(elsewhere.stdout) == {"cleared": False, "proxies": []}
        assert json.loads(told.stdout) == {"cleared": True, "proxies": [str(live.run_dir)]}
        live.results()
    events = [json.loads(line) for line in (live.run_dir / "a" / "events.jsonl").read_text().splitlines()]
    statuses = [event["status"] for event in events if "status" in event]
    assert statuses[1] == 200
    assert statuses[0] != 200
