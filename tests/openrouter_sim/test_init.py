"""The package stands alone."""

import ast
from pathlib import Path

import openrouter_sim


def test_it_imports_neither_other_package() -> None:
    root = Path(openrouter_sim.__file__).parent
    imported: set[str] = set()
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert imported
    assert not imported & {"agent_preflight", "preflight_proxy", "msgspec", "httpx", "structlog"}


def test_it_offers_what_it_names() -> None:
    for name in openrouter_sim.__all__:
        assert getattr(openrouter_sim, name)
