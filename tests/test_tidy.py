"""What a reader of this code may rely on, checked on the code itself: arrows, homes, sizes, test files, references.

The sources are parsed, never imported. A rule that a file cannot keep is a line in a table here, beside its reason.
"""

import ast
import functools
import gc
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.support.cases import each

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "agent_preflight": ROOT / "agent_preflight",
    "preflight_proxy": ROOT / "proxy" / "preflight_proxy",
    "openrouter_sim": ROOT / "proxy" / "openrouter_sim",
}

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

NEVER_IMPORTS: Mapping[str, tuple[str, ...]] = {
    # The pure core: all that can be decided from values, and nothing that asks or tells the world outside.
    "preflight_proxy.core": (
        *("aiohttp", "httpx", "sqlite3", "subprocess", "structlog", "asyncio", "os", "time", "socket", "threading"),
        *("random", "secrets", "uuid", "tempfile", "shutil", "logging"),
    ),
    # The proxy is a process of its own and knows nothing of who starts it.
    "preflight_proxy": ("agent_preflight", "openrouter_sim", "typer", "rich", "jinja2", "prometheus_client"),
    # The simulator imports neither half, so that it can contradict both.
    "openrouter_sim": ("agent_preflight", "preflight_proxy", "typer", "rich", "msgspec.json", "httpx", "structlog"),
    # What a run's options are and mean is decided from values, below whoever runs them.
    "agent_preflight.options": ("typer", "aiodocker", "aiohttp", "httpx"),
    "agent_preflight.runner": ("typer",),
    # Every figure is computed from values: no files, no clock, no network, no views.
    "agent_preflight.figures": (
        *("os", "sqlite3", "httpx", "aiohttp", "rich", "jinja2", "time", "datetime", "random", "subprocess", "socket"),
        *("agent_preflight.views", "agent_preflight.cli", "agent_preflight.operate"),
    ),
    "agent_preflight.eject": ("httpx",),
    "agent_preflight.models": ("httpx",),
}
"""Importer (with all below it) to what it never imports (nor anything below that), wherever the import stands."""

MODULES_IN_A_FOLDER_MAX = 25

EXCUSED_FOLDER_IMPORTS: Mapping[tuple[str, str], str] = {}
"""Imports from one folder to another that would close a circle, each with the reason why it stays."""

SHARED_WITH_THE_HOST = (
    *("preflight_proxy.core", "preflight_proxy.base.log"),
    *("preflight_proxy.base.tasks", "preflight_proxy.base.clock", "preflight_proxy.base.control_messages"),
    *("preflight_proxy.base.atomic_file", "preflight_proxy.base.gate_handshake"),
    # The list of quarantined endpoints is the user's own: a person, a check and every proxy read and write it.
    *("preflight_proxy.ledger.quarantine_file", "preflight_proxy.base.config"),
    "preflight_proxy.ledger.shared_counts_file",  # and so is the file of token counts that runs share
    "preflight_proxy.base.data_folder",  # where a stand-alone proxy's control socket is
)
"""What agent_preflight imports of the proxy: values and small tools. Else the two talk over the control socket."""

WITHOUT_A_PROXY = (
    ("agent_preflight.runs.costs", "preflight_proxy.ledger.reader"),
    ("agent_preflight.runs.record", "preflight_proxy.ledger.reader"),
    ("agent_preflight.operate.proxy_status", "preflight_proxy.ledger.reader"),
    ("agent_preflight.operate.metrics", "preflight_proxy.ledger.reader"),
    ("agent_preflight.sweeping.keys", "preflight_proxy.ledger.dead"),
    ("agent_preflight.launch.proxy_command", "preflight_proxy.ledger.reader"),
    ("agent_preflight.__main__", "preflight_proxy.__main__"),
)
"""Who reads or settles the ledger of a run that may be over, or becomes the proxy, and so has none to ask; and by what."""

COMMANDS_THAT_RUN_A_PACKAGE = "agent_preflight.cli"
"""The command line starts the proxy and the simulator by hand, and so may import their entries."""

TESTED_TOGETHER: Mapping[str, str] = {
    # an interface, tested by what stands behind it
    "agent_preflight.sandboxes.interface": "agent_preflight/sandboxes/test_process.py",
    # values, by the file they are read from
    "openrouter_sim.calls.scenario": "openrouter_sim/test_scenario_file.py",
    # each value by the options that take it
    "agent_preflight.options.container_values": "agent_preflight/options/test_container_options.py",
}
"""Modules (this prefix and below) whose tests stand in a file of another name."""


ONE_HOME: Mapping[str, tuple[str, ...]] = {
    "subprocess": (
        *("agent_preflight.base.commands", "agent_preflight.sidecar"),
        "agent_preflight.runner.notices",  # the user's command
    ),
    "create_subprocess_exec": (
        "agent_preflight.sidecar",
        "agent_preflight.launch.demo",  # the simulator, as a process of its own
    ),
    "subprocess_exec": ("agent_preflight.sandboxes.process",),
    "create_subprocess_shell": (),
    "sqlite3": (
        *("preflight_proxy.ledger.store", "preflight_proxy.ledger.schema", "preflight_proxy.ledger.tables"),
        *("preflight_proxy.ledger.file", "preflight_proxy.ledger.reader", "preflight_proxy.ledger.shared_counts_file"),
    ),
    "environ": ("agent_preflight.base.config", "preflight_proxy.base.config"),
    "getenv": (),
    "get_event_loop": (),
    "system": (),
    "eval": (),
    "exec": (),
    "pickle": (),
    "getLogger": ("agent_preflight.budget", "agent_preflight.caching", "agent_preflight.views.server"),
}
"""A name that is imported, called or reached as an attribute, and the modules (with all below them) that may do so."""

ASKED_FOR = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Call, ast.Attribute, ast.arg, ast.AnnAssign)
NO_CHILDREN = (ast.Constant, ast.Name, ast.expr_context, ast.operator)

PLACES_OF_TEXT = ("agent_preflight", "proxy", "tests", "docker", "docs", "examples", ".ci")
RULE_PAGES = (ROOT / "docs" / "money.md", ROOT / "docs" / "containers.md")


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: what, where, and whether it happens when the module is loaded."""

    target: str
    line: int
    at_load: bool


@dataclass(frozen=True, slots=True)
class Module:
    """One source file, parsed."""

    name: str
    path: Path
    text: str
    nodes: tuple[ast.AST, ...]
    imports: tuple[Import, ...]

    def at(self, line: int) -> str:
        """Return `path:line`, for a failure that can be clicked."""
        return f"{self.path.relative_to(ROOT)}:{line}"


@functools.cache
def modules() -> Mapping[str, Module]:
    """Return every module of the three packages by its dotted name."""
    paths = {_name(package, path): path for package in PACKAGES for path in PACKAGES[package].rglob("*.py")}
    gc.disable()  # a tree is a hundred thousand objects, none of them garbage: looking for some takes as long as parsing
    try:
        return {name: _parse(name, path, frozenset(paths)) for name, path in sorted(paths.items())}
    finally:
        gc.freeze()
        gc.enable()


def _name(package: str, path: Path) -> str:
    parts = (package, *path.relative_to(PACKAGES[package]).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parse(name: str, path: Path, known: frozenset[str]) -> Module:
    text = path.read_text("utf-8")
    tree = ast.parse(text, str(path))
    imports = tuple(_imports(tree, known, at_load=True))
    return Module(name, path, text, tuple(_nodes(tree)), imports)


def _nodes(tree: ast.AST) -> list[ast.AST]:
    """Return the nodes that a rule here asks for; with all of them, as `ast.walk` gives, each rule takes ten times as long."""
    found: list[ast.AST] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ASKED_FOR):
            found.append(node)
        for value in vars(node).values():
            if isinstance(value, list):
                waiting += [each for each in value if isinstance(each, ast.AST)]
            elif isinstance(value, ast.AST) and not isinstance(value, NO_CHILDREN):
                waiting.append(value)
    return found


def _imports(node: ast.AST, known: frozenset[str], *, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                yield from (Import(name.name, child.lineno, at_load) for name in names)
            case ast.ImportFrom(module=str(base), names=names, level=0):
                targets = {f"{base}.{name.name}" if f"{base}.{name.name}" in known else base for name in names}
                yield from (Import(target, child.lineno, at_load) for target in sorted(targets))
            case ast.ImportFrom():
                raise AssertionError(f"a relative import in line {child.lineno}: write the package's name")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imports(child, known, at_load=False)
            case ast.stmt():
                yield from _imports(child, known, at_load=at_load)


def below(name: str, prefix: str) -> bool:
    """Tell whether a dotted name is the prefix or lies below it."""
    return name == prefix or name.startswith(prefix + ".")


def source(name: str) -> Path:
    """Return the file of a module that the tables name, so that a renamed module cannot slip out of them."""
    return modules()[name].path


@each("importer", NEVER_IMPORTS)
def test_imports_point_one_way(importer: str) -> None:
    """Each layer imports only what lies below it."""
    wrong = [
        f"{module.at(found.line)} imports {found.target}"
        for module in modules().values()
        if below(module.name, importer)
        for found in module.imports
        if any(below(found.target, banned) for banned in NEVER_IMPORTS[importer])
    ]
    assert wrong == []
    assert source(importer).exists()


def test_the_simulator_reads_and_writes_json_with_another_library_than_the_proxy() -> None:
    """Its values and files may be msgspec's, but what is on the wire is not, so that it can contradict the proxy."""
    of_the_simulator = [module for name, module in modules().items() if below(name, "openrouter_sim")]
    assert [module.path for module in of_the_simulator if "msgspec.json" in module.path.read_text()] == []


def test_the_host_half_knows_only_the_shared_part_of_the_proxy() -> None:
    """Runner and proxy meet on the control socket; what they share are values, errors and the log."""
    wrong = [
        f"{module.at(found.line)} imports {found.target}"
        for module in modules().values()
        if below(module.name, "agent_preflight") and not below(module.name, COMMANDS_THAT_RUN_A_PACKAGE)
        for found in module.imports
        if below(found.target, "openrouter_sim")
        or (
            below(found.target, "preflight_proxy")
            and not any(below(found.target, shared) for shared in SHARED_WITH_THE_HOST)
            and (module.name, found.target) not in WITHOUT_A_PROXY
        )
    ]
    assert wrong == []


def test_no_import_goes_in_a_circle() -> None:
    """At load time the modules form a tree of layers, whatever is imported first."""
    arrows = {
        name: {found.target for found in module.imports if found.at_load and found.target in modules()} - {name}
        for name, module in modules().items()
    }
    settled: set[str] = set()
    while ready := {name for name, targets in arrows.items() if name not in settled and targets <= settled}:
        settled |= ready
    assert sorted(arrows.keys() - settled) == []


def _folder(name: str) -> str:
    """Return the folder of a module; each public module of the old library, which stays at the top, counts as one of its own."""
    module = modules()[name]
    top, _, rest = name.partition(".")
    if module.path.name == "__init__.py":
        return name
    return name if top == "agent_preflight" and "." not in rest else name.rpartition(".")[0]


def test_no_folder_imports_in_a_circle() -> None:
    """Folders form layers as modules do, imports inside functions included."""
    arrows: dict[str, set[str]] = {}
    for name, module in modules().items():
        targets = {_folder(found.target) for found in module.imports if found.target in modules()}
        arrows.setdefault(_folder(name), set()).update(targets)
    for folder, targets in arrows.items():
        targets -= {folder, *(target for importer, target in EXCUSED_FOLDER_IMPORTS if importer == folder)}
    settled: set[str] = set()
    while ready := {name for name, targets in arrows.items() if name not in settled and targets <= settled}:
        settled |= ready
    assert {name: sorted(arrows[name] - settled) for name in arrows.keys() - settled} == {}


def test_no_folder_is_crowded() -> None:
    """A folder has at most 25 modules."""
    sizes = Counter(module.path.parent for module in modules().values())
    assert [str(folder) for folder, size in sizes.items() if size > MODULES_IN_A_FOLDER_MAX] == []


def test_every_module_has_its_test_file() -> None:
    """`a/b/c.py` is tested in `tests/a/b/test_c.py`, or where the table above says."""
    missing = [
        str(expected.relative_to(ROOT))
        for name, module in modules().items()
        if module.path.stem not in {"__init__", "__main__"} and not (expected := _test_file(name)).exists()
    ]
    assert missing == []


def _test_file(name: str) -> Path:
    for prefix, test_file in TESTED_TOGETHER.items():
        if below(name, prefix):
            return ROOT / "tests" / test_file
    *folders, last = name.split(".")
    return ROOT.joinpath("tests", *folders, f"test_{last}.py")


def test_files_and_functions_fit_a_readers_head() -> None:
    """No source file above 400 lines, no function's body above 60: most are far below."""
    long_files = [
        f"{module.path.relative_to(ROOT)}: {lines} lines"
        for module in modules().values()
        if (lines := module.text.count("\n")) > FILE_LINES_MAX
    ]
    long_functions = [
        f"{module.at(node.lineno)} {node.name}: {lines} lines"
        for module in modules().values()
        for node in module.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := _body_lines(node)) > FUNCTION_LINES_MAX
    ]
    assert long_files + long_functions == []


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines from the first statement to the last; signature and docstring are for the caller's eyes."""
    described = ast.get_docstring(function, clean=False) is not None
    statements = function.body[1:] if described else function.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1 if statements else 0


@each("name", ONE_HOME)
def test_what_touches_the_world_has_one_home(name: str) -> None:
    """Processes, the database, the environment and the like are reached from the modules named for it only."""
    wrong = [
        module.at(line)
        for module in modules().values()
        if not any(below(module.name, home) for home in ONE_HOME[name])
        for line in _uses(module).get(name, ())
    ]
    assert wrong == []


@functools.cache
def _uses(module: Module) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for imported in module.imports:
        found.setdefault(imported.target, []).append(imported.line)
    for node in module.nodes:
        match node:
            case ast.Call(func=ast.Name(id=called)):
                found.setdefault(called, []).append(node.lineno)
            case ast.Attribute(attr=reached, value=ast.Name(id="os" | "asyncio" | "logging" | "subprocess")):
                found.setdefault(reached, []).append(node.lineno)
    return found


def test_no_float_is_money() -> None:
    """Nothing whose name ends in `_pusd` is annotated as a float."""
    wrong = [
        f"{module.at(line)} {name}"
        for module in modules().values()
        for name, annotation, line in _annotations(module)
        if name.endswith("_pusd") and annotation is not None and "float" in ast.unparse(annotation)
    ]
    assert wrong == []


def _annotations(module: Module) -> Iterator[tuple[str, ast.expr | None, int]]:
    for node in module.nodes:
        match node:
            case ast.arg(arg=name, annotation=annotation) | ast.FunctionDef(name=name, returns=annotation):
                yield name, annotation, node.lineno
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                yield name, annotation, node.lineno


@functools.cache
def texts() -> Mapping[Path, str]:
    """Return every text file that a reader meets, by its path."""
    files = [path for place in PLACES_OF_TEXT for path in (ROOT / place).rglob("*") if path.is_file()]
    files += [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    return {path: path.read_text("utf-8", "replace") for path in files if not _is_made(path.relative_to(ROOT))}


def _is_made(path: Path) -> bool:
    """Tell whether a tool made it: pictures, caches, CI's scratch, and whatever is hidden below the first folder."""
    return (
        path.suffix == ".png"
        or "__pycache__" in path.parts
        or any(part.startswith((".", "tmp.")) for part in path.parts[1:])
    )


def test_rules_that_are_cited_exist() -> None:
    """A rule cited by number (`M13`, `C11`) is a heading of docs/money.md or docs/containers.md."""
    pages = [page.read_text("utf-8") for page in RULE_PAGES]
    known = {rule for page in pages for rule in re.findall(r"^## ([MC]\d+)", page, re.MULTILINE)}
    wrong = {
        f"{path.relative_to(ROOT)}: {rule}"
        for path, text in texts().items()
        for rule in re.findall(r"[MC][1-9](?<!\w..)\d?\b", text)  # thrice as fast as with \b in front
        if rule not in known
    }
    assert sorted(wrong) == []


def test_pages_that_are_named_exist() -> None:
    """Where code or prose names a page (`money.md`), that page is here."""
    pages = {path.name for path in texts()} | {"index.md"}  # which README is in the site
    wrong = {
        f"{path.relative_to(ROOT)}: {page}"
        for path, text in texts().items()
        if ".md" in text
        and path.relative_to(ROOT).parts[0] not in {"docker", "examples"}  # agents write pages of their own
        for page in re.findall(r"(?<![\w/-])(?:(?:\.\./)?docs/)?([\w-]+\.md)\b", text)
        if page not in pages
    }
    assert sorted(wrong) == []


def test_the_readmes_first_script_is_the_example_that_ci_runs() -> None:
    """What a reader copies first is what is run on every change."""
    script = (ROOT / "examples" / "first_run.py").read_text("utf-8")
    assert f"```python\n{script}```" in texts()[ROOT / "README.md"]


def test_every_dependency_has_its_reason() -> None:
    """Whatever is installed with the package is in the table of docs/dependencies.md, with why."""
    project = tomllib.loads(texts()[ROOT / "pyproject.toml"])["project"]
    names = [re.split(r"[^\w-]", dependency)[0] for dependency in project["dependencies"]]
    page = texts()[ROOT / "docs" / "dependencies.md"]
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert [name for name in names if not any(name in row.split("|")[1] for row in rows)] == []


def test_the_wheel_has_the_data_that_code_reads() -> None:
    """Hatch takes all files of a package, unless a pattern or .gitignore leaves them out."""
    packages = set(PACKAGES.values())
    target = tomllib.loads(texts()[ROOT / "pyproject.toml"])["tool"]["hatch"]["build"]["targets"]["wheel"]
    ignored = (ROOT / ".gitignore").read_text("utf-8").split("\n")
    kinds = {".json", ".toml", ".html", ".css", ".js"}
    data = [path for path in texts() if path.suffix in kinds if packages.intersection(path.parents)]
    assert {"token_weights.json", "token_classes.toml", "models.toml", "run.html", "page.css", "live.js"} <= {
        path.name for path in data
    }
    assert {ROOT / package for package in target["packages"]} == packages
    assert target.keys() == {"packages", "force-include"}
    assert [path for path in data for pattern in ignored if fnmatch(path.name, pattern)] == []


def test_every_page_is_linked_from_the_readme() -> None:
    """A page that nobody can find is not there."""
    readme = texts()[ROOT / "README.md"]
    pages = [
        path.relative_to(ROOT).as_posix() for path in texts() if path.suffix == ".md" and path.parent == ROOT / "docs"
    ]
    assert [page for page in pages if f"]({page})" not in readme] == []


def test_every_command_is_documented() -> None:
    """Each command has its line in the table of docs/commands.md."""
    registered = [
        str(argument.value)
        for node in modules()["agent_preflight.cli"].nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "command"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    ]
    page = texts()[ROOT / "docs" / "commands.md"]
    assert registered
    assert [name for name in registered if f"\n| `{name}" not in page] == []


def test_nothing_points_at_where_it_was_written() -> None:
    """No file names the folder of this checkout, and none puts work off in a comment."""
    here = rf"{re.escape(str(ROOT))}\b|" if len(ROOT.parts) > 2 else ""  # a folder such as /src means nothing
    words = [f"TO{''}DO", f"FIX{''}ME", f"XX{''}X"]
    unwanted = re.compile(rf"{here}\b(?:{'|'.join(words)})\b")
    suspects = {path: text for path, text in texts().items() if any(each in text for each in (str(ROOT), *words))}
    assert [str(path.relative_to(ROOT)) for path, text in suspects.items() if unwanted.search(text)] == []
