"""Python on a page works: it compiles, what it imports exists, its options exist, and what needs no image runs."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent_preflight
from agent_preflight import BudgetStatus, EjectPolicy, RunResult
from openrouter_sim import Simulator
from tests.clients.program import running
from tests.docs.pages import ROOT, pages, python_blocks
from tests.docs.walk import FILE_NAME
from tests.support.cases import each

EXAMPLES = {
    f"{page.relative_to(ROOT)}:{block.line}": block.text
    for page in pages()
    for block in python_blocks(page.read_text("utf-8"))
}
"""Each block by its place."""
OURS = ("agent_preflight", "preflight_proxy", "openrouter_sim", "tests")
STARTS_RUNS = {"run_multi", "run_single", "arun_multi", "run_container"}


def wrong(text: str) -> Iterator[str]:
    """Yield what is wrong with a block of Python that is not run."""
    try:
        tree = ast.parse(text)
    except SyntaxError as exc:
        yield f"line {exc.lineno}: {exc.msg}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"there is no module {name.name}" for name in node.names if not exists(name.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                f"{node.module} has no {name.name}" for name in node.names if not exists(node.module, name.name)
            )
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in agent_preflight.__all__:
            yield from unknown_arguments(node, node.func.id)


def exists(module: str, name: str | None = None) -> bool:
    """Tell whether a module is there, and has the name; of a library of others only whether it is named in pyproject.toml."""
    top = module.partition(".")[0]
    if top not in {*OURS, *sys.stdlib_module_names}:
        return f'"{top}' in (ROOT / "pyproject.toml").read_text("utf-8")
    if importlib.util.find_spec(module) is None:
        return False
    return name is None or hasattr(importlib.import_module(module), name)


def unknown_arguments(call: ast.Call, name: str) -> Iterator[str]:
    """Yield why a call of a public function or class cannot be made with these arguments."""
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    try:
        inspect.signature(getattr(agent_preflight, name)).bind_partial(*call.args, **keywords)
    except TypeError as exc:
        yield f"{name}: {exc}"


def runnable() -> dict[str, str]:
    """Return the blocks that can be run: whole programs that start no container, and no file that another test runs."""
    found = {}
    for place, text in EXAMPLES.items():
        page, line = place.split(":")
        above = "\n".join((ROOT / page).read_text("utf-8").splitlines()[: int(line) - 1]) + "\n"
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        imports = any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(text).body)
        if imports and not names & STARTS_RUNS and not FILE_NAME.search(above):
            found[place] = text
    return found


def test_each_block_compiles_and_names_what_exists() -> None:
    assert {place: list(wrong(text)) for place, text in EXAMPLES.items()} == {place: [] for place in EXAMPLES}


@each(
    "text, complaint",
    [
        ("def f(:", "line 1: invalid syntax"),
        ("import agent_preflight.nowhere", "there is no module agent_preflight.nowhere"),
        ("from agent_preflight import run_many", "agent_preflight has no run_many"),
        ("from nobody import anything", "nobody has no anything"),
        ("run_multi(..., budget=1)", "run_multi: got an unexpected keyword argument 'budget'"),
    ],
)
def test_a_block_that_would_not_work_is_found(text: str, complaint: str) -> None:
    assert list(wrong(text)) == [complaint]


@pytest.mark.wire
@pytest.mark.parametrize("place", runnable())
async def test_a_block_that_needs_no_container_runs(place: str, tmp_path: Path) -> None:
    """Against the simulator, with the variables that an agent gets; a run that the block reads is there, with one trial."""
    runs = re.findall(r"runs/run-[\d-]+", EXAMPLES[place])
    for run in runs:
        (tmp_path / run / "nano").mkdir(parents=True)
        summary = RunResult("nano", "openai/gpt-4.1-nano", 0.05).to_dict() | {"preflight": {"posted_usd": "0.0001"}}
        (tmp_path / run / "nano" / "summary.json").write_text(json.dumps(summary), "utf-8")
    async with Simulator() as simulator:
        program = tmp_path / "program.py"
        program.write_text(EXAMPLES[place], "utf-8")
        env = {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proxy'}",
            "PREFLIGHT_MODEL": "openai/gpt-4.1-nano",
            **{f"{family}_BASE_URL": simulator.base_url for family in ("OPENROUTER", "OPENAI")},
            **{f"{family}_API_KEY": simulator.inference_key for family in ("OPENROUTER", "OPENAI")},
        }
        async with running([sys.executable, "-W", "error", program], tmp_path, env) as example:
            ended = await example.end()
    assert ended.code == 0, ended.said
    assert not runs or "nano ok 0.0001" in ended.out


def test_the_policy_on_the_page_judges_by_what_the_runner_tells() -> None:
    (text,) = (text for text in EXAMPLES.values() if "(EjectPolicy)" in text)
    names: dict[str, type[EjectPolicy]] = {}
    exec(text, names)  # a block of docs/python.md
    (policy,) = (value() for name, value in names.items() if name == "NothingWritten")
    context = {"tool_calls": 0, "calls": 1, "calls_in_flight": 0, "repeats": 0, "available_usd": 0.1}
    early = policy.check(elapsed_s=1.0, budget_status=BudgetStatus(0.05, 0.25), events=[], context=context)
    late = policy.check(elapsed_s=1.0, budget_status=BudgetStatus(0.15, 0.25), events=[], context=context)
    assert (early.should_eject, late.should_eject) == (False, True)
    assert late.reason.startswith("Budget: $0.100 remaining of $0.25")
