"""What a docstring of a public name lacks, by its signature: a section, an argument, a field, an error."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from agent_preflight import PreflightError
from preflight_proxy.core import errors

SECTION = re.compile(r"^(Args|Attributes|Examples|Raises|Returns|Yields):$")
ENTRY = re.compile(r"^ {4}\*{0,2}([\w.]+): \S")
SAYS_RESULT = re.compile(r"(Return|Yield)\b")
SHARED = re.compile(r"All other arguments are those of `(\w+)`")
"""How a docstring leaves out arguments that another function of its module describes."""


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section of a docstring, in Google's form; those of the text above are under an empty name."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in inspect.cleandoc(text).splitlines():
        if heading := SECTION.match(line):
            name = heading[1]
            found[name] = []
        else:
            found[name].append(line)
    return found


def entries(text: str, section: str) -> list[str]:
    """Return the names that a section describes."""
    return [entry[1] for line in sections(text).get(section, []) if (entry := ENTRY.match(line))]


def lacks(value: object, name: str) -> Iterator[str]:
    """Yield what the docstrings of a public class or function lack; a class with its public members.

    Args:
        value: The class or function.
        name: What it is called in a complaint.
    """
    text = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
    if not text:
        yield f"{name}: no docstring"
    elif isinstance(value, type):
        yield from _class_lacks(value, text, name)
    else:
        yield from _function_lacks(value, text, name)
    if isinstance(value, type):
        for member, inside in vars(value).items():
            if not member.startswith("_"):
                yield from _member_lacks(value, member, inside, f"{name}.{member}")


def _class_lacks(cls: type, text: str, name: str) -> Iterator[str]:
    if dataclasses.is_dataclass(cls) or issubclass(cls, msgspec.Struct):
        names = (
            cls.__struct_fields__
            if issubclass(cls, msgspec.Struct)
            else [each.name for each in dataclasses.fields(cls)]
        )
        fields = [name for name in names if not name.startswith("_")]
        yield from _differences(fields, entries(text, "Attributes"), f"{name}: Attributes")
        return
    yield from _differences(_parameters(cls), entries(text, "Args"), f"{name}: Args")
    source = inspect.getsource(cls)
    for attribute in entries(text, "Attributes"):
        if f"self.{attribute} = " not in source:
            yield f"{name}: Attributes: there is no {attribute}"
    if isinstance(init := vars(cls).get("__init__"), FunctionType):
        yield from _raises_lack(init, text, name)


def _member_lacks(cls: type, member: str, inside: object, name: str) -> Iterator[str]:
    if isinstance(inside, property):
        if not inside.__doc__:
            yield f"{name}: no docstring"
        return
    function = inside.__func__ if isinstance(inside, staticmethod | classmethod) else inside
    if not isinstance(function, FunctionType):
        return
    overrides = any(member in vars(base) for base in cls.__mro__[1:-1])
    if overrides and function.__doc__:  # its base describes arguments and result
        yield from _raises_lack(function, function.__doc__, name)
    else:
        yield from lacks(function, name)


def _function_lacks(function: object, text: str, name: str) -> Iterator[str]:
    assert isinstance(function, FunctionType), name
    described, shared = entries(text, "Args"), SHARED.search(" ".join(text.split()))
    others = _parameters(function.__globals__[shared[1]]) if shared else []
    own = [parameter for parameter in _parameters(function) if parameter in described or parameter not in others]
    yield from _differences(own, described, f"{name}: Args")
    result = inspect.signature(function).return_annotation
    says_result = SAYS_RESULT.match(text) or {"Returns", "Yields"} & sections(text).keys()
    if result not in (None, "None", inspect.Signature.empty) and not says_result:
        yield f"{name}: Returns is missing"
    yield from _raises_lack(function, text, name)


def _parameters(function: Callable[..., Any]) -> list[str]:
    names = [name for name in inspect.signature(function).parameters if not name.startswith("_")]
    return [name for name in names if name not in ("self", "cls")]


def _differences(real: list[str], described: list[str], where: str) -> Iterator[str]:
    yield from (f"{where}: {name} is missing" for name in real if name not in described)
    yield from (f"{where}: there is no {name}" for name in described if name not in real)


def _raises_lack(function: FunctionType, text: str, name: str) -> Iterator[str]:
    described = entries(text, "Raises")
    yield from (f"{name}: Raises: {error} is missing" for error in _raised(function) if error not in described)
    for error in described:
        if not _is_error(error, function.__globals__):
            yield f"{name}: Raises: there is no {error}"


def _raised(function: FunctionType) -> list[str]:
    """Return the errors that the function's own statements raise."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
    classes = [error.func if isinstance(error, ast.Call) else error for error in raised]
    return [ast.unparse(error) for error in classes if isinstance(error, ast.Name) and error.id[0].isupper()]


def _is_error(name: str, names: Mapping[str, object]) -> bool:
    first, *rest = name.split(".")
    places = (names, vars(builtins), vars(errors), {"PreflightError": PreflightError})
    value = next((place[first] for place in places if first in place), None)
    for part in rest:
        value = getattr(value, part, None)
    return isinstance(value, type) and issubclass(value, BaseException)


def _parsed(module: ModuleType) -> ast.Module:
    assert module.__file__ is not None
    return ast.parse(Path(module.__file__).read_text("utf-8"))


def bound_names(module: ModuleType) -> set[str]:
    """Return the names that a module's source defines, assigns or imports, for type checkers too."""
    found = set[str]()
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.ImportFrom | ast.Import):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def described_constants(module: ModuleType) -> set[str]:
    """Return the names of a module that a text below their assignment describes, imported ones included."""
    body = _parsed(module).body
    found = set[str]()
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            home = statement.module
            names = [alias.name for alias in statement.names if alias.name.isupper()]
            found |= {name for name in names if name in described_constants(importlib.import_module(home))}
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and _is_text(following):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _is_text(statement: ast.stmt | None) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
