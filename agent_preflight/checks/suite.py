"""Runs the checks before a run and prints their report.

All checks that make no test key run, whatever fails. Checks that do not depend on each other run side by side; the report keeps
its order. Checks that make a test key run last, and only if nothing has failed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from agent_preflight.checks import account, machine, models, proxy_path, smoke, token_smoke
from agent_preflight.checks.custom import custom_jobs
from agent_preflight.checks.inputs import OPENROUTER, Facts, Inputs, unique
from agent_preflight.checks.report import CheckLine, failed, print_report, warned
from agent_preflight.checks.schedule import Job, run_in_order
from agent_preflight.openrouter.http import check_way

BUILT_IN: Mapping[str, tuple[Callable[[Inputs, Facts], list[CheckLine]], str]] = {
    "balance": (account.check_balance, account.BALANCE),
    "math": (account.check_math, account.BUDGETS),
    "models": (models.check_models, models.LIST),
    "estimate": (models.check_estimate, models.ESTIMATE),
    "tool_support": (models.check_tool_support, models.PARAMETERS),
    "api_key": (account.check_api_key, account.KEY),
    "docker_image": (machine.check_docker_image, "Docker image"),
    "clock": (machine.check_clock, machine.CLOCK),
    "disk": (machine.check_disk, machine.DISK),
    "docker_socket": (machine.check_docker_socket, machine.SOCKET),
    "key_smoke": (smoke.check_key_smoke, smoke.KEYS),
    "cache_smoke": (smoke.check_cache_smoke, smoke.CACHING),
    "token_smoke": (token_smoke.check_token_smoke, token_smoke.TOKENS),
    "bound_smoke": (smoke.check_bound_smoke, smoke.BOUND),
    "proxy_path": (proxy_path.check_proxy_path, proxy_path.NAME),
}
"""The built-in checks by name, in the order of the report. Each value is the check and its label in the report."""

MAKE_KEYS = ("key_smoke", "cache_smoke", "token_smoke", "bound_smoke", "proxy_path")
"""Checks that make a test key and spend a little. They run after all others, a script's own included."""

DEFAULT = ("balance", "math", "models", "estimate", "api_key", "key_smoke", "cache_smoke", "token_smoke")
"""The checks that run by default. `tool_support` and `docker_image` are added if there is something to check.

The others run only if they are named: `bound_smoke` makes a call for each endpoint of each model, and `proxy_path` starts a
container and makes one call.
"""

CHECK_S_MAX = 120.0
"""The time of a built-in check, in seconds: two calls of 30 s, the making and deleting of a key, the list of models."""


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
        problems = "problem" if len(self.failures) == 1 else f"{len(self.failures)} problems"
        return f"Preflight failed: mend the {problems} above, then run this again."


def check_all(inputs: Inputs, *, found: Sequence[CheckLine] = (), raise_on_failure: bool = True) -> list[str]:
    """Run the checks, print the report, and return what failed: an empty list if all passed.

    Args:
        inputs: What to check.
        found: Findings on this machine from before. They are the first lines of the report, and their failures count.
        raise_on_failure: Raise if something failed.

    Raises:
        PreflightError: Something failed, and ``raise_on_failure`` is set.
        ConfigError: The environment names an HTTP proxy that cannot be used. Nothing was checked.
    """
    failures = print_report(checked_lines(inputs, found), inputs.log_fn)
    if failures and raise_on_failure:
        raise PreflightError(failures)
    return failures


def checked_lines(inputs: Inputs, found: Sequence[CheckLine] = ()) -> Iterator[CheckLine]:
    """Return the lines of `run_checks`, with the errors of `check_all`: nothing is checked if its way is wrong."""
    check_way(inputs.base_url)
    return run_checks(inputs, found)


def run_checks(inputs: Inputs, found: Sequence[CheckLine] = ()) -> Iterator[CheckLine]:
    """Yield the lines of the report in order while the checks run, each as soon as it is known.

    Args:
        inputs: What to check.
        found: Findings on this machine from before. They come first.
    """
    names, facts, has_failed = _names(inputs), Facts(inputs), False
    known = ", ".join(BUILT_IN)
    unknown = [
        warned(f"Unknown check '{name}'", f"not run; known are {known}") for name in names if name not in BUILT_IN
    ]
    makers = [name for name in names if name in MAKE_KEYS]
    has_image = any(line.name == machine.image_name(inputs.docker_image or "") for line in found)
    others = [name for name in names if name not in makers and not (name == "docker_image" and has_image)]
    own = custom_jobs(inputs.custom_checks, inputs.infra, partial(_context, inputs, facts, names))
    results = run_in_order([*_jobs(inputs, facts, others), *own])
    for line in chain(found, unknown, _without_repeats(inputs, chain.from_iterable(results))):
        has_failed |= line.ok is False
        yield line
    if not has_failed:
        yield from chain.from_iterable(run_in_order(list(_jobs(inputs, facts, makers))))
    elif labels := [label for name, (_, label) in BUILT_IN.items() if name in makers]:
        why = "it makes a test key" if len(labels) == 1 else "they make test keys"
        yield warned(", ".join(labels), f"not run: {why}, and something else failed")


def _names(inputs: Inputs) -> tuple[str, ...]:
    """Return the names of the checks to run."""
    if inputs.checks is not None:
        return (inputs.checks,) if isinstance(inputs.checks, str) else unique(inputs.checks)
    more = [("tool_support", inputs.required), ("docker_image", inputs.docker_image)]
    return (*DEFAULT, *(name for name, has_subject in more if has_subject))


def _jobs(inputs: Inputs, facts: Facts, names: Sequence[str]) -> Iterator[Job]:
    for name, (check, label) in BUILT_IN.items():
        if name in names:
            yield Job(partial(check, inputs, facts), partial(failed, label), CHECK_S_MAX, lane=name)


def _without_repeats(inputs: Inputs, lines: Iterable[CheckLine]) -> Iterator[CheckLine]:
    """Yield once that OpenRouter cannot be reached, and leave out the estimate of a model that it does not have."""
    unreachable, estimates = set[CheckLine](), set[str]()
    for line in lines:
        if line not in unreachable and line.name not in estimates:
            yield line
        if line.ok is False:
            unreachable |= {line} if line.name == OPENROUTER else set()
            estimates |= {
                f"{models.ESTIMATE} {model}" for model in inputs.models if line.name == f"{models.MODEL} {model}"
            }


def _context(inputs: Inputs, facts: Facts, names: Sequence[str]) -> Mapping[str, Any]:
    """Return what a script's own check may read."""
    return {
        "admin_key": inputs.admin_key,
        "or_key": inputs.or_key,
        "models": list(inputs.models),
        "budget_per_model": inputs.budget_per_model,
        "checks": sorted(names),
        "docker_image": inputs.docker_image,
        "site_name": inputs.site_name,
        "required_params": {model: list(params) for model, params in inputs.required.items()},
        "balance": facts.balance()[0],
        "available_models": facts.models(),
    }
