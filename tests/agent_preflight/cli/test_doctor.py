"""`agent-preflight doctor`."""

import json

import pytest
from typer.testing import CliRunner

from agent_preflight.cli import app

pytestmark = pytest.mark.wire


def test_it_explains_in_sections() -> None:
    told = CliRunner().invoke(app, ["doctor", "--offline", "--no-containers"])
    assert told.exit_code == 0, told.output
    assert "\nNetworks\n" in told.output
    assert "[v] processes" in told.output


def test_for_machines_it_is_one_object() -> None:
    told = CliRunner().invoke(app, ["doctor", "--offline", "--no-containers", "--json"])
    assert json.loads(told.stdout)["ok"] is True


def test_a_clock_that_cannot_be_compared_is_exit_code_1() -> None:
    told = CliRunner().invoke(
        app, ["doctor", "--no-containers"], env={"OPENROUTER_BASE_URL": "http://127.0.0.1:9/api/v1"}
    )
    assert told.exit_code == 1
    assert "[x] Clock" in told.output


@pytest.mark.docker
def test_where_an_engine_answers_a_gate_is_tried() -> None:
    told = CliRunner().invoke(app, ["doctor", "--offline"])
    assert "trying both kinds of gate" in told.output
    assert "[v] shared gate  possible: its listeners arrived" in told.output
    assert "[v] portable gate  possible: its listeners arrived" in told.output
