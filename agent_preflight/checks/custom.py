"""Checks that a script brings along: its own functions, and infrastructure checks."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from agent_preflight.checks.line import CheckLine, failed
from agent_preflight.health import InfraCheck

CustomCheck = Callable[..., tuple[str, bool | None, str]]

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


def takes_context(check: CustomCheck) -> bool:
    """Tell whether a check wants the facts: whether it has any positional parameter."""
    try:
        parameters = inspect.signature(check).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(parameter.kind in _POSITIONAL for parameter in parameters)


def name_of(check: CustomCheck) -> str:
    """Return what a check is called in the report if it does not get as far as to say so."""
    return str(getattr(check, "__name__", type(check).__name__))


def run_custom(check: CustomCheck, context: Callable[[], Mapping[str, Any]]) -> list[CheckLine]:
    """Run one custom check; one that raises, or answers in another form, is a failed check with its reason."""
    try:
        name, ok, detail = check(dict(context())) if takes_context(check) else check()
    except Exception as exc:  # a script's own code: its failure is the finding
        return [crashed_custom(check, str(exc))]
    verdict = None if ok is None else bool(ok)
    failure = f"{name}: {detail}" if verdict is False else ""
    return [CheckLine(ok=verdict, name=str(name), detail=str(detail), failure=failure)]


def crashed_custom(check: CustomCheck, reason: str) -> CheckLine:
    """Return the line of a custom check that came to no result."""
    return failed(f"Custom check ({name_of(check)})", reason, f"Custom check {name_of(check)} raised: {reason}")


def run_infra(check: InfraCheck) -> list[CheckLine]:
    """Run one infrastructure check; one that raises is a failed check with its reason."""
    try:
        name, result = check.name, check.check()
    except Exception as exc:  # a script's own code: its failure is the finding
        return [crashed_infra(check, str(exc))]
    hint = "" if result.ok else result.hint
    failure = f"{name}: {result.detail}" + (f" -> {hint}" if hint else "")
    return [CheckLine(result.ok, name, result.detail, failure if result.ok is False else "", hint)]


def crashed_infra(check: InfraCheck, reason: str) -> CheckLine:
    """Return the line of an infrastructure check that came to no result."""
    name = infra_name(check)
    return failed(f"Infra check ({name})", reason, f"Infra check {name} raised: {reason}")


def infra_name(check: InfraCheck) -> str:
    """Return a check's name, that of its class if asking for it raises."""
    try:
        return str(check.name)
    except Exception:  # a script's own code
        return type(check).__name__
