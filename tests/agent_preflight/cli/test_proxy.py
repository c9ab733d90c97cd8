"""`agent-preflight proxy`."""

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from openrouter_sim import Simulator
from tests.agent_preflight.cli.served import served


def proxy(tmp_path: Path, *arguments: str, key: str = "sk-or-key") -> Result:
    environment = {"OPENROUTER_API_KEY": key}
    return CliRunner().invoke(app, ["proxy", "--data", str(tmp_path / "data"), *arguments], env=environment)


@pytest.mark.parametrize(
    "arguments", [(), ("--budget", "1", "--account", "a=1"), ("--account", "a"), ("--account", "=1")]
)
def test_a_budget_or_accounts_are_needed_and_not_both(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert proxy(tmp_path, *arguments).exit_code == 2
    assert not (tmp_path / "data").exists()


def test_without_a_key_no_call_could_leave(tmp_path: Path) -> None:
    told = proxy(tmp_path, "--budget", "1", key="")
    assert (told.exit_code, "OPENROUTER_API_KEY" in told.stderr) == (1, True)


@pytest.mark.wire
def test_each_account_has_a_token_and_its_budget(simulator: Simulator, tmp_path: Path) -> None:
    arguments = ("proxy", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    accounts = ("--account", "alice=1.00", "--account", "bob=0.50", "--upstream", simulator.base_url)
    key = simulator.inference_key
    with served(tmp_path / "ready.json", *arguments, *accounts, OPENROUTER_API_KEY=key) as running:
        token = running.ready["accounts"]["bob"]["api_key"]
        url, headers = f"{running.ready['base_url']}/key", {"Authorization": f"Bearer {token}"}
        assert httpx.get(url, headers=headers, trust_env=False).json()["data"]["limit"] == 0.5
        assert httpx.get(url, headers={"Authorization": f"Bearer {key}"}, trust_env=False).status_code == 401
    assert running.code == 0
    assert token in running.stdout
    assert key not in running.stdout
