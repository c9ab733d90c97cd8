"""`agent-preflight demo`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_preflight.cli import app

pytestmark = pytest.mark.wire


def test_a_place_that_is_none_is_exit_code_2() -> None:
    assert CliRunner().invoke(app, ["demo", "--sandbox", "moon"]).exit_code == 2


def test_four_agents_run_and_two_books_agree(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["demo", "--sandbox", "process", "--runs-dir", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert "They agree to the pico-dollar." in told.output
