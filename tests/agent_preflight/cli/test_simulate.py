"""`agent-preflight simulate`."""

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from agent_preflight.cli import app
from tests.agent_preflight.cli.served import served

pytestmark = pytest.mark.wire


def test_it_serves_until_sigterm_and_says_where_and_with_which_keys(tmp_path: Path) -> None:
    with served(tmp_path / "ready.json", "simulate", "--listen", "127.0.0.1:0") as simulator:
        headers = {"Authorization": f"Bearer {simulator.ready['admin_key']}"}
        assert httpx.get(f"{simulator.ready['base_url']}/keys", headers=headers, trust_env=False).status_code == 200
    assert simulator.code == 0
    for name in ("base_url", "admin_key", "inference_key"):
        assert simulator.ready[name] in simulator.stdout


def test_a_scenario_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("tokens_per_s = ")
    told = CliRunner().invoke(app, ["simulate", "--listen", "127.0.0.1:0", "--scenario", str(tmp_path / "bad.toml")])
    assert told.exit_code == 1
    assert told.stderr.startswith("simulate: ")
    assert told.stderr.count("\n") == 1
