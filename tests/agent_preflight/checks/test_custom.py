"""A script's own checks."""

from collections.abc import Callable, Mapping
from typing import Any

from agent_preflight.checks.custom import CustomCheck, custom_jobs, takes_context
from agent_preflight.checks.report import CheckLine
from agent_preflight.checks.schedule import run_in_order
from agent_preflight.health import InfraCheck
from agent_preflight.models import InfraResult
from tests.support.cases import each


def nothing() -> tuple[str, bool | None, str]:
    return "mine", True, "fine"


def one(context: dict[str, Any]) -> tuple[str, bool | None, str]:
    return "ctx", None, str(context["balance"])


def star(*args: Any) -> tuple[str, bool | None, str]:
    return "star", False, f"{len(args)} arguments"


def keyword(*, option: int = 3) -> tuple[str, bool | None, str]:
    return "keyword", True, str(option)


class Checker:
    """A check that is not a function."""

    def __call__(self, context: dict[str, Any]) -> tuple[str, bool | None, str]:
        raise OSError("boom")


def context() -> Mapping[str, Any]:
    return {"balance": 5.0}


def no_context() -> Mapping[str, Any]:
    raise AssertionError("no check has a parameter")


def run_custom(check: CustomCheck, context: Callable[[], Mapping[str, Any]]) -> list[CheckLine]:
    return next(run_in_order(list(custom_jobs([check], None, context))))


def run_infra(check: InfraCheck) -> list[CheckLine]:
    return next(run_in_order(list(custom_jobs(None, [check], no_context))))


def test_a_check_without_a_positional_parameter_is_called_without_the_context() -> None:
    assert run_custom(nothing, no_context) == [CheckLine(ok=True, name="mine", detail="fine")]
    assert run_custom(keyword, no_context) == [CheckLine(ok=True, name="keyword", detail="3")]


def test_a_positional_parameter_takes_the_context() -> None:
    assert run_custom(one, context) == [CheckLine(ok=None, name="ctx", detail="5.0")]
    assert run_custom(star, context) == [
        CheckLine(ok=False, name="star", detail="1 arguments", failure="star: 1 arguments")
    ]


def test_a_builtin_without_a_signature_takes_no_context() -> None:
    assert not takes_context(type)  # type: ignore[arg-type]


def test_a_check_that_raises_fails_with_its_name() -> None:
    (line,) = run_custom(Checker(), context)
    assert line.failure == "Custom check Checker raised: boom"


@each("answer", [None, 3, ("a", True), ("a", True, "b", "c")])
def test_a_result_of_another_form_is_a_failure(answer: Any) -> None:
    (line,) = run_custom(lambda: answer, no_context)
    assert line.ok is False
    assert line.failure.startswith("Custom check <lambda> raised: ")


class Infra(InfraCheck):
    """A check with a fixed result."""

    def __init__(self, result: InfraResult | Exception, name: str | None = "service") -> None:
        self._result = result
        self._name = name

    @property
    def name(self) -> str:
        if self._name is None:
            raise ValueError("no name")
        return self._name

    def check(self) -> InfraResult:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def test_a_pass_has_no_hint() -> None:
    assert run_infra(Infra(InfraResult(ok=True, detail="ok", hint="h"))) == [CheckLine(True, "service", "ok")]


def test_a_warning_has_its_hint_and_no_failure() -> None:
    assert run_infra(Infra(InfraResult(ok=None, detail="hm", hint="h"))) == [CheckLine(None, "service", "hm", "", "h")]


def test_a_failure_carries_its_hint() -> None:
    (line,) = run_infra(Infra(InfraResult(ok=False, detail="bad", hint="do this")))
    assert line == CheckLine(False, "service", "bad", "service: bad -> do this", "do this")
    (bare,) = run_infra(Infra(InfraResult(ok=False, detail="bad")))
    assert bare.failure == "service: bad"


def test_an_infra_check_that_raises_fails_with_its_name() -> None:
    assert run_infra(Infra(RuntimeError("x")))[0].failure == "Infra check service raised: x"
    assert run_infra(Infra(RuntimeError("x"), name=None))[0].failure == "Infra check Infra raised: no name"
