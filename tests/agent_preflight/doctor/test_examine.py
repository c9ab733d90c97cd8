"""The whole examination."""

import pytest

from agent_preflight.config import Environment
from agent_preflight.doctor.examine import examine, variable_lines
from agent_preflight.doctor.section import document
from openrouter_sim import Simulator
from preflight_proxy.core.secret import Secret


def test_keys_are_said_to_be_set_and_never_shown() -> None:
    lines = variable_lines(Environment(admin_key=Secret("sk-or-secret"), base_url="http://x/api/v1"))
    assert [line.ok for line in lines] == [True, None, True]
    assert "sk-or" not in str(lines)


@pytest.mark.wire
def test_it_looks_at_everything_and_asks_for_the_time(simulator: Simulator) -> None:
    told: list[str] = []
    sections = examine(containers=False, tell=told.append)
    assert told == []
    titles = [section.title for section in sections]
    assert titles[:5] == ["Installation", "Environment", "System", "Containers", "Networks"]
    names = [row["name"] for rows in document(sections)["sections"].values() for row in rows]
    assert {"Python", "Package", "Open files", "Clock", "Docker", "sealed", "a second dockerd"} <= set(names)
    offline = document(examine(containers=False, clock=False))["sections"]["System"]
    assert "Clock" not in [row["name"] for row in offline]
