"""`agent-preflight run`: its options; runs from them are tested with `command_run`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_preflight.cli import app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_an_admin_key_it_names_the_variable() -> None:
    env = {"OR_ADMIN_KEY": None, "OPENROUTER_ADMIN_KEY": None}
    told = CliRunner().invoke(app, ["run", "--model", "m/m", "--image", "i"], env=env)
    assert told.exit_code == 1
    assert "OR_ADMIN_KEY" in told.stderr


def test_a_sandbox_that_is_none_is_a_bad_option() -> None:
    assert CliRunner().invoke(app, ["run", "--sandbox", "vm"]).exit_code == 2
