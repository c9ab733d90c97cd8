"""What pages tell to install is ours to tell: no name on PyPI that belongs to somebody else, or to nobody yet."""

import re

from tests.docs.pages import ROOT, pages
from tests.support.cases import each

INSTALLS = re.compile(
    r"(?:\b(?:pipx?|uv|poetry|conda)\b[^`;|&]*?\s(?:install|add|run)\b|\buvx\b)[^`;|&]*?\s[\"']?(?:agent|ai)[-_]preflight"
)
FROM_HERE = re.compile(r"--(?:from|with|editable)[= ]\.")


def wrong_lines(text: str) -> list[str]:
    """Return the lines that install our command's name from an index."""
    return [line for line in text.splitlines() if INSTALLS.search(line) and not FROM_HERE.search(line)]


def test_no_page_tells_to_install_a_name_that_is_not_ours() -> None:
    """PyPI's `agent-preflight` is another project; ours is not published."""
    texts = {
        path: path.read_text("utf-8") for path in [*pages(), *(ROOT / "examples").rglob("*.py"), ROOT / "Makefile"]
    }
    assert {str(path.relative_to(ROOT)): wrong for path, text in texts.items() if (wrong := wrong_lines(text))} == {}


@each(
    "line",
    [
        "    pip install agent-preflight",
        "pip install --upgrade agent_preflight",
        "python -m pip install 'agent-preflight-proxy[docs]'",
        "uv pip install ai-preflight",
        "uvx agent-preflight run",
        "pipx run agent-preflight",
        "uv tool install agent-preflight",
        "pip install openai agent-preflight",
    ],
)
def test_such_a_line_is_found(line: str) -> None:
    assert wrong_lines(line) == [line]


@each(
    "line",
    [
        "pip install .",
        "pip uninstall ai-preflight",
        "uvx --from . agent-preflight demo",
        "python -m pip install --editable '.[dev]'",
        "pip install openai",
        "PyPI's `agent-preflight` is another project: `pip install .` in a checkout installs ours, `agent-preflight-proxy`.",
    ],
)
def test_other_lines_are_not(line: str) -> None:
    assert wrong_lines(line) == []


@each("page", ["README.md", "docs/migrating.md"])
def test_where_installation_is_told_the_other_project_is_named(page: str) -> None:
    text = " ".join((ROOT / page).read_text("utf-8").split())
    assert "PyPI's `agent-preflight` is another project" in text
