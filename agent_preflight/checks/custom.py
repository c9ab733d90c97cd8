"""Checks that a script brings along: its own functions, and infrastructure checks."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from agent_preflight.checks.report import CheckLine, failed
from agent_preflight.checks.schedule import Job
from agent_preflight.health import InfraCheck

CustomCheck = Callable[..., tuple[str, bool | None, str]]

CUSTOM_CHECK_S_MAX = 300.0
"""The time of one check, in seconds. It may build something."""

LANE = "own"
"""Checks of a script run one after another, as the script itself would run them."""

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


def custom_jobs(
    checks: Sequence[CustomCheck] | None,
    infra: Sequence[InfraCheck] | None,
    context: Callable[[], Mapping[str, Any]],
) -> Iterator[Job]:
    """Yield the jobs of a script's checks. One that raises, or returns something else, is a failed check with its reason.

    Args:
        checks: Functions.
        infra: Infrastructure checks.
        context: Returns what a function with a positional parameter is called with.
    """
    for check in checks or ():
        name = str(getattr(check, "__name__", type(check).__name__))
        yield Job(partial(_run_custom, check, context), partial(_crashed, "Custom", name), CUSTOM_CHECK_S_MAX, LANE)
    for each in infra or ():
        yield Job(partial(_run_infra, each), partial(_crashed, "Infra", _name_of(each)), CUSTOM_CHECK_S_MAX, LANE)


def takes_context(check: CustomCheck) -> bool:
    """Tell whether a check has a positional parameter, which takes the context."""
    try:
        parameters = inspect.signature(check).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(parameter.kind in _POSITIONAL for parameter in parameters)


def _run_custom(check: CustomCheck, context: Callable[[], Mapping[str, Any]]) -> list[CheckLine]:
    name, ok, detail = check(dict(context())) if takes_context(check) else check()
    verdict = None if ok is None else bool(ok)
    failure = f"{name}: {detail}" if verdict is False else ""
    return [CheckLine(ok=verdict, name=str(name), detail=str(detail), failure=failure)]


def _run_infra(check: InfraCheck) -> list[CheckLine]:
    name, result = check.name, check.check()
    hint = "" if result.ok else result.hint
    failure = f"{name}: {result.detail}" + (f" -> {hint}" if hint else "")
    return [CheckLine(result.ok, name, result.detail, failure if result.ok is False else "", hint)]


def _crashed(kind: str, name: str, reason: str) -> CheckLine:
    return failed(f"{kind} check ({name})", reason, f"{kind} check {name} raised: {reason}")


def _name_of(check: InfraCheck) -> str:
    """Return a check's name, or that of its class if the name raises."""
    try:
        return str(check.name)
    except Exception:  # a script's own code
        return type(check).__name__
