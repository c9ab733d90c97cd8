"""Checks before anything is spent: the account, models, keys, caching, images, services.

All checks that make no key run, whatever fails. The checks that make a test key run last, and only if nothing has failed.
The package's attribute `agent_preflight.preflight` is the function; `importlib.import_module("agent_preflight.preflight")`
gives this module.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import Any

from agent_preflight.base import config
from agent_preflight.base.console import say
from agent_preflight.base.usd import Dollars, float_usd
from agent_preflight.checks import account, bound, caching, custom, images, keys, machine, models, proxy_path, report
from agent_preflight.checks import estimate as estimates
from agent_preflight.checks.custom import CustomCheck
from agent_preflight.checks.inputs import Facts, Inputs, Params, merge_required, unique
from agent_preflight.checks.line import Line, failed, warned
from agent_preflight.checks.schedule import Job, run_in_order
from agent_preflight.health import InfraCheck
from agent_preflight.openrouter.http import check_way
from agent_preflight.openrouter.reachable import UNREACHABLE

__all__ = ["BUILT_IN", "InfraCheck", "PreflightError", "preflight", "run_checks"]

BUILT_IN = {
    "balance": (account.check_balance, "Account balance"),
    "math": (account.check_math, "Provisioning budget"),
    "models": (models.check_models, "Model availability"),
    "estimate": (estimates.check_estimate, estimates.NAME),
    "tool_support": (models.check_tool_support, "Parameter support"),
    "api_key": (keys.check_api_key, keys.OWN),
    "docker_image": (images.check_docker_image, "Docker image"),
    "clock": (machine.check_clock, machine.CLOCK),
    "disk": (machine.check_disk, machine.DISK),
    "docker_socket": (machine.check_docker_socket, machine.SOCKET),
    "key_smoke": (keys.check_key_smoke, keys.NAME),
    "cache_smoke": (caching.check_cache_smoke, caching.NAME),
    "bound_smoke": (bound.check_bound_smoke, bound.NAME),
    "proxy_path": (proxy_path.check_proxy_path, proxy_path.NAME),
}
"""The built-in checks by name, in the order of the report. Each value is the check and its label in the report."""

MAKE_KEYS = ("key_smoke", "cache_smoke", "bound_smoke", "proxy_path")
"""Checks that make a test key and spend a little. They run after all others, a script's own included."""

DEFAULT = ("balance", "math", "models", "estimate", "api_key", "key_smoke", "cache_smoke")
"""The checks that run by default. `tool_support` and `docker_image` are added if there is something to check.

The others run only if they are named: `bound_smoke` makes a call for each endpoint of each model, and `proxy_path` starts a
container and makes one call.
"""

LIMIT_S = 120.0
"""The time of a built-in check, in seconds: two calls of 30 s, the making and deleting of a key, the list of models."""

OWN_LIMIT_S = 300.0
"""The time of a script's own check, in seconds. It may build something."""


class PreflightError(RuntimeError):
    """A check failed. Nothing was started. `str()` gives the number of failures and each failure on a line.

    Args:
        failures: What failed.

    Attributes:
        failures: What failed, one text each.
    """

    def __init__(self, failures: list[str]) -> None:
        self.failures = failures
        listed = "\n  ".join(failures) or "none"
        super().__init__(f"Preflight failed ({len(failures)} issue(s)): {listed}")

    @property
    def below_report(self) -> str:
        """The line to print below a report that lists the failures already."""
        count = len(self.failures)
        return (
            f"Preflight failed: mend the {'problem' if count == 1 else f'{count} problems'} above, then run this again."
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What one preflight does.

    Attributes:
        inputs: The arguments.
        checks: Names of the checks to run.
        custom_checks: A script's own functions.
        infra: Checks of services and the like.
        found: Lines of an earlier check of this machine, which head the report.
    """

    inputs: Inputs
    checks: tuple[str, ...]
    custom_checks: tuple[CustomCheck, ...] = ()
    infra: tuple[InfraCheck, ...] = ()
    found: tuple[Line, ...] = ()


def preflight(
    admin_key: str,
    or_key: str,
    models: Sequence[str],
    budget_per_model: Dollars,
    checks: Sequence[str] | None = None,
    docker_image: str | None = None,
    custom_checks: Sequence[CustomCheck] | None = None,
    required_params: Params | None = None,
    common_required_params: str | Sequence[str] | None = None,
    site_name: str = "agent-preflight",
    raise_on_failure: bool = True,
    infra: Sequence[InfraCheck] | None = None,
    *,
    base_url: str | None = None,
    budgets: Mapping[str, float] | None = None,
    budget_sum: Decimal | None = None,
    expect_tokens: int | None = None,
    byok: bool = False,
    log_fn: Callable[[str], object] = say,
    found: Sequence[Line] = (),
) -> list[str]:
    """Run the checks, print the report, and return the failures.

    The list is empty if all checks passed. Of the checks that run by default, only `key_smoke` and `cache_smoke` spend money: each
    makes one or two calls with a test key that has a small limit, and deletes the key. If a deletion cannot be confirmed, the
    report warns and names the key.

    Source of the requests: openrouter.ai/docs/api-reference, read 2026-10.

    Args:
        admin_key: A management key, which makes the test keys and reads the balance.
        or_key: An inference key.
        models: Model ids. Repetitions count once.
        budget_per_model: Dollars, such as `0.25` or `"$2"`.
        checks: Names of the checks to run, of `BUILT_IN`; `[]` runs none of them. None runs `balance`, `math`, `models`,
            `estimate`, `api_key`, `key_smoke`, `cache_smoke`, and `tool_support` and `docker_image` if there is something to
            check. An unknown name is a warning.
        docker_image: An image that must be on this machine.
        custom_checks: Functions that return `(name, ok, detail)`, with `ok` as in `InfraResult`. One with a positional parameter
            gets a dict of the inputs, the balance and the models. An exception is a failure.
        required_params: Request parameters that a model must support, by model id.
        common_required_params: Request parameters that each of `models` must support.
        site_name: The name in the labels of test keys and in the headers of test calls.
        raise_on_failure: False returns the failures instead of raising.
        infra: Checks of services and the like, see `agent_preflight.health`.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.
        budgets: Dollars by model id, for models whose budget is not `budget_per_model`.
        budget_sum: Dollars of all agents together; the sum over the models if None.
        expect_tokens: Tokens of an agent's first prompt. A budget that does not pay for one such call is a failure. None assumes
            20,000, and then it is a warning.
        byok: True if calls may run on provider keys that your OpenRouter account holds.
        log_fn: Takes each line of the report instead of `print`.
        found: Lines that head the report; their failures count.

    Returns:
        The failures in the order of the report, without repetitions.

    Raises:
        PreflightError: A check failed and `raise_on_failure` is set.
        ConfigError: The budget is no amount, the base URL is no address, or the environment names an HTTP proxy that cannot
            be used. No check ran.
    """
    check_way(base_url)
    required = merge_required(unique(models), required_params, common_required_params)
    inputs = Inputs(
        admin_key,
        or_key,
        unique(models),
        float_usd(budget_per_model, "budget_per_model"),
        docker_image,
        required,
        site_name=site_name,
        base_url=base_url,
        budgets=budgets or {},
        budget_sum=budget_sum,
        expect_tokens=expect_tokens,
        byok=byok,
    )
    plan = Plan(inputs, _names(checks, inputs), tuple(custom_checks or ()), tuple(infra or ()), tuple(found))
    failures = _print_report(run_checks(plan), log_fn)
    if failures and raise_on_failure:
        raise PreflightError(failures)
    return failures


def run_checks(plan: Plan) -> Iterator[Line]:
    """Yield the lines of the report in order while the checks of a plan run, each as soon as it is known.

    Args:
        plan: The inputs, the names of the checks, and a script's own checks.
    """
    has_failed = False
    facts = Facts(plan.inputs)
    for line in (*plan.found, *_unknown_names(plan.checks)):
        has_failed |= line.ok is False
        yield line
    free = [name for name in plan.checks if name not in MAKE_KEYS and not _is_reported(plan, name)]
    free_lines = run_in_order([*_jobs(plan, facts, free), *_own_jobs(plan, facts)])
    for line in _without_repeats(plan.inputs, facts, chain.from_iterable(free_lines)):
        has_failed |= line.ok is False
        yield line
    makers = [name for name in plan.checks if name in MAKE_KEYS]
    if has_failed:
        yield from _not_run([label for name, (_, label) in BUILT_IN.items() if name in makers])
        return
    for lines in run_in_order(list(_jobs(plan, facts, makers))):
        yield from lines


def _not_run(labels: Sequence[str]) -> Iterator[Line]:
    if labels:
        why = "it makes a test key" if len(labels) == 1 else "they make test keys"
        yield warned(", ".join(labels), f"not run: {why}, and something else failed")


def _without_repeats(inputs: Inputs, facts: Facts, lines: Iterable[Line]) -> Iterator[Line]:
    """Drop lines that repeat another one: OpenRouter cannot be reached, or it has no such model."""
    reported = set[str]()
    for line in lines:
        if line.detail == UNREACHABLE:
            trouble = facts.trouble()
            if trouble not in reported:
                yield failed("OpenRouter", trouble.partition(". ")[0], trouble)
            reported.add(trouble)
        elif line.name not in reported:
            yield line
        if line.ok is False:
            reported |= {estimates.name_of(model) for model in inputs.models if models.name_of(model) == line.name}


def _is_reported(plan: Plan, name: str) -> bool:
    """Return whether the earlier check of this machine has reported this failure."""
    if name != "docker_image" or plan.inputs.docker_image is None:
        return False
    return any(line.name == images.image_name(plan.inputs.docker_image) for line in plan.found)


def _names(checks: Sequence[str] | None, inputs: Inputs) -> tuple[str, ...]:
    if checks is not None:
        return (checks,) if isinstance(checks, str) else unique(checks)
    more = [("tool_support", inputs.required), ("docker_image", inputs.docker_image)]
    return (*DEFAULT, *(name for name, wanted in more if wanted))


def _unknown_names(names: Sequence[str]) -> Iterator[Line]:
    for name in names:
        if name not in BUILT_IN:
            yield warned(f"Unknown check '{name}'", f"not run; known are {', '.join(BUILT_IN)}")


def _jobs(plan: Plan, facts: Facts, names: Sequence[str]) -> Iterator[Job]:
    for name, (check, label) in BUILT_IN.items():
        if name in names:
            yield Job(partial(check, plan.inputs, facts), partial(_crashed, label), LIMIT_S, lane=name)


def _own_jobs(plan: Plan, facts: Facts) -> Iterator[Job]:
    """Yield a script's own checks. They run one after another, so that they need not be thread-safe."""
    context = partial(_context, plan, facts)
    for own in plan.custom_checks:
        yield Job(partial(custom.run_custom, own, context), partial(custom.crashed_custom, own), OWN_LIMIT_S, "own")
    for infra in plan.infra:
        yield Job(partial(custom.run_infra, infra), partial(custom.crashed_infra, infra), OWN_LIMIT_S, "own")


def _crashed(label: str, reason: str) -> Line:
    return failed(label, reason, f"{label}: {reason}")


def _context(plan: Plan, facts: Facts) -> Mapping[str, Any]:
    return {
        "admin_key": plan.inputs.admin_key,
        "or_key": plan.inputs.or_key,
        "models": list(plan.inputs.models),
        "budget_per_model": plan.inputs.budget_per_model,
        "checks": sorted(plan.checks),
        "docker_image": plan.inputs.docker_image,
        "site_name": plan.inputs.site_name,
        "required_params": {model: list(params) for model, params in (plan.inputs.required or {}).items()},
        "balance": facts.balance().available,
        "available_models": facts.models(),
    }


def _print_report(lines: Iterator[Line], tell: Callable[[str], object]) -> list[str]:
    for text in report.head():
        tell(text)
    colour = tell is say and sys.stdout.isatty() and not config.variable("NO_COLOR")
    failures, warnings = list[str](), 0
    for line in lines:
        warnings += line.ok is None and not line.is_skipped
        tell(report.line_text(line, colour=colour))
        if line.failure and line.failure not in failures:  # one cause may fail several checks
            failures.append(line.failure)
    for text in report.foot(failures, warnings=warnings):
        tell(text)
    return failures
