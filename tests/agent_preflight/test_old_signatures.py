"""Scripts of `ai-preflight` 0.3.0 call what they called: each old signature holds, parameter by parameter."""

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agent_preflight.eject import (
    BudgetExceededEject,
    BudgetFractionEject,
    CompositeEject,
    EjectPolicy,
    IdleTimeoutEject,
)
from agent_preflight.models import BudgetStatus
from tests.support.cases import each
from tests.support.old_signatures import OLD, PROPERTY

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
MAY_BE_LEFT_OUT = {
    ("runner.run_multi", "image_name"),
    *((f"runner.{name}", key) for name in ("run_multi", "run_single") for key in ("admin_key", "or_key")),
    *((f"{home}.run_container", "admin_key") for home in ("runner", "docker")),
}
"""What was needed and is not: a field of processes has no image, and keys may come from the environment."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of either version; `default` is its `repr`, None where there is none."""

    name: str
    kind: str
    default: str | None = None


def was(signature: str) -> Iterator[Parameter]:
    """Read a signature of the sheet."""
    (function,) = ast.parse(f"def function{signature}: ...").body
    assert isinstance(function, ast.FunctionDef)
    found = function.args
    defaults = [*[None] * (len(found.args) - len(found.defaults)), *found.defaults]
    yield from (Parameter(arg.arg, "positional", _text(value)) for arg, value in zip(found.args, defaults, strict=True))
    yield from [Parameter("*", "*")] if found.vararg else []
    keywords = zip(found.kwonlyargs, found.kw_defaults, strict=True)
    yield from (Parameter(arg.arg, "keyword", _text(value)) for arg, value in keywords)
    yield from [Parameter("**", "**")] if found.kwarg else []


def _text(default: ast.expr | None) -> str | None:
    return None if default is None else ast.unparse(default)


def now(function: Callable[..., Any]) -> Iterator[Parameter]:
    """Read a signature of ours."""
    for parameter in inspect.signature(function).parameters.values():
        default = None if parameter.default is inspect.Parameter.empty else repr(parameter.default)
        match parameter.kind:
            case inspect.Parameter.VAR_POSITIONAL:
                yield Parameter("*", "*")
            case inspect.Parameter.VAR_KEYWORD:
                yield Parameter("**", "**")
            case kind:
                text = default.replace("<factory>", "FACTORY") if default is not None else None
                yield Parameter(parameter.name, "positional" if kind in POSITIONAL else "keyword", text)


def ours(name: str) -> Any:
    """Return what has that name in this version; a method or property as its class holds it."""
    module, *path = name.split(".")
    found: Any = importlib.import_module(f"agent_preflight.{module}")
    for part in path:
        found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
    return found.__func__ if isinstance(found, staticmethod) else found


def differences(name: str) -> list[str]:
    """Return in what a signature is not as it was; more parameters may follow, each with a default."""
    old, new = list(was(OLD[name])), list(now(ours(name)))
    expected = [each for each in old if (name, each.name) not in MAY_BE_LEFT_OUT]
    wrong = [f"{parameter} is missing" for parameter in expected if parameter not in new]
    before = [each.name for each in old if each.kind == "positional"]
    if before != [each.name for each in new if each.kind == "positional"][: len(before)]:
        wrong.append(f"the order was {before}")
    names = {each.name for each in old}
    needed = [each.name for each in new if each.name not in {*names, "*", "**"} and each.default is None]
    return wrong + [f"{each} is needed" for each in needed]


@each("name", [name for name, signature in OLD.items() if signature != PROPERTY])
def test_each_old_parameter_has_its_name_its_place_and_its_default(name: str) -> None:
    assert differences(name) == []


@each("name", [name for name, signature in OLD.items() if signature == PROPERTY])
def test_each_old_property_is_one(name: str) -> None:
    found = ours(name)
    assert isinstance(found, property) or not callable(found)


def test_a_parameter_that_may_be_left_out_is_still_there() -> None:
    for name, parameter in MAY_BE_LEFT_OUT:
        assert (parameter, "keyword") in {(each.name, each.kind) for each in now(ours(name))}


LOW, SPENT = BudgetStatus(used=0.1, limit=1.0), BudgetStatus(used=1.0, limit=1.0)
CALLS: list[tuple[EjectPolicy, dict[str, Any], str]] = [
    (BudgetExceededEject(), {"budget_status": SPENT}, "budget exhausted ($1.000 >= $1.00)"),
    (BudgetExceededEject(), {"budget_status": LOW, "anything": 1}, ""),
    (BudgetFractionEject(0.05, lambda context: False), {"budget_status": LOW, "context": {}}, "no progress at 10%"),
    (IdleTimeoutEject(0.0), {"events": []}, "no events for 0s (timeout=0s)"),
    (IdleTimeoutEject(300.0), {"events": [], "elapsed_s": 1.0}, ""),
    (CompositeEject([BudgetExceededEject()]), {"budget_status": SPENT}, "budget exhausted"),
    (CompositeEject([IdleTimeoutEject(0.0)]), {"events": []}, "no events for 0s"),
    (CompositeEject([]), {}, ""),
]


@each("policy, given, reason", CALLS)
def test_a_policy_takes_what_it_judges_by_and_whatever_else_it_is_given(
    policy: Any, given: dict[str, Any], reason: str
) -> None:
    decision = policy.check(**given)
    assert (decision.should_eject, decision.reason.startswith(reason)) == (bool(reason), True)
