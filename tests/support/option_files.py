"""Counts the source files in which an option of a run occurs: `python -m tests.support.option_files memory gate`.

What counts as an occurrence of an option, such as `memory`, in a file of `agent_preflight/` or `proxy/`:

- a field of a class: `memory: str | None`;
- a parameter: `def limits(memory)`; a keyword of a call: `replace(settings, memory="2g")`;
- an attribute of settings: `settings.memory`, `request.settings.memory`, or `self.memory` in a class that has such a field;
- a flag: `"--memory"`; and in the folders that have tables of options (`TABLES`) the name as a text: `"memory"`.

What does not count: comments and docstrings, local variables, and the same word for another thing. A `gate` is also the container
beside an agent, and its state. `OTHER_MEANINGS` lists the files and folders where the word means that, each with what it means.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agent_preflight", "proxy")
TABLES = ("agent_preflight/options/", "agent_preflight/launch/", "agent_preflight/cli/", "agent_preflight/runs/")
OTHER_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "memory": {
        "agent_preflight/agents.py": "a mapping that remembers tools",
        "agent_preflight/options/container_options.py": "the engine's own option of that name",
        "proxy/preflight_proxy/": "the room that a request's body takes",
    },
    "gate": {
        "agent_preflight/options/container_options.py": "fields for the gate's container",
        "agent_preflight/launch/demo.py": "the image of that container",
        "agent_preflight/docker/": "the container",
        "agent_preflight/sidecar/": "what the proxy is told of the container, and its state",
        "agent_preflight/runner/drive.py": "what the proxy is told of the container",
        "agent_preflight/runner/running_trial.py": "the container's state",
        "proxy/preflight_proxy/": "the container, and its state",
    },
}
"""For each option: files and folders (a slash at the end) in which the word means something else."""


def occurrences(tree: ast.AST, option: str, *, has_tables: bool) -> Iterator[int]:
    """Yield the lines of a module in which an option occurs. With tables of options, its name as a text counts too."""
    texts = {f"--{option}", option} if has_tables else {f"--{option}"}
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(body=body) if any(_is_field(each, option) for each in body):
                yield from (each.lineno for each in body if _is_field(each, option))
                uses = (each for each in ast.walk(node) if isinstance(each, ast.Attribute))
                yield from (each.lineno for each in uses if _is_attribute_of(each, option, "self"))
            case ast.arg(arg=name) | ast.keyword(arg=name) if name == option:
                yield node.lineno
            case ast.Attribute() if _is_attribute_of(node, option, "settings"):
                yield node.lineno
            case ast.Constant(value=str(text)) if text in texts:
                yield node.lineno


def _is_field(node: ast.stmt, option: str) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == option


def _is_attribute_of(node: ast.AST, option: str, owner: str) -> bool:
    match node:
        case ast.Attribute(attr=name, value=ast.Name(id=of) | ast.Attribute(attr=of)):
            return name == option and of.lstrip("_") == owner
    return False


def files_with(option: str) -> dict[str, list[int]]:
    """Return the files in which an option occurs, each with the lines."""
    others = OTHER_MEANINGS.get(option, {})
    files: dict[str, list[int]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if any(name == other or (other.endswith("/") and name.startswith(other)) for other in others):
                continue
            tree = ast.parse(path.read_text("utf-8"))
            if lines := sorted(set(occurrences(tree, option, has_tables=name.startswith(TABLES)))):
                files[name] = lines
    return files


if __name__ == "__main__":
    for option in sys.argv[1:]:
        files = files_with(option)
        sys.stdout.write(f"{option}: {len(files)} files\n")
        sys.stdout.writelines(f"  {path}: {', '.join(map(str, lines))}\n" for path, lines in files.items())
