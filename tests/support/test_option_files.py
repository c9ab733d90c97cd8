"""An option of a run is written in few files: where it is declared, and where it is used."""

import ast

import pytest

from tests.support.option_files import FOLDERS, OTHER_MEANINGS, ROOT, files_with, occurrences

FILES_MAX = 6


@pytest.mark.parametrize("option", ["memory", "gate"])
def test_an_option_of_a_run_is_in_few_files(option: str) -> None:
    files = files_with(option)
    assert "agent_preflight/options/settings.py" in files
    assert len(files) <= FILES_MAX, files


def test_each_file_with_another_meaning_exists() -> None:
    paths = [path for others in OTHER_MEANINGS.values() for path in others]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert all(path.startswith(FOLDERS) for path in paths)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("class A:\n    memory: str\n    def f(self):\n        return self.memory", [2, 4]),
        ("class A:\n    def f(self):\n        return self.memory", []),
        ("def f(memory): ...", [1]),
        ("f(memory=1)", [1]),
        ("request.settings.memory", [1]),
        ("self._settings.memory", [1]),
        ("psutil.memory", []),
        ("'--memory'", [1]),
        ("'memory'", [1]),
        ("'of memory'", []),
        ("memory = 1", []),
    ],
)
def test_what_counts_as_an_occurrence(source: str, lines: list[int]) -> None:
    assert sorted(occurrences(ast.parse(source), "memory", has_tables=True)) == lines


def test_a_name_as_a_text_counts_only_where_there_are_tables_of_options() -> None:
    assert list(occurrences(ast.parse("'gate'"), "gate", has_tables=False)) == []
