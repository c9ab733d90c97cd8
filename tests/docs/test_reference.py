"""The reference is whole: each public name is described, and each public module has its page."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Iterator
from types import ModuleType

import agent_preflight
from tests.docs.docstrings import bound_names, described_constants, lacks
from tests.docs.pages import ROOT
from tests.support.cases import each

PAGES = ROOT / "docs" / "reference"
MODULES = (
    *("budget", "cache_report", "caching", "docker", "eject", "events", "health"),
    *("models", "preflight", "provision", "run_data", "runner", "status", "utils"),
)
"""The public modules. Scripts import from them, so each name stays where it is."""


def module(name: str) -> ModuleType:
    return importlib.import_module(f"agent_preflight.{name}")


def public_names(name: str) -> list[str]:
    names: list[str] = module(name).__all__
    return names


def undescribed(name: str) -> Iterator[str]:
    """Yield what the docstrings of a module's public names lack."""
    home = module(name)
    if not home.__doc__:
        yield f"{name}: no docstring"
    for public in public_names(name):
        value = getattr(home, public)
        if not callable(value) or getattr(value, "__name__", public) != public:
            if public not in described_constants(home):
                yield f"{name}.{public}: no text below its assignment"
        else:
            yield from lacks(value, f"{name}.{public}")


def test_each_public_name_says_its_arguments_result_and_errors() -> None:
    assert [complaint for name in MODULES for complaint in undescribed(name)] == []


def test_each_name_of_the_package_is_in_a_public_module() -> None:
    public = {public for name in MODULES for public in public_names(name)}
    assert sorted(set(agent_preflight.__all__) - public) == []


def test_each_public_module_has_a_page_and_a_place_in_the_menu() -> None:
    menu = (ROOT / "docs" / "site" / "mkdocs.yml").read_text("utf-8")
    pages = {path.stem: path.read_text("utf-8") for path in PAGES.glob("*.md") if path.stem != "index"}
    assert pages == {name: f"# agent_preflight.{name}\n\n::: agent_preflight.{name}\n" for name in MODULES}
    assert re.findall(r"- reference/(\w+)\.md", menu) == ["index", *MODULES]


def test_each_name_is_bound_in_the_source_so_that_the_page_shows_it() -> None:
    """The pages are made without running the modules. `run_container` is on the page of `runner`."""
    unseen = {name: sorted(set(public_names(name)) - bound_names(module(name))) for name in MODULES}
    assert {name: names for name, names in unseen.items() if names} == {"docker": ["run_container"]}


def test_the_index_says_which_module_each_name_of_the_package_comes_from() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (.*) \|$", (PAGES / "index.md").read_text("utf-8"), re.MULTILINE)
    listed = {name: re.findall(r"`(\w+)`", names) for name, names in rows}
    assert tuple(listed) == MODULES
    assert {name: sorted(set(names) - set(public_names(name))) for name, names in listed.items()} == {
        name: [] for name in MODULES
    }
    assert sorted(public for names in listed.values() for public in names) == sorted(agent_preflight.__all__)


@each("name", MODULES)
def test_the_examples_in_docstrings_run(name: str) -> None:
    home = module(name)
    globals_ = {public: getattr(home, public) for public in public_names(name)}
    for test in doctest.DocTestFinder(recurse=True).find(home, globs=globals_):
        assert doctest.DocTestRunner(verbose=False).run(test).failed == 0, test.name


class Sample:
    """Described, but for its argument and its error.

    Attributes:
        absent: There is none of that name.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError("size is below 0")
        self.size = size

    def half(self, up: bool) -> float:
        """Halve it.

        Args:
            down: Another name.

        Raises:
            NoSuchError: There is none of that name.
        """
        if up:
            raise KeyError
        return self.size / 2

    @property
    def double(self) -> int:
        return 2 * self.size


def test_what_a_docstring_lacks_is_found() -> None:
    assert list(lacks(Sample, "Sample")) == [
        "Sample: Args: size is missing",
        "Sample: Attributes: there is no absent",
        "Sample: Raises: ValueError is missing",
        "Sample.half: Args: up is missing",
        "Sample.half: Args: there is no down",
        "Sample.half: Returns is missing",
        "Sample.half: Raises: KeyError is missing",
        "Sample.half: Raises: there is no NoSuchError",
        "Sample.double: no docstring",
    ]
