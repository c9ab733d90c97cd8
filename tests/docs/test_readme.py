"""README is true: its commands run from top to bottom in a fresh folder, and print what it shows."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.walk import REASON, checkout, compared, here, steps, surroundings, walk

README = ROOT / "README.md"
WALK_S_MAX = 580
"""Packages are installed, images built and eight agents run; five minutes on a slow machine."""


@pytest.mark.docker
@pytest.mark.timeout(WALK_S_MAX)
def test_each_command_of_the_readme_works_and_prints_what_is_shown(tmp_path: Path) -> None:
    """Against the simulator, in a copy of this checkout, with nothing set but the base image that stands for python:3.12-slim."""
    environment = surroundings(tmp_path)
    wrong: list[str] = []
    ran = 0
    for each in walk(README.read_text("utf-8"), checkout(tmp_path), environment, here(environment)):
        ran += 1
        missing = [] if each.step.printed is None else compared(each.step.printed, each.output)[1]
        if each.failed or missing:
            wrong.append(f"line {each.step.line}: missing {missing}; printed:\n{each.output}")
    assert wrong == [], "\n".join(wrong)
    assert ran == sum(not step.path for step in steps(README.read_text("utf-8")))


def test_what_of_the_readme_is_not_run_says_why() -> None:
    """Only what needs an account, or the internet beyond package indexes."""
    reasons = [found["why"] for found in REASON.finditer(README.read_text("utf-8"))]
    assert reasons == [
        "the test's machine has another Python image, named in PREFLIGHT_GATE_BASE",
        "it spends real money",
    ]


def test_the_readme_shows_what_its_commands_print() -> None:
    """Most blocks of commands have their output beneath."""
    shown = [step for step in steps(README.read_text("utf-8")) if not step.path]
    assert len(shown) >= 10
    assert sum(step.printed is not None for step in shown) >= len(shown) // 2
    assert all(step.printed is None or step.printed.replace("...", "").strip() for step in shown)


def test_the_first_image_of_the_readme_is_ten_lines() -> None:
    (agent,) = [step for step in steps(README.read_text("utf-8")) if step.path == "my-agent/agent.py"]
    assert len(agent.text.split("\n")) <= 12
    assert "import agent_preflight" not in agent.text


def test_the_image_of_the_readme_is_the_one_among_the_examples() -> None:
    shown = {
        step.path: step.text for step in steps(README.read_text("utf-8")) if (step.path or "").startswith("my-agent/")
    }
    assert sorted(shown) == ["my-agent/Dockerfile", "my-agent/agent.py"]
    for path, text in shown.items():
        assert text.strip() == (ROOT / "examples" / path).read_text("utf-8").strip()
