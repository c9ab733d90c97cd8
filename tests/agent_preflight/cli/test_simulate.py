"""`agent-preflight simulate`."""

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from agent_preflight.cli import app
from tests.agent_preflight.cli.test_proxy import served


def test_an_address_that_is_none_is_a_sentence() -> None:
    told = CliRunner().invoke(app, ["simulate", "--listen", "nowhere"])
    assert told.exit_code == 1
    assert "HOST:PORT" in told.stderr


@pytest.mark.wire
def test_it_serves_and_its_ready_file_has_both_keys(tmp_path: Path) -> None:
    with served(tmp_path / "ready.json", {}, "simulate", "--listen", "127.0.0.1:0") as ready:
        assert {"base_url", "admin_key", "inference_key", "pid"} <= ready.keys()
        headers = {"Authorization": f"Bearer {ready['inference_key']}"}
        with httpx.Client(headers=headers, trust_env=False) as client:
            assert client.get(f"{ready['base_url']}/key").status_code == 200
